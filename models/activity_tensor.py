"""Activity of a retina-VVS as a tensor, decomposed by message passing and by least squares.

A small retina-VVS learns which photograph a patch is from. Drifting gratings with pixel noise are
shown before, along and after training, and the rectified outputs of a layer's centre units make
tensors, trial by trial: units × time in the drift × gratings, and (mean over the drift) units ×
gratings × training steps. Half of the trials, with more and more noise added, are decomposed by
message passing (noise, means and covariances learnt) and by least squares, and foretell the other
half. Units of different seeds are not the same unit, so that seeds are no axis of a tensor here::

    neurofb run models/activity_tensor.py::activity_tensor --out out/activity_tensor
    neurofb analyse analyses/activity_tensor.py out/activity_tensor/result.zarr --out out
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.data import NaturalPatches
from neurofb.measures import (
    grating_activity,
    normalised_activity,
    posterior_agreement,
    split_half_errors,
)
from neurofb.measures.tensor_ranks import message_passing, quietly
from neurofb.networks import RetinaVVSConfig
from neurofb.tensors.problem import geometric_mean
from neurofb.training import Optimiser, TrainingConfig, train

CONDITIONS = ("trained", "untrained", "shuffled", "along training")


def activity_tensor(
    layer: str = "vvs_1",
    num_seeds: int = 5,
    num_steps: int = 500,
    num_snapshots: int = 9,
    num_images: int = 3000,
    num_trials: int = 4,
    num_orientations: int = 12,
    num_times: int = 12,
    pixel_noise: float = 0.3,
    noise_ratios: tuple[float, ...] = (0.0, 10.0, 100.0),
    ranks: tuple[int, ...] = (1, 2, 4, 8),
    shown_rank: int = 3,
    device: str = "cpu",
) -> xr.Dataset:
    """Train, record and decompose: held-out errors of every method, rank, noise and seed.

    Parameters
    ----------
    layer
        Whose centre units are recorded.
    num_seeds
        Networks, each with its own start, order of images and noise.
    num_steps, num_images
        Of training (AdamW, rate 0.001, decay of kernels 0.1).
    num_snapshots
        Moments of training that are recorded, evenly spaced, the start and the end among them.
    num_trials
        Presentations of every grating, at least 3.
    num_orientations, num_times
        Of the gratings (at five frequencies); along training half as many times.
    pixel_noise
        Standard deviation, as in training.
    noise_ratios, ranks
        See `neurofb.measures.split_half_errors`.
    shown_rank
        Rank of the factors that are kept, of the first seed along training.
    device
        Where networks are trained.

    Returns
    -------
    xr.Dataset
        What `split_half_errors` returns over condition and seed; the agreement of posterior
        variances with split halves over noise_ratio and axis (trained); validation accuracy; and
        factors with posterior variances along the first seed's training. Conditions: the trained
        network; the untrained one; the trained one with all entries of the tensor shuffled, alike
        in every trial; and the tensor along training.

    Raises
    ------
    ValueError
        If `noise_ratios` has none, a negative one or one that is not finite.
    """
    wrong = [ratio for ratio in noise_ratios if not 0 <= ratio < np.inf]
    if wrong or not noise_ratios:
        raise ValueError(
            f"noise_ratios={noise_ratios} must be one or more finite numbers from 0 on"
        )
    data = NaturalPatches(num_train=num_images, num_validation=300, num_test=300).load()
    config = RetinaVVSConfig(num_classes=len(data.classes), input_noise=pixel_noise)
    steps = np.unique(np.linspace(0, num_steps, num_snapshots).round().astype(int))
    recorder = _Recorder(layer, num_trials, num_orientations, pixel_noise, config.image_size)
    found, agreements, accuracies = [], [], []
    shown = xr.Dataset()
    for seed in range(num_seeds):
        recorder.seed = seed
        network = config.build(seed)
        untrained = recorder.record(network, num_times)
        result = train(
            network,
            data,
            TrainingConfig(
                num_steps=num_steps,
                optimiser=Optimiser(weight_decay=0.1),
                snapshot_steps=tuple(int(step) for step in steps),
            ),
            seed=seed,
            device=device,
            progress=False,
            snapshot=lambda network, _: (
                recorder.record(network, num_times // 2).mean("drift").to_dataset(name="activity")
            ),
        )
        assert result.snapshots is not None
        trained = normalised_activity(recorder.record(network, num_times))
        along = normalised_activity(result.snapshots["activity"])
        along = along.transpose("trial", "unit", "stimulus", "step")
        tensors = (trained, normalised_activity(untrained), _shuffled(trained, seed), along)
        errors = [
            split_half_errors(each, ranks=ranks, noise_ratios=noise_ratios, seed=seed).assign(
                num_units=labels.variable((), each.sizes["unit"], "1", "units that are active")
            )
            for each in tensors
        ]
        found.append(xr.concat(errors, _dim("condition", CONDITIONS)))
        agreement = [
            posterior_agreement(trained, noise_ratio=ratio, seed=seed) for ratio in noise_ratios
        ]
        agreements.append(xr.concat(agreement, _dim("noise_ratio", noise_ratios)))
        accuracies.append(float(result.history["validation_accuracy"][-1]))
        if seed == 0:
            shown = _factors(along, shown_rank)
    seeds = _dim("seed", range(num_seeds))
    text = "accuracy on validation images after training"
    accuracy = labels.variable("seed", accuracies, "1", text)
    parts: list[Any] = [xr.concat(found, seeds), xr.concat(agreements, seeds), shown]
    every = xr.merge(parts, join="outer", compat="equals")
    about = labels.provenance(title="activity of a retina-VVS as a tensor", references=_PAPERS)
    return every.assign(validation_accuracy=accuracy).assign_attrs(about)


_PAPERS = "arXiv:1810.10065 arXiv:1901.00945"


@dataclass
class _Recorder:
    """How a network is recorded."""

    layer: str
    num_trials: int
    num_orientations: int
    noise: float
    image_size: int
    seed: int = 0

    def record(self, network: nn.Module, num_times: int) -> xr.DataArray:
        """Return activity (trial, unit, drift, stimulus)."""
        with torch.no_grad():
            return grating_activity(
                network,
                self.layer,
                input_shape=(1, self.image_size, self.image_size),
                num_orientations=self.num_orientations,
                num_times=num_times,
                noise=self.noise,
                num_trials=self.num_trials,
                seed=self.seed,
            )["activity"]


def _shuffled(activity: xr.DataArray, seed: int) -> xr.DataArray:
    """Return a tensor with all its entries in another order, the same in every trial."""
    values = activity.values.reshape(len(activity), -1)
    order = np.random.default_rng((seed, 1)).permutation(values.shape[1])
    return activity.copy(data=values[:, order].reshape(activity.shape))


def _factors(along: xr.DataArray, rank: int) -> xr.Dataset:
    """Return factors along training with posterior variances: activity = their products' sum.

    Factors of units and gratings have mean square 1 and a positive mean; those of the steps carry
    the size, and put components in order.
    """
    mean = along.mean("trial")
    scale = float((mean**2).mean() * geometric_mean(mean.shape) ** (mean.ndim - 1)) ** 0.5
    found = quietly(message_passing, mean / scale, rank, 0).to_dataset()
    size = found["scale"] * scale
    for dim in ("unit", "stimulus"):
        factor = found[f"{dim}_factor"]
        own = np.sign(factor.mean(dim)) * (factor**2).mean(dim) ** 0.5
        found[f"{dim}_factor"] = (factor / own).assign_attrs(factor.attrs)
        variance = found[f"{dim}_variance"]
        found[f"{dim}_variance"] = (variance / own**2).assign_attrs(variance.attrs)
        size = size * own
    for name, by in (("step_factor", size), ("step_variance", size**2)):
        found[name] = (found[name] * by).assign_attrs(found[name].attrs)
    order = np.argsort(-(found["step_factor"] ** 2).mean("step").values)
    names = [f"{dim}_{what}" for dim in mean.dims for what in ("factor", "variance")]
    found = found[names].isel(component=order)
    coords = {name: mean.coords[name] for name in ("orientation", "frequency")}
    component = labels.coordinate("component", np.arange(rank))
    return found.drop_attrs(deep=False).assign_coords(component=component, **coords)


def _dim(name: str, values: Sequence[Any]) -> xr.DataArray:
    """Return the coordinate along which datasets are put side by side."""
    return xr.DataArray(labels.coordinate(name, list(values)), name=name)
