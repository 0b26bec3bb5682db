"""An axis as the command line has it."""

import json
import re
from typing import Any


def parse_axis(text: str) -> tuple[str | tuple[str, ...], list[Any]]:
    """Read an axis as the command line has it.

    Parameters
    ----------
    text
        ``name=value,value``; ``name=0:5`` (0 to 4) or ``name=0:10:2``; ``a|b=1|2,3|4`` for settings
        that change together.

    Raises
    ------
    ValueError
        If the text has another form.

    Examples
    --------
    >>> parse_axis("seed=0:3")
    ('seed', [0, 1, 2])
    >>> parse_axis("network.bottleneck|feedback.rank=4|1,8|2")
    (('network.bottleneck', 'feedback.rank'), [(4, 1), (8, 2)])
    """
    name, separator, values = text.partition("=")
    if not separator or not name or not values:
        raise ValueError(f"--over {text!r} must be NAME=VALUE,VALUE or NAME=FIRST:END")
    bounds = re.fullmatch(r"(-?\d+):(-?\d+)(?::(-?[1-9]\d*))?", values)
    if bounds:
        start, stop, step = (int(bound) for bound in bounds.groups(default="1"))
        return name, list(range(start, stop, step))
    if "|" in name:
        points = [tuple(_value(part) for part in point.split("|")) for point in values.split(",")]
        return tuple(name.split("|")), points
    return name, [_value(value) for value in values.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
