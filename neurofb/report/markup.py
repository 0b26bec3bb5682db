"""Pieces of a page: what is not `Html` is text, and is escaped wherever it goes."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

_REFERENCE = re.compile(
    r"arXiv:(\d{4}\.\d{4,5})|(?:doi:|https://doi\.org/)(10\.\d{4,9}/[\w./()-]*\w)"
)


class Html(str):
    """Text that is part of the page's code already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escape what comes from data; `Html` stays as it is.

    Examples
    --------
    >>> text("a < b")
    'a &lt; b'
    >>> text(Html("<b>bold</b>"))
    '<b>bold</b>'
    """
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Put pieces behind each other, escaping those that are text.

    Examples
    --------
    >>> join(["<", Html("<br>")], " ")
    '&lt; <br>'
    """
    return Html(between.join(text(part) for part in parts))


def tag(name: str, *children: object, **attributes: str) -> Html:
    """Make an element; an attribute's trailing underscore is dropped, others become hyphens.

    Examples
    --------
    >>> tag("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    inside = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{inside}>{join(children)}</{name}>")


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = "",
    name: str = "",
) -> Html:
    """Make a table; numbers stand right, and a wide table scrolls in its own box.

    Parameters
    ----------
    head
        Names of the columns.
    rows
        Cells; numbers are rounded, a ``td`` element is taken as it is.
    caption
        What the table shows.
    name
        The id of the table's element.

    Examples
    --------
    >>> '<td class="number">0.3333</td>' in table(["rank", "loss"], [[1, 1 / 3]])
    True
    """
    rows = list(rows)
    body = join((tag("tr", *[_cell(value) for value in row]) for row in rows), "\n")
    first = next((row for row in rows if len(row) == len(head)), [])
    right = [_is_number(value) for value in first] or [False] * len(head)
    heads = [
        tag("th", value, scope="col", **({"class_": "number"} if is_number else {}))
        for value, is_number in zip(head, right, strict=True)
    ]
    inside = [tag("caption", caption)] if caption else []
    inside += [tag("thead", tag("tr", *heads)), tag("tbody", body)]
    whole = tag("table", *inside, **({"id": name} if name else {}))
    return tag("div", whole, class_=f"scroll {name}".strip(), tabindex="0")


def pairs(facts: Mapping[str, object], *, class_: str = "pairs") -> Html:
    """Make a list of names with what they stand for.

    Examples
    --------
    >>> pairs({"seed": 0})
    '<dl class="pairs"><dt>seed</dt><dd>0</dd></dl>'
    """
    inside = [part for k, v in facts.items() for part in (tag("dt", k), tag("dd", v))]
    return tag("dl", *inside, class_=class_)


def folded(summary: object, *inside: object, is_open: bool = False) -> Html:
    """Make a part that the reader opens.

    Examples
    --------
    >>> folded("traceback", "…")
    '<details><summary>traceback</summary>…</details>'
    """
    return tag("details", tag("summary", summary), *inside, **({"open": ""} if is_open else {}))


def number(value: Any) -> str:
    """Round to four digits; what is not finite is a dash.

    Examples
    --------
    >>> number(0.25), number(447850.0), number(float("nan")), number(1.5e-7)
    ('0.2500', '447850', '–', '1.500e-07')
    """
    value = float(value)
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:#.4g}"


def duration(seconds: float) -> str:
    """Say how long something took, in the two largest units.

    Examples
    --------
    >>> duration(0.25), duration(200.0), duration(90_000.0)
    ('0.25 s', '3 min 20 s', '25 h 0 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    large, small, size = ("min", "s", 60) if seconds < 3600 else ("h", "min", 3600)
    whole, rest = divmod(round(seconds / (size / 60)), 60)
    return f"{whole} {large} {rest} {small}"


def linked(value: object) -> Html:
    """Escape a text, and make its arXiv numbers and DOIs links.

    Examples
    --------
    >>> linked("arXiv:1901.00945")
    '<a href="https://arxiv.org/abs/1901.00945">arXiv:1901.00945</a>'
    """
    found, start = [], 0
    whole = str(value)
    for match in _REFERENCE.finditer(whole):
        arxiv, doi = match.groups()
        where = f"https://arxiv.org/abs/{arxiv}" if arxiv else f"https://doi.org/{doi}"
        found += [whole[start : match.start()], tag("a", match.group(), href=where)]
        start = match.end()
    return join([*found, whole[start:]])


def _cell(value: object) -> Html:
    if isinstance(value, Html) and value.startswith("<td"):
        return value
    if isinstance(value, bool | np.bool_):
        return tag("td", "yes" if value else "no")
    if _is_number(value):
        return tag("td", number(value), class_="number")
    return tag("td", value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
