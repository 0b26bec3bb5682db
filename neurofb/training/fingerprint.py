"""What a resumed run must share with the run it continues."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from neurofb.data.images import ImageSplits
from neurofb.training.config import TrainingConfig


def fingerprint(
    network: nn.Module,
    data: ImageSplits,
    config: TrainingConfig,
    seed: int,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a run by everything that its numbers follow from, as flat names and JSON values."""
    parts = {
        "config": asdict(config),
        "seed": seed,
        "data": {"name": data.name, "checksum": data.checksum},
        "network": {
            "modules": {
                name or "whole": f"{type(module).__name__}({module.extra_repr()})"
                for name, module in network.named_modules()
            },
            "shapes": {name: list(p.shape) for name, p in network.named_parameters()},
        },
        "identity": dict(identity),
    }
    return dict(_flatten("", json.loads(json.dumps(parts))))


def check_same_run(
    saved: Mapping[str, Any], now: Mapping[str, Any], config: TrainingConfig
) -> None:
    """Refuse to continue a run whose settings have changed.

    ``checkpoint_every`` may change; ``num_steps`` may grow if the schedule does not depend on it.

    Raises
    ------
    ValueError
        With the name and both values of every setting that differs.
    """
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    names = [name for name in names if name != "config.checkpoint_every"]
    advice = ""
    if "config.num_steps" in names and now["config.num_steps"] > saved["config.num_steps"]:
        ranks = config.svd_space is not None and config.svd_space.rank_schedule is not None
        if config.schedule.depends_on_num_steps or ranks:
            name = "rank" if ranks else config.schedule.schedule
            advice = f"; num_steps cannot grow because the {name} schedule depends on it"
        else:
            names.remove("config.num_steps")
    if names:
        changes = ", ".join(f"{n}: {_short(saved, n)} -> {_short(now, n)}" for n in names)
        raise ValueError(f"the run cannot be resumed, its settings have changed: {changes}{advice}")


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """List the leaves of nested dicts under dotted names."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [
        leaf
        for key, inner in value.items()
        for leaf in _flatten(f"{prefix}.{key}" if prefix else key, inner)
    ]


def _short(values: Mapping[str, Any], name: str) -> str:
    text = repr(values[name]) if name in values else "absent"
    return text if len(text) <= 60 else f"{text[:57]}…"
