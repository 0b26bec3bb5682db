"""A synthetic study: the shape of the dataset that the figures take, for examples and tests."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from neurofb.labels import coordinate, variable

#: condition -> (feedback rank, bottleneck, share of round units): made up, not a result.
_CONDITIONS: dict[str, tuple[float, int, float]] = {
    "BP wide": (32.0, 32, 0.1),
    "LDFA r=4": (4.0, 32, 0.4),
    "LDFA r=2": (2.0, 32, 0.7),
    "LDFA r=1": (1.0, 32, 0.9),
    "BP narrow": (np.nan, 4, 0.9),
    "dLDFA narrow": (np.nan, 4, 0.2),
}
_MEASURES = {
    "rotational_symmetry": "rotational symmetry",
    "orientation_selectivity": "orientation selectivity (gOSI)",
    "rotation_correlation_min": "smallest rotation correlation",
}


def example_study(*, num_seeds: int = 2, num_units: int = 8, seed: int = 0) -> xr.Dataset:
    """Make a synthetic study of six conditions: Gabors, centre-surround cells, and failed units.

    The numbers are invented to look like a study; they are no result. One unit of each seed of the
    wide conditions is dead, one silent, one unmoved; narrow conditions have 4 units, the rest are
    "absent".

    Parameters
    ----------
    num_seeds, num_units
        Size of the dims seed and unit.
    seed
        Of the random numbers.

    Examples
    --------
    >>> study = example_study(num_seeds=1, num_units=5)
    >>> study["receptive_field"].dims
    ('condition', 'seed', 'unit', 'y', 'x')
    >>> study["status"].sel(condition="BP narrow", seed=0).values.tolist()
    ['ok', 'ok', 'ok', 'ok', 'absent']
    """
    rng = np.random.default_rng(seed)
    shape = (len(_CONDITIONS), num_seeds, num_units)
    field = np.full((*shape, 13, 13), np.nan)
    untrained = np.full_like(field, np.nan)
    status = np.full(shape, "absent", dtype=object)
    measures = {f"{n}{null}": np.full(shape, np.nan) for n in _MEASURES for null in _NULLS}
    for c, s, u in np.ndindex(*shape):
        _, width, share = list(_CONDITIONS.values())[c]
        if u >= min(width, num_units):
            continue
        last = width > 4 and num_units - u
        status[c, s, u] = {1: "dead", 2: "silent", 3: "unmoved"}.get(last, "ok")
        is_round = rng.random() < share
        untrained[c, s, u] = rng.normal(size=(13, 13))
        if status[c, s, u] == "dead":
            field[c, s, u] = 0.0
        elif status[c, s, u] == "unmoved":
            field[c, s, u] = untrained[c, s, u]
        else:
            field[c, s, u] = _centre_surround(rng) if is_round else _gabor(rng)
        learnt = (0.85, 0.06, 0.8) if is_round else (0.35, 0.35, -0.1)
        for name, value in zip(_MEASURES, learnt, strict=True):
            if status[c, s, u] != "dead":
                measures[name][c, s, u] = value + rng.normal(0, 0.05)
            measures[f"{name}_untrained"][c, s, u] = rng.normal(0.08, 0.04)
            measures[f"{name}_noise"][c, s, u] = rng.normal(0.15, 0.05)
    step = np.arange(0, 500, 10)
    rate = rng.uniform(0.006, 0.012, size=(*shape[:2], 1))
    loss = 2.3 * np.exp(-rate * step) + 0.1 * rng.random((*shape[:2], step.size))
    dims = ("condition", "seed", "unit")
    ranks, widths = zip(*[(r, w) for r, w, _ in _CONDITIONS.values()], strict=True)
    return xr.Dataset(
        {
            "receptive_field": variable((*dims, "y", "x"), field, "1 / pixel", "receptive field"),
            "receptive_field_untrained": variable(
                (*dims, "y", "x"), untrained, "1 / pixel", "receptive field before training"
            ),
            "status": variable(dims, status, "1", "status of the unit"),
            **{
                name: variable(dims, values, "1", _MEASURES[name.removesuffix(_null(name))])
                for name, values in measures.items()
            },
            "loss": variable((*dims[:2], "step"), loss, "nat", "training loss"),
            "accuracy": variable((*dims[:2], "step"), np.exp(-loss), "1", "training accuracy"),
            "test_accuracy": variable(dims[:2], np.exp(-loss[..., -1]), "1", "test accuracy"),
        },
        coords={
            "condition": coordinate("condition", list(_CONDITIONS)),
            "seed": coordinate("seed", np.arange(num_seeds)),
            "unit": coordinate("unit", np.arange(num_units)),
            "y": coordinate("y", np.arange(-6, 7)),
            "x": coordinate("x", np.arange(-6, 7)),
            "step": coordinate("step", step),
            "feedback_rank": variable("condition", ranks, "1", "rank of the feedback"),
            "bottleneck": variable("condition", widths, "1", "retinal output channels"),
        },
        attrs={
            "title": "synthetic study, not a result",
            "created": "2026-01-01T00:00:00Z",
            "neurofb_version": "0",
        },
    )


_NULLS = ("", "_untrained", "_noise")


def _null(name: str) -> str:
    """Return the suffix of a null's name, or ''."""
    return next((null for null in _NULLS[1:] if name.endswith(null)), "")


def _gabor(rng: np.random.Generator) -> Float[np.ndarray, "y x"]:
    """Make an oriented edge of random angle and phase."""
    y, x = np.mgrid[-6:7, -6:7]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    gabor = np.exp(-(x**2 + y**2) / 14) * np.cos(2 * np.pi * along / 7 + phase)
    return gabor + rng.normal(0, 0.05, gabor.shape)


def _centre_surround(rng: np.random.Generator) -> Float[np.ndarray, "y x"]:
    """Make a difference of Gaussians of random polarity and width."""
    y, x = np.mgrid[-6:7, -6:7]
    squared, width = x**2 + y**2, rng.uniform(3.0, 6.0)
    field = np.exp(-squared / width) - 0.35 * np.exp(-squared / (3 * width))
    return rng.choice([-1.0, 1.0]) * field + rng.normal(0, 0.03, field.shape)
