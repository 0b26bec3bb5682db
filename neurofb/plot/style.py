"""How every figure looks: font sizes, spines, colours that colour-blind readers tell apart.

Colours after Okabe & Ito (2008); the ranks of low-rank feedback share one hue, darker as the rank
falls, so that the order is read without the legend.
"""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from neurofb.plot.study import low_rank_series

#: Settings of every figure, applied inside `context` only.
STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.titlesize": 10.0,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.2,
    "image.interpolation": "nearest",
}

#: Diverging, zero is white; red excites, blue suppresses.
RECEPTIVE_FIELD_COLOURS = "RdBu_r"

#: status -> (frame colour, frame line style, what the legend says). An "ok" unit has no frame.
STATUS_MARKS: dict[str, tuple[str, Literal["-", "--", ":"], str]] = {
    "unmoved": ("#E69F00", "-", "unmoved (still like its initialisation)"),
    "truncated": ("#CC79A7", "--", "truncated (reaches the edge of its support)"),
    "silent": ("#009E73", ":", "silent (never active on the images)"),
    "dead": ("black", "-", "dead (no gradient)"),
}

UNTRAINED_COLOUR = "#8a8a8a"
NOISE_COLOUR = "#c9b27c"

_BLUE, _GREEN, _PURPLE, _SKY, _YELLOW = "#0072B2", "#009E73", "#AA4499", "#56B4E9", "#B8A000"
_SERIES = ("Oranges", "RdPu", "Greys", "YlGn")
_RULES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_NORMALISATIONS = {
    "none": "no normalisation",
    "batch": "batch norm",
    "layer": "layer norm",
    "group": "group norm",
    "centre": "centre (mean removed)",
}
_SEED_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@contextmanager
def context() -> Iterator[None]:
    """Draw with `STYLE` inside the block, and leave the caller's settings alone after it.

    Examples
    --------
    >>> with context():
    ...     mpl.rcParams["axes.spines.top"]
    False
    """
    with mpl.rc_context(STYLE):
        yield


def condition_colours(dataset: xr.Dataset) -> dict[str, Any]:
    """Give every condition its colour.

    Low-rank conditions get shades of one hue a series (see `low_rank_series`), darker for a lower
    rank; the others get blue, green, purple, … in their order.
    """
    names = [str(name) for name in np.atleast_1d(dataset["condition"].values)]
    chosen: dict[int, Any] = {}
    for number, members in enumerate(low_rank_series(dataset).values()):
        shades = mpl.colormaps[_SERIES[number % len(_SERIES)]](np.linspace(0.95, 0.5, len(members)))
        chosen |= {index: tuple(shade) for index, shade in zip(members, shades, strict=True)}
    others = iter((_BLUE, _GREEN, _PURPLE, _SKY, _YELLOW) * len(names))
    return {
        name: chosen[index] if index in chosen else next(others) for index, name in enumerate(names)
    }


def seed_colours(dataset: xr.Dataset) -> dict[int, str]:
    """Give every seed its colour, in the order of the dataset (repeats after seven)."""
    seeds = np.atleast_1d(dataset["seed"].values)
    return {int(seed): _SEED_COLOURS[i % len(_SEED_COLOURS)] for i, seed in enumerate(seeds)}


def rule_colours(dataset: xr.Dataset) -> dict[str, str]:
    """Give every feedback rule its colour: black for BP, vermilion, blue, … for the others.

    Examples
    --------
    >>> rule_colours(xr.Dataset(coords={"rule": ["BP", "FA"]}))
    {'BP': 'black', 'FA': '#D55E00'}
    """
    names = [str(rule) for rule in np.atleast_1d(dataset["rule"].values)]
    others = iter(_RULES * len(names))
    return {name: "black" if name == "BP" else next(others) for name in names}


def panel_title(label: str) -> str:
    """Write out the kinds of normalisation in a label.

    Examples
    --------
    >>> panel_title("Adam, batch")
    'Adam, batch norm'
    """
    return ", ".join(_NORMALISATIONS.get(part, part) for part in label.split(", "))


def axis_label(array: xr.DataArray, *, width: int = 80) -> str:
    """Say what an axis shows, from the variable's long name and units, in lines of a width.

    Examples
    --------
    >>> axis_label(xr.DataArray(0.0, attrs={"long_name": "orientation", "units": "degree"}))
    'orientation (degree)'
    """
    name = str(array.attrs.get("long_name", array.name))
    units = str(array.attrs.get("units", "1"))
    return textwrap.fill(name if units == "1" else f"{name} ({units})", width)


def tidy(axes: Axes) -> None:
    """Fix the sizes of ticks now: matplotlib makes ticks when drawing, outside `context`."""
    axes.tick_params(axis="x", labelsize=STYLE["xtick.labelsize"], width=0.8)
    axes.tick_params(axis="y", labelsize=STYLE["ytick.labelsize"], width=0.8)


def title_size(name: str) -> float:
    """Return the font size of a column's title: smaller for a long name."""
    return STYLE["axes.titlesize"] if len(name) <= 16 else 7.5


def wrap_condition(name: str) -> str:
    """Break a condition's name into lines that fit under a tick.

    Examples
    --------
    >>> wrap_condition("dLDFA narrow").splitlines()
    ['dLDFA', 'narrow']
    """
    width = 8 if len(name) <= 16 else 12
    return textwrap.fill(name, width, break_long_words=False, break_on_hyphens=False)
