"""The grid of a scan: axes over settings, and the cells that are asked for."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

#: What an axis may be labelled with.
Label = str | int | float

#: Axes as a user writes them: a name, or several that go together, and the values.
Axes = Mapping[str, Iterable[Any]] | Mapping[str | tuple[str, ...], Iterable[Any]]


@dataclass(frozen=True)
class Axis:
    """One dimension of a scan: settings that change together, point by point.

    Parameters
    ----------
    names
        Dotted names of configuration fields, or arguments of the recipe. The last part of the first
        one names the dimension.
    points
        One tuple of values for each point, in the order of `names`. The first values label the
        points, so they are texts or numbers and all differ.

    Raises
    ------
    ValueError
        If there is no point, or the labels are not all of one kind and different.

    Examples
    --------
    >>> axis = Axis(("network.bottleneck", "feedback.rank"), ((4, 1), (8, 2)))
    >>> axis.dim, axis.labels
    ('bottleneck', (4, 8))
    """

    names: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        name = self.names[0]
        if not self.points:
            raise ValueError(f"axis {name!r} has no value")
        if not re.fullmatch(r"[^\W\d]\w*", self.dim):
            raise ValueError(f"axis {name!r} must be the name of a setting, such as feedback.rank")
        wrong = [point[0] for point in self.points if not isinstance(point[0], str | int | float)]
        if wrong:
            raise ValueError(
                f"axis {name!r}: {wrong[0]!r} cannot label a point; allowed: text, number (put a "
                "setting of another kind behind one of these, in one axis)"
            )
        kinds = {str if isinstance(label, str) else float for label in self.labels}
        if len(kinds) > 1:
            raise ValueError(f"axis {name!r} mixes texts and numbers: {list(self.labels)}")
        twice = [label for i, label in enumerate(self.labels) if label in self.labels[:i]]
        if twice:
            raise ValueError(f"axis {name!r} has the value {tidy(twice[0])!r} twice")
        if any(isinstance(label, float) and not np.isfinite(label) for label in self.labels):
            raise ValueError(f"axis {name!r}: labels must be finite, not {list(self.labels)}")
        if any(isinstance(label, int) and abs(label) > 2**53 for label in self.labels):
            raise ValueError(f"axis {name!r}: whole labels above 2**53 are not exact")

    @property
    def dim(self) -> str:
        """The name of the dimension."""
        return short_name(self.names[0])

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each point."""
        first = (point[0] for point in self.points)
        return tuple(str(label).lower() if isinstance(label, bool) else label for label in first)


@dataclass(frozen=True)
class Cell:
    """One cell of a scan.

    Parameters
    ----------
    labels
        Dimension → label: where it lies.
    settings
        Setting → value, of all axes.

    Examples
    --------
    >>> Cell({"rank": 4, "seed": 0}, {"feedback.rank": 4, "seed": 0}).name
    'rank=4,seed=0'
    """

    labels: Mapping[str, Label]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A name that is good for a folder and different for every cell."""
        return cell_name(self.labels)


def cell_name(labels: Mapping[str, Label]) -> str:
    """Return the name of the cell with these labels.

    Examples
    --------
    >>> cell_name({"rule": "BP / wide", "seed": 0})
    'rule=BP_wide,seed=0-064128a2'
    """
    parts = [(dim, str(tidy(label))) for dim, label in labels.items()]
    text = ",".join(f"{dim}={label}" for dim, label in parts)
    plain = re.sub(r"[^\w.,=+-]+", "_", text, flags=re.ASCII)[:120]
    simple = all(re.fullmatch(r"[\w.+-]*", label, flags=re.ASCII) for _, label in parts)
    if plain == text and simple:  # a comma in a label could make two cells look alike
        return text
    return f"{plain}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]}"


def make_axes(axes: Axes) -> tuple[Axis, ...]:
    """Return the axes of a scan, checked.

    Parameters
    ----------
    axes
        Name → values; or names → tuples of values, for settings that change together.

    Raises
    ------
    ValueError
        If there is no axis, a setting stands in two, or two would have the same dimension.

    Examples
    --------
    >>> make_axes({"feedback.rank": [1, 2], "seed": range(3)})[1].labels
    (0, 1, 2)
    >>> make_axes({("network.bottleneck", "feedback.rank"): [(4, 1), (8, 2)]})[0].dim
    'bottleneck'
    """
    made = []
    for name, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ValueError(f"axis {name!r}: its values must be a list, not {values!r}")
        names = (name,) if isinstance(name, str) else tuple(name)
        points = [_plain((value,) if isinstance(name, str) else value) for value in values]
        wrong = [point for point in points if len(point) != len(names)]
        if wrong or not names:
            raise ValueError(f"axis {names}: {wrong[:1]} must hold one value for each name")
        made.append(Axis(names, tuple(points)))
    if not made:
        raise ValueError("a scan needs at least one axis")
    short = [short_name(name) for axis in made for name in axis.names]
    twice = [name for i, name in enumerate(short) if name in short[:i]]
    if twice:
        raise ValueError(f"two settings of the axes are called {twice[0]!r}; names must differ")
    return tuple(made)


def short_name(setting: str) -> str:
    """Return the last part of a dotted name, which names a dimension.

    Examples
    --------
    >>> short_name("feedback.rank")
    'rank'
    """
    return setting.rpartition(".")[2]


def cells_of(axes: Sequence[Axis], where: str = "") -> list[Cell]:
    """Return the cells of a grid, the last axis fastest.

    Parameters
    ----------
    axes
        The axes, see `make_axes`.
    where
        An expression of the names of the axes (the last part of a dotted name), as
        `pandas.DataFrame.query` takes it; cells for which it is false are not asked for.

    Raises
    ------
    ValueError
        If the expression cannot be evaluated, or is true for no cell.

    Examples
    --------
    >>> axes = make_axes({"network.bottleneck": [2, 4], "feedback.rank": [2, 4]})
    >>> [cell.name for cell in cells_of(axes, "rank <= bottleneck")]
    ['bottleneck=2,rank=2', 'bottleneck=4,rank=2', 'bottleneck=4,rank=4']
    """
    cells = []
    for indices in itertools.product(*(range(len(axis.points)) for axis in axes)):
        chosen = list(zip(axes, indices, strict=True))
        labels = {axis.dim: axis.labels[i] for axis, i in chosen}
        settings = {
            name: value
            for axis, i in chosen
            for name, value in zip(axis.names, axis.points[i], strict=True)
        }
        cells.append(Cell(labels, settings))
    if not where:
        return cells
    table = pd.DataFrame(
        [
            {short_name(name): value for name, value in cell.settings.items()} | dict(cell.labels)
            for cell in cells
        ]
    )
    try:
        kept = table.query(where, engine="python").index
    except Exception as error:  # pandas hands on whatever the expression raises
        raise ValueError(
            f"where={where!r} cannot be evaluated ({error}); it may use {', '.join(table)}"
        ) from None
    if not len(kept):
        raise ValueError(f"where={where!r} is true for none of the {len(cells)} cells")
    return [cells[i] for i in kept]


def tidy(label: Any) -> Any:
    """Bring a whole number to `int`: 4.0 and 4 are one label.

    Examples
    --------
    >>> tidy(4.0), tidy(0.5)
    (4, 0.5)
    """
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _plain(point: Iterable[Any]) -> tuple[Any, ...]:
    """Bring numpy's numbers to Python's."""
    return tuple(value.item() if isinstance(value, np.generic) else value for value in point)
