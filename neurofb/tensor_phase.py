"""Phase diagram of low-rank tensors: easy, hard and impossible over noise, prior mean and shape."""

import json
from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.tensors import GaussianPrior
from neurofb.theory import StateEvolution, Thresholds
from neurofb.theory.tensor_state_evolution import Start

#: what the codes of `phase` mean, from 0
PHASES = ("easy", "hard", "impossible", "smooth")
_STARTS: dict[Start, str] = {"prior": "the prior", "truth": "the truth"}
_THRESHOLDS = {
    "algorithmic": "noise variance below which message passing finds the truth",
    "information": "noise variance above which there is nothing to find",
    "spinodal": "noise variance up to which the fixed point near the truth exists",
}


def phase_diagram(
    prior_means: Sequence[float | int],
    noise_variances: Sequence[float | int],
    shape_ratios: Sequence[float | int] = (1.0,),
    *,
    pattern: Sequence[float | int] = (1, 1, 1),
    variance: float | int = 1.0,
) -> xr.Dataset:
    """Return state evolution's phases of rank one with Gaussian priors.

    Parameters
    ----------
    prior_means
        Means of the factors' entries.
    noise_variances
        Noise variances Δ of the tensor's entries.
    shape_ratios
        First side over the geometric mean of all sides; the others share the rest evenly.
    pattern
        What each axis' mean is multiplied by; its length is the tensor's order. (0, 1, 1): the
        first axis has mean zero.
    variance
        Of the factors' entries.

    Returns
    -------
    xr.Dataset
        Over (shape_ratio, prior_mean, noise_variance): `overlap_prior` and `overlap_truth` (also
        axis), the fixed points from both starts; `error_prior` and `error_truth`, the tensor's
        mean squared error over its mean square; `free_entropy_gap`, truth less prior; `phase`, a
        code of `PHASES` (attributes `flag_values`, `flag_meanings`): smooth where nothing is
        bistable at any noise and nothing is lost at once. Over (shape_ratio, prior_mean):
        `algorithmic`, `information`, `spinodal` (NaN without bistability), and `hard_width`, the
        noise between the first two, 0 without.

    Raises
    ------
    ValueError
        If a list is empty, a ratio, noise or variance not positive, or the pattern shorter than 2.

    Examples
    --------
    >>> phases = phase_diagram([0.2], [0.1, 0.2, 0.28, 0.4])
    >>> phases.phase.values.ravel()
    array([0, 1, 2, 2], dtype=int8)
    >>> phases.hard_width.item().__round__(4)
    0.123
    """
    axes = {
        "shape_ratio": shape_ratios,
        "prior_mean": prior_means,
        "noise_variance": noise_variances,
    }
    for name, values in axes.items():
        if len(values) == 0 or not np.all(np.isfinite(np.asarray(values, dtype=float))):
            raise ValueError(f"{name}s={list(values)} must be one or more finite numbers")
    if len(pattern) < 2 or not np.all(np.isfinite(np.asarray(pattern, dtype=float))):
        raise ValueError(f"pattern={list(pattern)} must have an entry for each of 2 or more axes")
    if not 0 < variance < np.inf:
        raise ValueError(f"variance={variance} must be positive and finite")
    noises = np.asarray(noise_variances, dtype=float)
    found = [
        _cell(float(ratio), float(mean), noises, pattern, float(variance))
        for ratio, mean in product(shape_ratios, prior_means)
    ]
    lengths = len(shape_ratios), len(prior_means)

    def gathered(name: str) -> np.ndarray:
        values = np.stack([cell[name] for cell in found])
        return values.reshape(*lengths, *values.shape[1:])

    dims = tuple(axes)
    dataset = xr.Dataset(
        coords={name: labels.coordinate(name, values) for name, values in axes.items()}
        | {"axis": labels.coordinate("axis", np.arange(len(pattern)))},
        attrs=labels.provenance(
            title="Phases of a low-rank tensor by state evolution",
            config=json.dumps({"pattern": list(pattern), "variance": variance}),
            references="arXiv:1810.10065",
        ),
    )
    for start, text in _STARTS.items():
        dataset[f"overlap_{start}"] = labels.variable(
            (*dims, "axis"),
            gathered(f"overlap_{start}"),
            "1",
            f"overlap with the truth from {text}",
        )
        dataset[f"error_{start}"] = labels.variable(
            dims, gathered(f"error_{start}"), "1", f"normalised error of the tensor from {text}"
        )
    dataset["free_entropy_gap"] = labels.variable(
        dims, gathered("gap"), "nat", "free entropy per side, truth less prior"
    )
    dataset["phase"] = labels.variable(
        dims,
        gathered("phase").astype(np.int8),
        "1",
        "phase",
        flag_values=" ".join(map(str, range(len(PHASES)))),
        flag_meanings=" ".join(PHASES),
    )
    for name, text in _THRESHOLDS.items():
        dataset[name] = labels.variable(dims[:2], gathered(name), "1", text)
    width = np.nan_to_num(gathered("information") - gathered("algorithmic"))
    dataset["hard_width"] = labels.variable(
        dims[:2], width, "1", "width of the hard phase in noise variance"
    )
    return dataset


def _cell(
    ratio: float, mean: float, noises: np.ndarray, pattern: Sequence[float | int], variance: float
) -> dict[str, np.ndarray]:
    """Return everything of one shape and prior mean."""
    if not 0 < ratio < np.inf:
        raise ValueError(f"shape_ratio={ratio} must be positive and finite")
    others = len(pattern) - 1
    priors = [GaussianPrior(mean=mean * float(factor), covariance=variance) for factor in pattern]
    theory = StateEvolution(priors, ratios=(ratio, *[ratio ** (-1 / others)] * others))
    limits = theory.thresholds()
    cell = {name: np.asarray(value) for name, value in limits._asdict().items()}
    entropies = {}
    for start in _STARTS:
        overlaps = theory.fixed_point(noises, start)
        entropies[start] = theory.free_entropy(noises, overlaps)
        cell[f"overlap_{start}"] = overlaps[..., 0, 0]
        cell[f"error_{start}"] = theory.tensor_error(overlaps)
    cell["gap"] = entropies["truth"] - entropies["prior"]
    cell["phase"] = _phase(noises, limits, theory.curve.noise_at_no_signal)
    return cell


def _phase(noises: np.ndarray, limits: Thresholds, noise_at_no_signal: float) -> np.ndarray:
    """Return the code of each noise's phase."""
    if np.isnan(limits.information):
        if np.isinf(noise_at_no_signal):
            return np.full(noises.shape, PHASES.index("smooth"))
        return np.where(noises < noise_at_no_signal, 0, PHASES.index("impossible"))
    return (noises >= limits.algorithmic).astype(int) + (noises >= limits.information)
