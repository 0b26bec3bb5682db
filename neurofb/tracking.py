"""What is measured while a network trains: receptive fields, alignment with backpropagation."""

import dataclasses
from collections.abc import Callable

import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.config import RunConfig
from neurofb.data import ImageSplits
from neurofb.fields import map_layer
from neurofb.measures import alignment
from neurofb.training import TrainingConfig
from neurofb.training.order import num_batches

_ALIGNMENT = "alignment/"


def tracked_training(config: RunConfig) -> TrainingConfig:
    """Return a run's training settings, with the steps at which alignment is measured filled in.

    Examples
    --------
    >>> from neurofb.config import Measurement
    >>> config = RunConfig(name="test", measurement=Measurement(alignment_images=64))
    >>> tracked_training(config).snapshot_steps
    (0, 1500)
    """
    training = config.training
    if config.measurement.alignment_images and not training.snapshot_steps:
        return dataclasses.replace(training, snapshot_steps=(0, training.num_steps))
    return training


def tracker(config: RunConfig, data: ImageSplits) -> Callable[[nn.Module], xr.Dataset] | None:
    """Return the function that training calls at `TrainingConfig.snapshot_steps`, if any.

    It maps the first of the layers (where the run names steps itself), and measures alignment on
    the first training images.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> tracker(config, config.data.load()) is None  # doctest: +SKIP
    True
    """
    measure = config.measurement
    layer = measure.layers[0] if measure.layers and config.training.snapshot_steps else None
    if layer is None and not measure.alignment_images:
        return None
    images = data.train.images[: measure.alignment_images]
    classes = data.train.labels[: measure.alignment_images]

    def look(network: nn.Module) -> xr.Dataset:
        parts: list[xr.Dataset] = []
        if layer is not None:
            parts.append(map_layer(network, layer, measure, data, config.seed))
        if measure.alignment_images:
            device = next(network.parameters()).device
            aligned = alignment(network, images.to(device), classes.to(device))
            parts.append(aligned.rename({name: f"{_ALIGNMENT}{name}" for name in aligned}))
        return xr.merge(parts, combine_attrs="override")

    return look


def unpack(
    snapshots: xr.Dataset | None, config: RunConfig, data: ImageSplits
) -> dict[str, xr.Dataset]:
    """Return what the tracker has measured, by path in the run's tree.

    Returns
    -------
    dict
        ``/snapshots`` (step, unit, …), the receptive fields; ``/alignment`` (epoch, layer), with
        the number of updates as the coordinate ``step``.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> unpack(None, config, config.data.load())  # doctest: +SKIP
    {}
    """
    if snapshots is None:
        return {}
    names = [str(name) for name in snapshots if str(name).startswith(_ALIGNMENT)]
    tree = {}
    if len(names) < len(snapshots):
        tree["/snapshots"] = snapshots.drop_vars(names).drop_dims("layer", errors="ignore")
    if names:
        steps_per_epoch = num_batches(data.train.num_images, config.training.batch_size)
        epochs = labels.coordinate("epoch", snapshots["step"].values / steps_per_epoch)
        aligned = snapshots[names].rename({name: name.removeprefix(_ALIGNMENT) for name in names})
        aligned = aligned.assign_coords(epoch=("step", epochs.values, epochs.attrs))
        tree["/alignment"] = aligned.swap_dims(step="epoch")
    return tree
