"""A configuration as tables: settings that all runs share, and those that change."""

import json
from collections.abc import Mapping
from typing import Any

from neurofb.report.markup import Html, folded, join, pairs, table, tag

Flat = dict[str, Any]


def flat(tree: Any, prefix: str = "") -> Flat:
    """Return a nested configuration as dotted names → values.

    Examples
    --------
    >>> flat({"name": "a", "feedback": {"rule": "exact"}, "options": {}})
    {'name': 'a', 'feedback.rule': 'exact', 'options': {}}
    """
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    found: Flat = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def configuration(settings: Flat, changing: Mapping[str, str] | None = None) -> Html:
    """Return settings in groups by the first part of their names.

    Parameters
    ----------
    settings
        Dotted name → value, see `flat`.
    changing
        Settings that are not the same everywhere → what is said in their place.

    Examples
    --------
    >>> "<mark>varies: 1, 2</mark>" in configuration({"a.rank": 1}, {"a.rank": "varies: 1, 2"})
    True
    """
    changing = dict(changing or {})
    groups: dict[str, list[tuple[Html, object]]] = {}
    for name in dict.fromkeys([*settings, *changing]):
        first, _, rest = name.partition(".")
        value = tag("mark", changing[name]) if name in changing else _value(settings[name])
        breakable = join((rest or first).split("."), ".<wbr>")
        groups.setdefault(first if rest else "run", []).append((breakable, value))
    cards = [
        tag(
            "div",
            tag("h3", group),
            pairs(dict(rows)),
            class_="card",
        )
        for group, rows in groups.items()
    ]
    return tag("div", *cards, class_="cards")


def conditions(trees: Mapping[str, Any]) -> tuple[Html, Flat, dict[str, str]]:
    """Compare the configurations of a study.

    Parameters
    ----------
    trees
        Condition → nested configuration.

    Returns
    -------
    tuple
        A table of what differs, the settings of the first condition, and those of them that
        change → what is said in their place.

    Examples
    --------
    >>> conditions({"a": {"rank": 1, "seed": 0}, "b": {"rank": 2, "seed": 0}})[2]
    {'rank': 'varies: 1, 2'}
    """
    rows = {name: flat(tree) for name, tree in trees.items()}
    every = dict.fromkeys(setting for row in rows.values() for setting in row)
    written = {s: {name: _value(row[s]) if s in row else "" for name, row in rows.items()}
               for s in every}  # fmt: skip
    differ = [
        setting
        for setting, values in written.items()
        if len(set(values.values())) > 1 and any(v != name for name, v in values.items())
    ]
    body = [[name, *[written[setting][name] for setting in differ]] for name in rows]
    shown = table(["condition", *differ], body, name="differs") if differ else Html()
    first = next(iter(rows.values()), {})
    changing = {s: varies([v for v in written[s].values() if v]) for s in differ}
    return shown, first, changing


def varies(values: list[str]) -> str:
    """Say which values a setting has.

    Examples
    --------
    >>> varies(["1", "2", "1"])
    'varies: 1, 2'
    """
    different = list(dict.fromkeys(values))
    if len(different) == 1:
        return f"{different[0]}, not everywhere"
    return "varies: " + ", ".join(different[:12]) + (", …" if len(different) > 12 else "")


def as_stored(attribute: object) -> Html:
    """Return a configuration's text as it is stored, folded.

    Examples
    --------
    >>> as_stored("{}")
    '<details><summary>As stored (JSON)</summary><pre>{}</pre></details>'
    """
    return folded("As stored (JSON)", tag("pre", str(attribute)))


def axes_table(rows: list[list[object]]) -> Html:
    """Return the axes of a scan: dimension, setting, values, meaning.

    Examples
    --------
    >>> "feedback.rank" in axes_table([["rank", "feedback.rank", "1, 2", ""]])
    True
    """
    return join([table(["axis", "setting", "points", "values", "meaning"], rows)])


def _value(value: Any) -> str:
    """Write a setting's value: text bare, nothing as a word, the rest as JSON."""
    if value is None or value in ({}, [], ""):
        return "not set" if value is None else "none"
    if isinstance(value, list) and not any(isinstance(part, list | dict) for part in value):
        return ", ".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
