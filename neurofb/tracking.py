"""What is measured while a network trains: receptive fields, alignment, ranks, factors, curl."""

import dataclasses
from collections.abc import Callable

import torch
import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.config import Measurement, RunConfig
from neurofb.data import ImageSplits
from neurofb.fields import map_layer
from neurofb.measures import alignment, error_rank, factor_state, rule_curl
from neurofb.networks.factorised import factored_layers
from neurofb.training import TrainingConfig
from neurofb.training.order import num_batches

#: what is followed over epochs (and layers), each in a child of this name of a run's tree
FOLLOWED = ("alignment", "error_rank", "factors", "curl")
#: measurement setting that asks for it, and says on how many images
_IMAGES = {
    "alignment": "alignment_images",
    "error_rank": "rank_images",
    "curl": "curl_images",
}


def tracked_training(config: RunConfig) -> TrainingConfig:
    """Return a run's training settings, with the steps at which it is measured filled in.

    Examples
    --------
    >>> from neurofb.config import Measurement
    >>> config = RunConfig(name="test", measurement=Measurement(alignment_images=64))
    >>> tracked_training(config).snapshot_steps
    (0, 1500)
    """
    training, measure = config.training, config.measurement
    if any(_num_images(measure).values()) and not training.snapshot_steps:
        return dataclasses.replace(training, snapshot_steps=(0, training.num_steps))
    return training


def tracker(
    config: RunConfig, data: ImageSplits
) -> Callable[[nn.Module, torch.optim.Optimizer], xr.Dataset] | None:
    """Return the function that training calls at `TrainingConfig.snapshot_steps`, if any.

    It maps the first of the layers (where the run names steps itself), measures alignment, ranks
    and curl on the first training images, and the state of the factors of layers that have them.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> tracker(config, config.data.load()) is None  # doctest: +SKIP
    True
    """
    measure = config.measurement
    layer = measure.layers[0] if measure.layers and config.training.snapshot_steps else None
    num_images = _num_images(measure)
    if layer is None and not any(num_images.values()):
        return None
    train = data.train

    def look(network: nn.Module, optimiser: torch.optim.Optimizer) -> xr.Dataset:
        device = next(network.parameters()).device
        images = train.images[: max(num_images.values())].to(device)
        classes = train.labels[: len(images)].to(device)
        followed: dict[str, xr.Dataset] = {}
        if n := measure.alignment_images:
            followed["alignment"] = alignment(network, images[:n], classes[:n])
        if n := measure.rank_images:
            found = error_rank(network, images[:n], classes[:n], optimiser=optimiser)
            followed["error_rank"] = found
        if n := measure.curl_images:
            probes, flips = measure.curl_probes, config.training.flips
            found = rule_curl(network, images[:n], classes[:n], num_probes=probes, flips=flips)
            followed["curl"] = found
        if factored_layers(network):
            followed["factors"] = factor_state(network)
        parts = [
            dataset.rename({str(v): f"{name}/{v}" for v in dataset.variables})
            for name, dataset in followed.items()
        ]
        if layer is not None:
            parts.insert(0, map_layer(network, layer, measure, data, config.seed))
        return xr.merge(parts, combine_attrs="override")

    return look


def unpack(
    snapshots: xr.Dataset | None, config: RunConfig, data: ImageSplits
) -> dict[str, xr.Dataset]:
    """Return what the tracker has measured, by path in the run's tree.

    Returns
    -------
    dict
        ``/snapshots`` (step, unit, …), the receptive fields; ``/alignment``, ``/error_rank`` and
        ``/factors`` (epoch, layer, …), ``/curl`` (epoch), with the number of updates as the
        coordinate ``step``.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> unpack(None, config, config.data.load())  # doctest: +SKIP
    {}
    """
    if snapshots is None:
        return {}
    steps_per_epoch = num_batches(data.train.num_images, config.training.batch_size)
    epochs = labels.coordinate("epoch", snapshots["step"].values / steps_per_epoch)
    num_images = _num_images(config.measurement)
    tree, rest = {}, snapshots
    for name in FOLLOWED:
        prefix = f"{name}/"
        own = [str(v) for v in snapshots.variables if str(v).startswith(prefix)]
        if not own:
            continue
        rest = rest.drop_vars(own)
        part = snapshots[[v for v in own if v in snapshots.data_vars]]
        part = part.rename({v: v.removeprefix(prefix) for v in own})
        part = part.assign_coords(epoch=("step", epochs.values, epochs.attrs))
        part.attrs = {"title": name.replace("_", " ")}
        if name in num_images:
            part.attrs["num_images"] = num_images[name]
        tree[f"/{name}"] = part.swap_dims(step="epoch")
    return {"/snapshots": rest, **tree} if rest.data_vars else tree


def _num_images(measure: Measurement) -> dict[str, int]:
    """Return on how many images each measure is followed."""
    return {name: getattr(measure, setting) for name, setting in _IMAGES.items()}
