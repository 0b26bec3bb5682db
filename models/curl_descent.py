r"""Curl descent (arXiv:2510.02765): some synapses learn with the wrong sign, and most do no harm.

Only the paper's abstract and its authors' code were readable; the theory is our derivation
(docs/curl_descent.md). "Hidden" flips are those of D1, a fraction of the M *inputs*, "readout"
flips those of D2, a fraction of the N *hidden neurons*. The studies of the page::

    neurofb scan models/curl_descent.py::phase_hidden --workers 2 --store scans/curl_hidden.zarr \
        --over ratio=0.15,0.2,0.25,0.28,0.31,0.34,0.37,0.4,0.45,0.5,0.55,0.6,0.7,0.8
    neurofb scan models/curl_descent.py::phase_readout --workers 2 --store scans/curl_readout.zarr \
        --over ratio=0.05,0.1,0.15,0.2,0.3,0.4,0.6,0.8,1.0,1.5,2.0,4.0
    neurofb run models/curl_descent.py::loss_curves --out out/curl_losses

and `phase` and `loss_curves` of analyses/curl_descent.py make their figures.
"""

import warnings
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from neurofb import labels
from neurofb.choices import check_same_length
from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent
from neurofb.theory import eigenvalues_with_norms

#: where a boundary is looked for; denser where the critical fractions are small
FRACTIONS = (
    *(0.0, 0.0125, 0.025, 0.0375, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25, 0.3),
    *(0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
)
READOUT_FRACTIONS = (
    *(0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2),
    *(0.22, 0.24, 0.26, 0.28, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
)
#: what is kept of a run of a phase diagram
KEPT = (
    *("final_loss", "loss_rise", "eigenvalue_start", "eigenvalue_end"),
    *("growth_start", "growth_end", "diverged_at", "step_size_number"),
)


def phase_hidden(
    ratio: float = 0.3,
    total: int = 220,
    fractions: tuple[float, ...] = FRACTIONS,
    num_seeds: int = 5,
    num_steps: int = 40_000,
    learning_rate: float = 0.02,
    start: Literal["teacher", "random"] = "teacher",
    perturbation: float = 1e-6,
    precision: Literal["float32", "float64"] = "float64",
    device: str = "cpu",
) -> xr.Dataset:
    """Flip a growing fraction of the inputs' synapses at one ratio of inputs to hidden neurons.

    Linear, one output, the population's covariance (½ of the identity), Frobenius norms kept, all
    seeds from a solution that is slightly moved, or from random weights.

    Parameters
    ----------
    ratio
        c = M / N, up to rounding; ``realised_ratio`` of the result is what it is.
    total
        M + N.
    fractions
        Of the inputs; several that round to one number of inputs share its run.
    num_seeds
        Draws of teacher and perturbation.
    num_steps, learning_rate
        Of full-batch descent. Past the boundary W1 tends to rank one: with steps of 0.1 runs end in
        an attractor that the flow does not have.
    start
        ``"teacher"``: the solution with its weights moved by `perturbation` (standard deviation).
    perturbation
        The weights themselves have 1/√M onto the hidden layer and 1/√N onto the readout.
    precision
        A run is done at a loss of 1e-11 in float32, and of 1e-26 in float64, which takes three
        times as long but sees the slowest growth.
    device
        A torch device.
    """
    given = dict(locals())
    return _phase("hidden", **given)


def phase_readout(
    ratio: float = 0.3,
    total: int = 220,
    fractions: tuple[float, ...] = READOUT_FRACTIONS,
    num_seeds: int = 5,
    num_steps: int = 20_000,
    learning_rate: float = 0.1,
    start: Literal["teacher", "random"] = "teacher",
    perturbation: float = 1e-4,
    precision: Literal["float32", "float64"] = "float32",
    device: str = "cpu",
) -> xr.Dataset:
    """Flip a growing fraction of the hidden neurons' readout synapses; see `phase_hidden`."""
    given = dict(locals())
    return _phase("readout", **given)


def loss_curves(
    num_inputs: int = 30,
    num_hidden: int = 100,
    hidden: tuple[float, ...] = (0.0, 0.3, 0.8, 0.0, 0.0, 0.0, 0.0),
    readout: tuple[float, ...] = (0.0, 0.0, 0.0, 0.1, 0.4, 0.9, 1.0),
    num_seeds: int = 3,
    num_steps: int = 20_000,
    learning_rate: float = 0.1,
    start: Literal["teacher", "random"] = "teacher",
    perturbation: float = 1e-6,
    device: str = "cpu",
) -> xr.Dataset:
    """Follow the loss from a slightly moved solution, stable and unstable ones, in float64.

    `hidden` and `readout` are fractions, one pair a condition; the rest as in `phase_hidden`.
    """
    check_same_length(hidden=hidden, readout=readout)
    problem = _linear(num_inputs, num_hidden, start, perturbation)
    training = CurlTraining(
        learning_rate=learning_rate, num_steps=num_steps, num_records=200, stop_below=1e-26
    )
    flips = [Flips(hidden=float(a), readout=float(b)) for a, b in zip(hidden, readout, strict=True)]
    found = _run(problem, flips, training, num_seeds, device=device)
    found = found.assign_attrs(learning_rate=learning_rate, input_variance=problem.input_variance)
    return _named(found, f"Losses of curl descent, {num_inputs}-{num_hidden}-1, linear")


def _phase(
    layer: Literal["hidden", "readout"],
    *,
    ratio: float,
    total: int,
    fractions: tuple[float, ...],
    start: Literal["teacher", "random"],
    perturbation: float,
    num_steps: int,
    learning_rate: float,
    num_seeds: int,
    precision: str,
    device: str,
) -> xr.Dataset:
    """Run one column of a phase diagram."""
    if not ratio > 0 or total < 2:
        raise ValueError(f"ratio={ratio} must be above 0, total={total} at least 2")
    if list(fractions) != sorted(set(fractions)):
        raise ValueError(f"fractions={fractions} must rise")
    num_inputs = min(max(round(total * ratio / (1 + ratio)), 1), total - 1)
    problem = _linear(num_inputs, total - num_inputs, start, perturbation)
    size = num_inputs if layer == "hidden" else total - num_inputs
    for fraction in fractions:
        _flips(layer, float(fraction))  # refuses what is no fraction
    counts, place = np.unique([round(f * size) for f in fractions], return_inverse=True)
    training = CurlTraining(
        learning_rate=learning_rate,
        num_steps=num_steps,
        num_records=20,
        stop_below=1e-11 if precision == "float32" else 1e-26,
    )
    flips = [_flips(layer, int(count)) for count in counts]
    found = _run(problem, flips, training, num_seeds, precision=precision, device=device)
    dim = f"{layer}_flips"
    found = found[list(KEPT)]
    found = found.drop_vars([name for name in found.coords if name != "seed"])
    found = found.isel(flip=place).rename(flip=dim)
    found[dim] = labels.coordinate(dim, np.array(fractions, dtype=float))
    found["flipped_fraction"] = labels.variable(
        *(dim, counts[place] / size, "1", f"{dim.replace('_', ' ')} after rounding")
    )
    realised = num_inputs / (total - num_inputs)
    text = "inputs per hidden neuron, c = M / N, of the network"
    found["realised_ratio"] = labels.variable((), realised, "1", text)
    return _named(found, f"Curl descent, {layer} flips, M / N = {realised:.3f}")


def _flips(layer: Literal["hidden", "readout"], chosen: float | int) -> Flips:
    """Flip a fraction or a number of one layer's neurons."""
    return Flips(hidden=chosen) if layer == "hidden" else Flips(readout=chosen)


def _linear(num_inputs: int, num_hidden: int, start: Any, perturbation: float) -> StudentTeacher:
    """Return the linear task with the population's covariance and the norms of the theory."""
    return StudentTeacher(
        num_inputs=num_inputs,
        num_hidden=num_hidden,
        distribution="normal",
        unit_norms=True,
        num_train=None,
        num_test=None,
        start=start,
        perturbation=perturbation,
    )


def _run(
    problem: StudentTeacher,
    flips: list[Flips],
    training: CurlTraining,
    num_seeds: int,
    *,
    precision: str = "float64",
    device: str = "cpu",
) -> xr.Dataset:
    """Simulate; steps that were too large are in the result, so they are not warned of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*is too large")
        found = curl_descent(
            *(problem, flips, training),
            seeds=range(num_seeds),
            keep_weights=True,
            dtype=getattr(torch, precision),
            device=device,
        )
    found = found.merge(_growth(found, [condition.signs(*problem.sizes) for condition in flips]))
    return found.drop_vars(
        [f"weight_{layer}_{end}" for layer in (1, 2) for end in ("start", "end")]
    )


def _growth(found: xr.Dataset, signs: list[Any]) -> xr.Dataset:
    """Return the largest growth rate near a run's start and end, with the norms kept."""
    rates = xr.Dataset()
    for when in ("start", "end"):
        hidden, readout = (found[f"weight_{layer}_{when}"].values.astype(float) for layer in (1, 2))
        values = np.full(hidden.shape[:2], np.nan)
        for flip, seed in np.ndindex(*values.shape):
            weights = hidden[flip, seed], readout[flip, seed, 0]
            if all(np.isfinite(weight).all() for weight in weights):
                first, second = signs[flip]
                rate = eigenvalues_with_norms(*weights, first.columns, second.columns)[0].real
                values[flip, seed] = rate
        text = f"largest growth rate of the error near the {when}, norms kept"
        rates[f"growth_{when}"] = labels.variable(("flip", "seed"), values, "1", text)
    return rates


def _named(found: xr.Dataset, title: str) -> xr.Dataset:
    """Return a result with a title of its own."""
    return found.assign_attrs(title=title)
