r"""Message passing and least squares on planted tensors: by noise, problem and schedule.

Sizes, priors and noise are ours (docs/tensor_phases.md). Every function computes a Dataset::

    neurofb run models/tensor_algorithms.py::against_als --out out/als
    neurofb run models/tensor_algorithms.py::mixed --out out/mixed
    neurofb run models/tensor_algorithms.py::schedules --out out/schedules

and the function of the same name in analyses/tensor_phases.py draws its figure.
"""

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.tensor_study import ALGORITHMS, planted_errors
from neurofb.tensor_theory import theory_errors, theory_line
from neurofb.tensors import (
    BernoulliGaussPrior,
    GaussianPrior,
    RademacherPrior,
    TensorAMP,
    TensorProblem,
)
from neurofb.theory import StateEvolution

#: of the problems that are not only about phases
_FEW = ("AMP", "AMP from the truth", "ALS, random start")


def against_als(
    side: int = 150,
    prior_mean: float = 0.2,
    noise_variances: tuple[float, ...] = (0.05, 0.10, 0.13, 0.16, 0.20, 0.25, 0.31),
    algorithms: tuple[str, ...] = tuple(ALGORITHMS),
    num_seeds: int = 4,
    als_sweeps: int = 60,
    null: bool = True,
    device: str = "cpu",
) -> xr.Dataset:
    """Compare AMP with least squares from four starts, on the same tensors and on noise alone.

    Cubic, Gaussian priors of one mean and of variance 1, rank one, standardised factors; the starts
    of `neurofb.tensor_study.ALGORITHMS`.
    """
    prior = GaussianPrior(mean=prior_mean)
    found = planted_errors(
        (side, side, side),
        prior,
        noise_variances,
        algorithms=algorithms,
        seeds=range(num_seeds),
        standardise=True,
        als_sweeps=als_sweeps,
        null=null,
        device=device,
    )
    found = found.merge(theory_line((1, 1, 1), prior, noise_variances))
    return _named(found, f"AMP and ALS on cubic tensors of side {side}, {num_seeds} seeds")


def problems() -> dict[str, dict[str, Any]]:
    """Return the problems of `mixed`: shape, priors, rank, noise variances of each."""
    middle = [GaussianPrior(mean=mean) for mean in (0.0, 0.4, 0.3)]
    pairs = [GaussianPrior(mean=mean) for mean in ((0.5, -0.2), (0.2, 0.6), (0.4, 0.3))]
    zeros = [GaussianPrior(mean=mean) for mean in (0.0, 0.0, 0.5)]
    kinds = [RademacherPrior(0.65), GaussianPrior(0.3), BernoulliGaussPrior(0.3, 1.0, 1.0)]
    few = (0.05, 0.10, 0.20, 0.30)
    return {
        "sides 100, 200, 500": {"shape": (100, 200, 500), "priors": middle, "noise": few},
        "sides 60, 150, 400": {"shape": (60, 150, 400), "priors": middle, "noise": few},
        "rank 2": {"shape": (150, 120, 180), "priors": pairs, "rank": 2, "noise": few},
        "order 4": {
            "shape": (40, 50, 60, 30),
            "priors": [GaussianPrior(mean=0.5)] * 4,
            "noise": few,
        },
        "three kinds of priors": {
            "shape": (200, 150, 100),
            "priors": kinds,
            "noise": (0.02, 0.05, 0.08, 0.10),
        },
        "two means of 0": {"shape": (200, 200, 200), "priors": zeros, "noise": few},
    }


def mixed(
    names: tuple[str, ...] = (),
    algorithms: tuple[str, ...] = _FEW,
    shrink: float = 1.0,
    num_seeds: int = 3,
    als_sweeps: int = 50,
    device: str = "cpu",
) -> xr.Dataset:
    """Compare problems of other shapes, ranks, orders and priors with state evolution.

    Factors as they are drawn, but for those of sides 100, 200, 500, which are standardised.

    Parameters
    ----------
    names
        Of `problems`; all by default.
    algorithms
        Of `neurofb.tensor_study.ALGORITHMS`.
    shrink
        What sides are multiplied by.
    num_seeds
        Tensors of each problem.
    als_sweeps
        At most.
    device
        A torch device.

    Raises
    ------
    ValueError
        If a problem or an algorithm is unknown.
    """
    for name in names:
        check_choice("names", name, problems())
    for algorithm in algorithms:
        check_choice("algorithms", algorithm, ALGORITHMS)
    chosen = {name: one for name, one in problems().items() if not names or name in names}
    found = []
    for name, one in chosen.items():
        shape, rank = tuple(round(shrink * side) for side in one["shape"]), one.get("rank", 1)
        cell = planted_errors(
            *(shape, one["priors"], one["noise"]),
            rank=rank,
            algorithms=algorithms,
            seeds=range(num_seeds),
            standardise=name == "sides 100, 200, 500",
            als_sweeps=als_sweeps,
            device=device,
        )
        cell = cell.merge(theory_line(shape, one["priors"], one["noise"], rank=rank))
        found.append(cell.expand_dims(condition=[name]))
    study: Any = xr.concat(found, "condition", combine_attrs="override", join="outer")
    return _named(study, f"AMP beside state evolution on {len(chosen)} problems")


