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
        that change together. What stands in double quotes is one value, whatever commas it has; one
        JSON list is the list of the values (for settings that change together, of lists).

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
    >>> parse_axis('rule="LDFA r=4, local",BP')
    ('rule', ['LDFA r=4, local', 'BP'])
    >>> parse_axis('rule=["LDFA r=4, local", "BP"]')
    ('rule', ['LDFA r=4, local', 'BP'])
    """
    name, separator, values = text.partition("=")
    if not separator or not name or not values:
        raise ValueError(f"--over {text!r} must be NAME=VALUE,VALUE or NAME=FIRST:END")
    bounds = re.fullmatch(r"(-?\d+):(-?\d+)(?::(-?[1-9]\d*))?", values)
    if bounds:
        start, stop, step = (int(bound) for bound in bounds.groups(default="1"))
        return name, list(range(start, stop, step))
    listed = _json_values(text, values)
    if "|" not in name:
        return name, [_value(v) for v in _split(values, ",")] if listed is None else listed
    if listed is None:
        listed = [[_value(part) for part in _split(v, "|")] for v in _split(values, ",")]
    if not all(isinstance(point, list) for point in listed):
        raise ValueError(f"--over {text!r} must be A|B=1|2,3|4 or A|B=[[1, 2], [3, 4]]")
    return tuple(name.split("|")), [tuple(point) for point in listed]


def _json_values(text: str, values: str) -> list[Any] | None:
    """Return the values if they are JSON, one after another or as a list; None if they are not."""
    try:
        listed = json.loads(f"[{values}]")
    except (ValueError, RecursionError) as error:
        if values.startswith("[") and values.endswith("]"):
            raise ValueError(
                f"--over {text!r} is no JSON list ({error}); in a shell, put it in single quotes: "
                """--over 'name=["a, b", "c"]'"""
            ) from None
        return None
    if len(listed) == 1 and isinstance(listed[0], list):
        listed = listed[0]
    if not listed:
        raise ValueError(f"--over {text!r} has no value")
    return listed


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator, but not between double quotes."""
    separator = re.escape(separator)
    part = rf'(?:"(?:[^"\\]|\\.)*"|[^{separator}])*'
    return re.findall(rf"(?:^|{separator})({part})", text)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
