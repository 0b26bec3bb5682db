"""What the conditions of a study are: network, rule, rank and learning as coordinates."""

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig
from neurofb.feedback import Exact, PathwaySpec
from neurofb.networks import RetinaVVSConfig


def facts(configs: list[RunConfig]) -> dict[str, xr.Variable]:
    """Return what is known of each condition as coordinates.

    Parameters
    ----------
    configs
        One run for each condition, in their order.

    Returns
    -------
    dict
        Over ``condition``: network; rule, learning and feedback_rank of the pathway, of overrides
        where these are all there is (several are joined by "+"; the rank is NaN without one
        number). Where all networks are `RetinaVVSConfig` also bottleneck, and feedback_rank is on
        its scale: the bottleneck's width for backpropagation, NaN for direct pathways and for
        narrower networks.

    Examples
    --------
    >>> from neurofb.feedback import LowRank
    >>> found = facts([RunConfig(name="a"), RunConfig(name="b", feedback=LowRank(rank=4))])
    >>> found["feedback_rank"].values.tolist(), found["learning"].values.tolist()
    ([32.0, 4.0], ['', 'oja'])
    """
    specs = [_pathways(config) for config in configs]
    ranks = [_one([_rank(spec) for spec in group]) for group in specs]
    bottleneck = {}
    widths = [c.network.bottleneck for c in configs if isinstance(c.network, RetinaVVSConfig)]
    if len(widths) == len(configs):
        ranks = [
            _retina_rank(config.feedback.rule, rank, width, max(widths))
            for config, rank, width in zip(configs, ranks, widths, strict=True)
        ]
        bottleneck["bottleneck"] = labels.variable(
            "condition", widths, "1", "channels of the retinal output"
        )
    return {
        "feedback_rank": labels.variable("condition", ranks, "1", "rank of the feedback"),
        **bottleneck,
        "rule": labels.variable(
            "condition", [_join([s.rule for s in group]) for group in specs], "1", "feedback rule"
        ),
        "learning": labels.variable(
            "condition",
            [_join([_learning(s) for s in group]) for group in specs],
            "1",
            "rule by which the feedback learns",
        ),
        "network": labels.variable(
            "condition", [config.network.network for config in configs], "1", "network"
        ),
    }


def _pathways(config: RunConfig) -> list[PathwaySpec]:
    """Return the pathway that a condition stands for; overrides where there is no other."""
    others: list[PathwaySpec] = [
        s for s in config.feedback_overrides.values() if not isinstance(s, Exact)
    ]
    if isinstance(config.feedback, Exact) and others:
        return others
    return [config.feedback]


def _learning(spec: PathwaySpec) -> str:
    return str(getattr(getattr(spec, "learning", None), "rule", ""))


def _rank(spec: PathwaySpec) -> float:
    """Return a pathway's rank, NaN where it has none or takes its layer's."""
    rank = getattr(spec, "rank", None)
    return np.nan if rank is None else float(rank)


def _join(words: list[str]) -> str:
    return "+".join(dict.fromkeys(words))


def _one(values: list[float]) -> float:
    return values[0] if len(set(values)) == 1 else np.nan


def _retina_rank(rule: str, rank: float, width: int, widest: int) -> float:
    """Return the rank of the error that comes to the retina's output."""
    if width < widest or rule not in ("low_rank", "exact"):
        return np.nan
    return float(width) if rule == "exact" else rank
