"""How well decompositions of half of the trials foretell the other half, rank by rank."""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from neurofb import labels
from neurofb.tensors import GaussianPrior, TensorALS, TensorAMP
from neurofb.tensors.problem import geometric_mean

#: relative change of the factors at which sweeps end, and most of them
TOLERANCE, MAX_SWEEPS = 1e-4, 200

Fit = Callable[[Any, int, int], TensorAMP | TensorALS]


def message_passing(tensor: np.ndarray | xr.DataArray, rank: int, seed: int) -> TensorAMP:
    """Decompose by message passing that learns the noise and the priors' means and covariances.

    Priors are normal on every axis; it starts from a draw of means 0.3 and variances 1.

    Examples
    --------
    >>> found = message_passing(np.ones((4, 5, 6)) / 5, rank=1, seed=0)
    >>> [tuple(factor.shape) for factor in found.factors_]
    [(4, 1), (5, 1), (6, 1)]
    """
    return TensorAMP(
        rank,
        priors=GaussianPrior(mean=0.3, covariance=1.0),
        learn=("noise_variance", "mean", "covariance"),
        start_noise=1.0,
        max_sweeps=MAX_SWEEPS,
        tolerance=TOLERANCE,
        seed=seed,
    ).fit(tensor)


def _least_squares(start: str) -> Fit:
    return lambda tensor, rank, seed: TensorALS(
        rank, start=start, max_sweeps=MAX_SWEEPS, tolerance=TOLERANCE, seed=seed
    ).fit(tensor)


#: method -> function of tensor, rank and seed
METHODS: Mapping[str, Fit] = {
    "AMP": message_passing,
    "ALS, random start": _least_squares("random"),
    "ALS, SVD start": _least_squares("svd"),
}


