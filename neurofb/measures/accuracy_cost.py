"""What an accuracy costs: steps and operations until a run first reaches it."""

import numpy as np
import xarray as xr

_NEEDED = ("validation_accuracy", "step_at_epoch")
_ROUNDING = 1e-9  # far below one image


def compute_to_accuracy(
    history: xr.Dataset,
    flops_per_step: int | float | xr.DataArray,
    fraction: float = 0.9,
    *,
    target: float | xr.DataArray | None = None,
) -> xr.Dataset:
    """Find the first validation that reaches an accuracy, and what was computed until then.

    By default the accuracy is 90 % of the run's own last one, the definition of Hanut & Kadmon
    (2025, arXiv:2502.20580). Its weakness: each run has its own goal, so a run that ends poorly
    reaches it early and looks cheap. To compare rules give all of them one `target`, such as 90 %
    of what backpropagation reaches.

    Parameters
    ----------
    history
        `validation_accuracy` and `step_at_epoch` (updates done) over ``epoch`` and any other dims,
        such as ``condition`` and ``seed``; in order of the steps.
    flops_per_step
        Operations of one update, all phases and the optimiser; one number, or one for each entry of
        other dims (`neurofb.measures.compute_cost`).
    fraction
        Of the last accuracy that is not NaN, above 0 and at most 1. Not used with `target`.
    target
        Accuracy to reach, 0 to 1; one number, or one for each entry of other dims.

    Returns
    -------
    xr.Dataset
        Without ``epoch``: ``target_accuracy``, ``last_accuracy``, and of the first validation at or
        above the target ``accuracy_reached``, ``epoch_reached``, ``step_reached`` and
        ``flops_reached``, which are NaN for a run that never gets there or has no accuracy. A run
        is looked at after each epoch only, so a step is known to the length of one.

    Raises
    ------
    ValueError
        If a variable is missing, or `fraction`, `target` or `flops_per_step` is out of its range.

    Examples
    --------
    >>> history = xr.Dataset(
    ...     {
    ...         "validation_accuracy": ("epoch", [0.1, 0.7, 0.75, 0.8]),
    ...         "step_at_epoch": ("epoch", [0, 100, 200, 300]),
    ...     },
    ...     coords={"epoch": [0, 1, 2, 3]},
    ... )
    >>> answer = compute_to_accuracy(history, 2e9)
    >>> float(answer.step_reached), float(answer.flops_reached)
    (200.0, 400000000000.0)
    >>> float(compute_to_accuracy(history, 2e9, target=0.7).step_reached)
    100.0
    """
    missing = [name for name in _NEEDED if name not in history]
    if missing or "epoch" not in history["validation_accuracy"].dims:
        raise ValueError(
            f"history needs validation_accuracy and step_at_epoch over epoch; "
            f"{', '.join(missing) or 'the dim epoch'} is missing"
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction} must be above 0 and at most 1")
    flops = xr.DataArray(flops_per_step)
    if not bool(((flops > 0) & np.isfinite(flops)).all()):
        raise ValueError(f"flops_per_step={flops.values.tolist()} must be above 0 and finite")
    accuracy, step = history["validation_accuracy"], history["step_at_epoch"].astype(float)
    last = _at(accuracy, _last(accuracy.notnull()))
    goal = fraction * last if target is None else xr.DataArray(target)
    if bool(((goal < 0) | (goal > 1)).any()):
        raise ValueError(f"target={goal.values.tolist()} must be an accuracy, 0 to 1")
    first = _first(accuracy >= goal - _ROUNDING)
    epoch = xr.DataArray(history["epoch"].values.astype(float), dims="epoch")
    step_reached = _at(step, first)
    found = {
        "target_accuracy": (goal, "1", "accuracy to be reached"),
        "last_accuracy": (last, "1", "validation accuracy at the end"),
        "accuracy_reached": (_at(accuracy, first), "1", "first accuracy at or above the target"),
        "epoch_reached": (_at(epoch, first), "1", "epochs until the target is reached"),
        "step_reached": (step_reached, "1", "updates until the target is reached"),
        "flops_reached": (step_reached * flops, "1", "operations until the target is reached"),
    }
    return xr.Dataset(
        {
            name: values.reset_coords(drop=True).assign_attrs(units=units, long_name=long_name)
            for name, (values, units, long_name) in found.items()
        }
    )


def _first(true: xr.DataArray) -> xr.DataArray:
    """Return the position of the first true epoch, or −1."""
    return xr.where(true.any("epoch"), true.argmax("epoch"), -1)


def _last(true: xr.DataArray) -> xr.DataArray:
    """Return the position of the last true epoch, or −1."""
    backwards = _first(true.isel(epoch=slice(None, None, -1)))
    return xr.where(backwards < 0, -1, true.sizes["epoch"] - 1 - backwards)


def _at(values: xr.DataArray, position: xr.DataArray) -> xr.DataArray:
    """Return the values at the positions, NaN where there is none (−1)."""
    number = xr.DataArray(np.arange(values.sizes["epoch"]), dims="epoch")
    return values.where(number == position).max("epoch")