def schedules(
    side: int = 150,
    prior_mean: float = 0.2,
    noise_variances: tuple[float, ...] = (0.05, 0.10, 0.13),
    damping: float = 0.6,
    num_seeds: int = 3,
    num_sweeps: int = 150,
    device: str = "cpu",
) -> xr.Dataset:
    """Trace AMP sweep by sweep: one axis after the other, all at once, all at once and damped.

    Cubic, Gaussian priors of one mean and of variance 1, rank one, standardised factors; the same
    start for all. State evolution is that of the schedule; it knows no damping.
    """
    options = {
        "sequential": {"schedule": "sequential"},
        "parallel": {"schedule": "parallel"},
        f"parallel, damping {damping:g}": {"schedule": "parallel", "damping": damping},
    }
    prior, deltas = GaussianPrior(mean=prior_mean), np.asarray(noise_variances, dtype=float)
    sizes = len(deltas), len(options), num_seeds
    error, change = (np.full((*sizes, num_sweeps), np.nan) for _ in range(2))
    converged, sweeps = np.zeros(sizes), np.zeros(sizes)
    for i, seed in np.ndindex(len(deltas), num_seeds):
        problem = TensorProblem((side, side, side), prior, float(deltas[i]))
        planted = problem.sample(seed, standardise=True, dtype=torch.float32, device=device)
        for k, option in enumerate(options.values()):
            fitted = _quiet(
                TensorAMP(
                    priors=prior,
                    noise_variance=problem.noise_variance,
                    max_sweeps=num_sweeps,
                    tolerance=1e-5,
                    seed=seed,
                    **option,
                ),
                planted,
            )
            trace, at = fitted.trace_, (i, k, seed)
            error[*at, : trace.sizes["sweep"]] = trace["tensor_error"]
            change[*at, : trace.sizes["sweep"]] = trace["change"]
            converged[at], sweeps[at] = fitted.converged_, fitted.num_sweeps_
    theory = StateEvolution(prior)
    runs = [
        theory.run(deltas, num_sweeps=num_sweeps, schedule=option["schedule"])[1:]
        for option in options.values()
        if "damping" not in option
    ]
    curves = np.full((*sizes[:2], num_sweeps), np.nan)
    for k, run in enumerate(runs):
        curves[:, k] = theory.tensor_error(run).T
    dims = {
        "noise_variance": deltas,
        "schedule": list(options),
        "seed": np.arange(num_seeds),
        "sweep": np.arange(1, num_sweeps + 1),
    }
    names, text = tuple(dims), "squared error of the tensor, over that of the tensor of zeros"
    less = ("noise_variance", "schedule", "sweep")
    found = {
        "error_trace": labels.variable(names, error, "1", text),
        "change_trace": labels.variable(names, change, "1", "change of the factors in a sweep"),
        "converged": labels.variable(names[:3], converged, "1", "whether sweeps converged"),
        "num_sweeps": labels.variable(names[:3], sweeps, "1", "sweeps done"),
        "theory_trace": labels.variable(less, curves, "1", f"{text}, state evolution"),
    }
    known = theory_errors((1, 1, 1), prior, deltas)["error_theory"].sel(start="prior", drop=True)
    found["fixed_error"] = known.variable
    title = f"Schedules of message passing on cubic tensors of side {side}"
    about = labels.provenance(title=title, references="arXiv:1810.10065", device=device)
    places = {dim: labels.coordinate(dim, values) for dim, values in dims.items()}
    return xr.Dataset(found, places, about)


def _quiet(amp: TensorAMP, planted: Any) -> TensorAMP:
    """Fit, without a warning where it does not converge: that is recorded."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="message passing")
        return amp.fit(planted.tensor, truth=planted.factors)


def _named(found: xr.Dataset, title: str) -> xr.Dataset:
    """Return a result with a title of its own and labelled coordinates."""
    for dim in set(found.dims) & set(found.coords) & set(labels.COORDINATES):
        found[dim] = labels.coordinate(str(dim), found[dim].values)
    return found.assign_attrs(title=title)
