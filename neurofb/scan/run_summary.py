"""What a scan keeps of a run where no analysis says otherwise: numbers and curves, no fields."""

import xarray as xr


def summary(run: xr.DataTree) -> xr.Dataset:
    """Return test accuracy and loss, size, and the curves of training.

    Parameters
    ----------
    run
        What `neurofb.run.run` returns.

    Returns
    -------
    xr.Dataset
        test_loss, test_accuracy, num_parameters; loss and accuracy (step); validation_loss,
        validation_accuracy and step_at_epoch (epoch), where the run has them.

    Examples
    --------
    >>> tree = {"/": xr.Dataset({"test_loss": 0.1}),
    ...         "/training": xr.Dataset({"loss": ("step", [2.0, 1.0]), "batch_checksum": 3})}
    >>> sorted(summary(xr.DataTree.from_dict(tree)))
    ['loss', 'test_loss']
    """
    curves = ("loss", "accuracy", "validation_loss", "validation_accuracy", "step_at_epoch")
    training = run.children["training"].to_dataset(inherit=False)
    found = {name: training[name] for name in curves if name in training}
    return run.to_dataset(inherit=False).assign(found).drop_attrs(deep=False)
