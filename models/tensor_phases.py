r"""Message passing for low-rank tensors: phases that are easy, hard and impossible.

Kadmon & Ganguli (NeurIPS 2018, arXiv:1810.10065); no setting of their experiments was readable, so
sizes, priors and noise are ours (docs/tensor_phases.md). Every function computes a Dataset::

    neurofb run models/tensor_phases.py::phases --out out/phases
    neurofb run models/tensor_phases.py::shapes --out out/shapes
    neurofb run models/tensor_phases.py::large --out out/large

and the function of the same name in analyses/tensor_phases.py draws its figure.
"""

from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.tensor_phase import phase_diagram
from neurofb.tensor_study import planted_errors
from neurofb.tensor_theory import theory_line
from neurofb.tensors import GaussianPrior

#: axes without mean -> what each axis' mean is multiplied by
PATTERNS = {0: (1, 1, 1), 1: (0, 1, 1), 2: (0, 0, 1)}
_NAMES = ("every axis has the mean", "one axis of mean 0", "two axes of mean 0")
_START_AND_TRUTH = ("AMP", "AMP from the truth")


def phases(
    prior_means: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    noise_variances: tuple[float, ...] = tuple(np.round(np.arange(0.03, 0.391, 0.03), 3)),
    zero_axes: tuple[int, ...] = (0, 1, 2),
    side: int = 100,
    num_seeds: int = 3,
    num_vertices: int = 100,
    device: str = "cpu",
) -> xr.Dataset:
    """Map phases of cubic tensors over prior mean and noise, by theory and by AMP.

    Gaussian priors of variance 1, rank one, standardised factors.

    Parameters
    ----------
    prior_means, noise_variances
        The grid of the simulation.
    zero_axes
        On how many of the three axes the mean is zero instead. With two of them nothing but the
        little noise of the start breaks the symmetry.
    side
        Of the simulated tensors.
    num_seeds
        Tensors in each place.
    num_vertices
        Prior means at which the lines of theory are computed.
    device
        A torch device.

    Raises
    ------
    ValueError
        If `zero_axes` has none or others than 0, 1 and 2.
    """
    if not zero_axes:
        raise ValueError(
            f"zero_axes={zero_axes} must be one or more of {', '.join(map(str, PATTERNS))}"
        )
    for zeros in zero_axes:
        check_choice("zero_axes", zeros, PATTERNS)
    fine = np.linspace(0.0, max(prior_means), num_vertices)
    found = []
    for zeros in zero_axes:
        pattern = PATTERNS[zeros]
        cells = [
            planted_errors(
                (side, side, side),
                [GaussianPrior(mean=mean * factor) for factor in pattern],
                noise_variances,
                algorithms=_START_AND_TRUTH,
                seeds=range(num_seeds),
                standardise=True,
                device=device,
            ).expand_dims(prior_mean=[mean])
            for mean in prior_means
        ]
        one = xr.concat(cells, "prior_mean", combine_attrs="override")
        theory = phase_diagram(fine.tolist(), list(noise_variances), pattern=pattern)
        one = one.merge(_lines(theory.isel(shape_ratio=0), "prior_mean", "line_mean"))
        found.append(one.expand_dims(condition=[_NAMES[zeros]]))
    study: Any = xr.concat(found, "condition", combine_attrs="override")
    study["line_mean"] = study["line_mean"].isel(condition=0)
    return _named(study, f"Phases of cubic tensors of side {side}, {num_seeds} seeds")


def shapes(
    shape_ratios: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    prior_mean: float = 0.2,
    noise_variances: tuple[float, ...] = tuple(np.round(np.arange(0.14, 0.311, 0.015), 3)),
    side: int = 120,
    num_seeds: int = 4,
    num_vertices: int = 61,
    device: str = "cpu",
) -> xr.Dataset:
    """Find the width of the hard phase over shape: one side longer or shorter than the other two.

    Gaussian priors of one mean and of variance 1, rank one, standardised factors.

    Parameters
    ----------
    shape_ratios
        First side over the geometric mean of the three, of the simulation.
    prior_mean
        Of every axis.
    noise_variances
        At which it is simulated.
    side
        Geometric mean of the simulated sides.
    num_seeds
        Tensors of each shape.
    num_vertices
        Ratios from 1/10 to 10 at which theory is computed.
    device
        A torch device.
    """
    cells = []
    for ratio in shape_ratios:
        sides = (round(side * ratio), *[round(side * ratio**-0.5)] * 2)
        cell = planted_errors(
            sides,
            GaussianPrior(mean=prior_mean),
            noise_variances,
            algorithms=_START_AND_TRUTH,
            seeds=range(num_seeds),
            standardise=True,
            device=device,
        )
        cells.append(cell.expand_dims(shape_ratio=[ratio]))
    found = xr.concat(cells, "shape_ratio", combine_attrs="override")
    ratios = np.geomspace(0.1, 10, num_vertices)
    theory = phase_diagram([prior_mean], [0.1], ratios.tolist()).isel(prior_mean=0)
    found = found.merge(_lines(theory, "shape_ratio", "line_ratio"))
    return _named(found, f"Phases over shape, geometric mean of sides {side}, {num_seeds} seeds")


def large(
    side: int = 220,
    prior_mean: float = 0.2,
    noise_variances: tuple[float, ...] = (0.05, 0.10, 0.14, 0.17, 0.22, 0.27, 0.31),
    num_seeds: int = 5,
    device: str = "cpu",
) -> xr.Dataset:
    """Follow AMP on large cubic tensors through all phases, from the prior and from the truth.

    Gaussian priors of one mean and of variance 1, rank one, standardised factors.
    """
    found = planted_errors(
        (side, side, side),
        GaussianPrior(mean=prior_mean),
        noise_variances,
        algorithms=_START_AND_TRUTH,
        seeds=range(num_seeds),
        standardise=True,
        device=device,
    )
    found = found.merge(theory_line((1, 1, 1), GaussianPrior(mean=prior_mean), noise_variances))
    return _named(found, f"AMP on cubic tensors of side {side}, {num_seeds} seeds")


def _lines(theory: xr.Dataset, dim: str, name: str) -> xr.Dataset:
    """Return thresholds over a dim as curves of theory, over vertex."""
    lines = theory[["algorithmic", "information", "spinodal"]].rename({dim: "vertex"})
    lines = lines.rename({key: f"line_{key}" for key in lines.data_vars})
    at = labels.variable("vertex", theory[dim].values, "1", theory[dim].attrs["long_name"])
    keep = [key for key in lines.coords if key != "vertex"]
    bare = lines.drop_vars([*keep, "vertex"])
    return bare.assign_attrs({}).assign({name: at})


def _named(found: xr.Dataset, title: str) -> xr.Dataset:
    """Return a result with a title of its own and labelled coordinates."""
    for dim in set(found.dims) & set(found.coords) & set(labels.COORDINATES):
        found[dim] = labels.coordinate(str(dim), found[dim].values)
    return found.assign_attrs(title=title)
