"""A made-up study of the rank of the error, to try figures on."""

import numpy as np
import xarray as xr

from neurofb import labels

_RULES, _OPTIMISERS = ("BP", "FA"), ("SGD", "Adam", "Muon")
_NORMALISATIONS = ("none", "batch", "layer")
#: share of the rank before training that is left in the last layer, and test accuracy
_END = {
    ("BP", "none"): (0.9, 0.85),
    ("BP", "batch"): (0.95, 0.86),
    ("BP", "layer"): (0.95, 0.86),
    ("FA", "none"): (0.2, 0.5),
    ("FA", "batch"): (0.85, 0.79),
    ("FA", "layer"): (0.7, 0.7),
}


def example_rank_study(*, num_seeds: int = 3, seed: int = 0) -> xr.Dataset:
    """Make a study in which the error of FA loses its rank, less with normalisation or Muon.

    Parameters
    ----------
    num_seeds
        Seeds in each condition.
    seed
        Of the scatter.

    Returns
    -------
    xr.Dataset
        `error_rank`, `error_rank_normalised` (rule, optimiser, normalisation, seed, epoch, layer),
        `test_accuracy`, `ceiling` (layer), and `num_classes`, `definition` as attributes. Nothing
        is measured.

    Examples
    --------
    >>> dict(example_rank_study(num_seeds=2).test_accuracy.sizes)
    {'rule': 2, 'optimiser': 3, 'normalisation': 3, 'seed': 2}
    """
    rng = np.random.default_rng(seed)
    shape = (len(_RULES), len(_OPTIMISERS), len(_NORMALISATIONS), num_seeds)
    depth, epoch = np.arange(6), np.arange(5)
    rank, accuracy = np.empty((*shape, 5, 6)), np.empty(shape)
    for i, rule in enumerate(_RULES):
        for j, optimiser in enumerate(_OPTIMISERS):
            for k, normalisation in enumerate(_NORMALISATIONS):
                left, right = _END[rule, normalisation]
                if optimiser == "Muon":
                    left, right = max(left, 0.7), right + 0.2 * (0.9 - right)
                kept = 1 - (1 - left) * (depth / 5) * (1 - np.exp(-epoch))[:, None]
                start = 205 - (18 if normalisation == "none" else 5) * depth
                scatter = 1 + 0.03 * rng.normal(size=(num_seeds, 5, 6))
                rank[i, j, k] = start * kept * scatter
                accuracy[i, j, k] = right + 0.01 * rng.normal(size=num_seeds)
    raw = rank * (1 - 0.35 * (1 - np.exp(-epoch)))[:, None]
    dims = ("rule", "optimiser", "normalisation", "seed", "epoch", "layer")
    one = labels.variable
    return xr.Dataset(
        {
            "error_rank": one(dims, raw, "1", "effective rank of the error"),
            "error_rank_normalised": one(
                dims, rank, "1", "effective rank of the row-normalised error"
            ),
            "test_accuracy": one(dims[:4], accuracy, "1", "test accuracy"),
            "ceiling": one("layer", np.full(6, 256.0), "1", "highest possible rank"),
        },
        {
            "rule": labels.coordinate("rule", list(_RULES)),
            "optimiser": labels.coordinate("optimiser", list(_OPTIMISERS)),
            "normalisation": labels.coordinate("normalisation", list(_NORMALISATIONS)),
            "seed": labels.coordinate("seed", np.arange(num_seeds)),
            "epoch": labels.coordinate("epoch", epoch.astype(float)),
            "layer": labels.coordinate("layer", [f"hidden_{i}" for i in depth + 1]),
        },
        {"num_classes": 10, "definition": "entropy"},
    )