def split_half_errors(
    activity: xr.DataArray,
    *,
    ranks: Sequence[int] = (1, 2, 4, 8),
    noise_ratios: Sequence[float | int] = (0, 10, 100),
    seed: int = 0,
    methods: Mapping[str, Fit] = METHODS,
) -> xr.Dataset:
    """Decompose the mean of the first half of the trials, and foretell that of the second half.

    Independent normal noise is added to every trial of the first half, none to the second. Errors
    are squared distances to the mean of the second half, less the noise of that mean (from the
    variance over its trials), over the signal's mean square (the mean product of the two halves):
    0 is perfect, 1 is what zeros get.

    Parameters
    ----------
    activity
        Dim `trial` (at least 3) and two axes or more, scaled as it is to be decomposed
        (`normalised_activity`).
    ranks
        Numbers of components.
    noise_ratios
        Variance of the added noise of a trial, over the mean square of the activity.
    seed
        Of the added noise and of the starts.
    methods
        Name -> function of a tensor (mean square 1/N^(p-1) or so), a rank and a seed, that returns
        something with `factors_`, `num_sweeps_`, `converged_` and `reconstruction()`.

    Returns
    -------
    xr.Dataset
        Over ``algorithm``, ``noise_ratio`` and ``rank``: ``held_out_error``, ``fitted_error`` (over
        the mean square of what was fitted), ``num_sweeps``, ``converged``; over ``noise_ratio``
        ``error_of_mean``, of the grand mean in every entry, and ``noise_variance``, Δ of the
        normalised problem of rank one (noise of the mean, in units of signal/N^(p-1)).

    Raises
    ------
    ValueError
        If there are fewer than three trials, or no signal that the halves share.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.einsum("i,j,k->ijk", *rng.random((3, 6)))
    >>> trials = signal + 0.01 * rng.standard_normal((4, 6, 6, 6))
    >>> activity = xr.DataArray(trials, dims=("trial", "unit", "drift", "stimulus"))
    >>> found = split_half_errors(activity, ranks=(1,), noise_ratios=(0,))
    >>> bool((found.held_out_error < 1e-3).all())
    True
    """
    values = activity.transpose("trial", ...).values.astype(float)
    if len(values) < 3:
        raise ValueError(f"activity has {len(values)} trials; 3 are needed, 2 of them held out")
    fitted, held_out = values[: len(values) // 2], values[len(values) // 2 :]
    target = held_out.mean(0)
    signal = float(np.mean(fitted.mean(0) * target))
    if not signal > 0:
        raise ValueError(f"activity: the halves share no signal (mean product {signal:.3g})")
    rest = float(held_out.var(0, ddof=1).mean()) / len(held_out)
    size = geometric_mean(target.shape) ** (target.ndim - 1)
    scale = float(np.sqrt(signal * size))  # entries of the signal are then of order N^(-(p-1)/2)
    shape = (len(methods), len(noise_ratios), len(ranks))
    found = {name: np.full(shape, np.nan) for name in _TEXTS}
    means, deltas = np.empty((2, len(noise_ratios)))
    for j, ratio in enumerate(noise_ratios):
        generator = np.random.default_rng((seed, j))
        added = generator.standard_normal(fitted.shape) * np.sqrt(ratio * np.mean(values**2))
        half = (fitted + added).mean(0)
        means[j] = (np.mean((half.mean() - target) ** 2) - rest) / signal
        noise = added.var() / len(fitted) + rest * len(held_out) / len(fitted)
        deltas[j] = noise / signal / size
        for (i, fit), (k, rank) in itertools.product(enumerate(methods.values()), enumerate(ranks)):
            one = quietly(fit, half / scale, rank, seed)
            signal_found = _numbers(one.reconstruction()) * scale
            found["held_out_error"][i, j, k] = (
                np.mean((signal_found - target) ** 2) - rest
            ) / signal
            found["fitted_error"][i, j, k] = np.mean((signal_found - half) ** 2) / np.mean(half**2)
            found["num_sweeps"][i, j, k] = one.num_sweeps_
            found["converged"][i, j, k] = one.converged_
    dims = ("algorithm", "noise_ratio", "rank")
    data = {name: labels.variable(dims, found[name], "1", text) for name, text in _TEXTS.items()}
    data["error_of_mean"] = labels.variable(
        "noise_ratio", means, "1", "error of the grand mean, held-out trials"
    )
    data["noise_variance"] = labels.variable(
        "noise_ratio", deltas, "1", "noise over signal of what is fitted, over N^(p-1)"
    )
    coords = zip(dims, (list(methods), list(noise_ratios), list(ranks)), strict=True)
    return xr.Dataset(
        data,
        {
            dim: labels.variable(dim, value, "1", "components")
            if dim == "rank"
            else labels.coordinate(dim, value)
            for dim, value in coords
        },
    )


def posterior_agreement(
    activity: xr.DataArray, *, noise_ratio: float | int = 10, seed: int = 0
) -> xr.Dataset:
    """Compare posterior variances with how far the factors of two halves of the trials lie apart.

    Both halves are decomposed by message passing at rank one, with added noise of their own.

    Parameters
    ----------
    activity, noise_ratio, seed
        As in `split_half_errors`, at least 2 trials.

    Returns
    -------
    xr.Dataset
        Over ``axis``: ``difference``, the root mean square of the difference of the two factors
        (each of mean square one), and ``predicted_difference``, from the two posterior variances.
        They agree where the noise is as assumed; what both halves share, misfit of the model and
        the pull of the prior, is in the variances but not in the difference.

    Raises
    ------
    ValueError
        If there are fewer than two trials.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.einsum("i,j,k->ijk", *rng.standard_normal((3, 30)))
    >>> trials = np.stack([signal, signal])
    >>> activity = xr.DataArray(trials, dims=("trial", "unit", "drift", "stimulus"))
    >>> found = posterior_agreement(activity, noise_ratio=10)
    >>> bool((abs(found.difference / found.predicted_difference - 1) < 0.3).all())
    True
    """
    values = activity.transpose("trial", ...).values.astype(float)
    if len(values) < 2:
        raise ValueError(f"activity has {len(values)} trials; 2 are needed, one for each half")
    size = geometric_mean(values.shape[1:]) ** (values.ndim - 2)
    generator = np.random.default_rng((seed, len(values)))
    noisy = values + generator.standard_normal(values.shape) * np.sqrt(
        noise_ratio * np.mean(values**2)
    )
    scale = np.sqrt(np.mean(values**2) * size)
    halves = noisy[: len(values) // 2], noisy[len(values) // 2 :]
    fits = [quietly(message_passing, half.mean(0) / scale, 1, seed) for half in halves]
    differences, predictions = [], []
    for axis in range(values.ndim - 1):
        factors = [_numbers(fit.factors_[axis])[:, 0] for fit in fits]
        sizes = [np.mean(factor**2) ** 0.5 for factor in factors]
        factors = [factor / each for factor, each in zip(factors, sizes, strict=True)]
        sign = np.sign(factors[0] @ factors[1])
        differences.append(np.mean((factors[0] - sign * factors[1]) ** 2) ** 0.5)
        variances = [float(fit.covariances_[axis].mean()) for fit in fits]
        both = sum(v / each**2 for v, each in zip(variances, sizes, strict=True))
        predictions.append(both**0.5)
    texts = ("difference of the halves' factors", "difference by the posterior variances")
    return xr.Dataset(
        {
            "difference": labels.variable("axis", differences, "1", texts[0]),
            "predicted_difference": labels.variable("axis", predictions, "1", texts[1]),
        },
        {"axis": labels.coordinate("axis", np.arange(len(differences)))},
    )


def normalised_activity(activity: xr.DataArray, *, least: float | int = 0.01) -> xr.DataArray:
    """Leave out silent units, and give every other a mean square of 1 over all trials.

    Without it the few most active units make up most of a tensor's squares.

    Parameters
    ----------
    activity
        Dims `unit` and others.
    least
        Units with a smaller root mean square, over that of the most active, are silent.

    Raises
    ------
    ValueError
        If all are silent.

    Examples
    --------
    >>> activity = xr.DataArray([[2.0, 2.0], [0.0, 0.0]], dims=("unit", "drift"))
    >>> normalised_activity(activity).values
    array([[1., 1.]])
    """
    others = [dim for dim in activity.dims if dim != "unit"]
    size = (activity**2).mean(others) ** 0.5
    if not float(size.max()) > 0:
        raise ValueError("activity: all units are silent")
    active = size > least * size.max()
    return (activity / size).isel(unit=active.values).transpose(*activity.dims)


_TEXTS = {
    "held_out_error": "error on held-out trials, over the signal",
    "fitted_error": "error on fitted trials, over their mean square",
    "num_sweeps": "sweeps",
    "converged": "whether sweeps converged",
}


def quietly(fit: Fit, tensor: np.ndarray | xr.DataArray, rank: int, seed: int) -> Any:
    """Decompose without a word on convergence, which is in what is returned.

    Examples
    --------
    >>> quietly(message_passing, np.ones((4, 5, 6)) / 5, rank=1, seed=0).rank
    1
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(message|least).*verge", category=RuntimeWarning)
        return fit(tensor, rank, seed)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
