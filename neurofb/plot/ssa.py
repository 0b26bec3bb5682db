"""SSA, learning in SVD space: accuracy by parameters, and angles to backpropagation."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

#: method → its colour: one hue a way of the error, dark where weights are dense
METHOD_COLOURS = {
    "BP": "#000000",
    "SVD-BP": "#7f7f7f",
    "FA": "#0072B2",
    "SSA-FA": "#56B4E9",
    "DFA": "#A23B00",
    "SSA-DFA": "#E8842A",
    "tracking": "#009E73",
}
#: of dense weights, then of ranks as they fall
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)))
_UNRELATED: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linewidth": 0.7}


def method_colour(condition: str) -> str:
    """Return the colour of a condition by the method that its label begins with.

    Feedback that follows the weights ("…, tracking") has a colour of its own.

    Examples
    --------
    >>> method_colour("SSA-DFA r=0.1") == method_colour("SSA-DFA, Adam 0.001, retract")
    True
    >>> method_colour("something else")
    '#8a8a8a'
    """
    if condition.endswith("tracking"):
        return METHOD_COLOURS["tracking"]
    return METHOD_COLOURS.get(re.split(r"[ ,]", condition)[0], UNTRAINED_COLOUR)


def accuracy_against_parameters(
    dataset: xr.Dataset, *, ceiling: str = "BP", null: str = "DFA", within: float = 0.01
) -> Figure:
    """Draw test accuracy against the number of parameters, every seed shown.

    Small dots are seeds, large ones means over seeds, named beside them; lines join the ranks of
    one method. The full line is the mean of the ceiling, the dashed one that of the dense null, the
    band reaches `within` to both sides of it.

    Parameters
    ----------
    dataset
        `test_accuracy` (condition, seed) and `num_parameters` (condition).
    ceiling, null
        Conditions that the others are held against; left out where the dataset has none.
    within
        Half of the band's height; 0.01 is one point.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> table = xr.Dataset({"test_accuracy": (("condition", "seed"), [[0.9, 0.8], [0.8, 0.8]])})
    >>> names = {"condition": ["BP", "SSA-DFA r=0.1"], "seed": [0, 1]}
    >>> table = table.assign(num_parameters=("condition", [269_322, 42_042]))
    >>> accuracy_against_parameters(table.assign_coords(names)).axes[0].get_xscale()
    'log'
    """
    require(dataset, "test_accuracy", "num_parameters")
    accuracy = dataset["test_accuracy"].transpose("condition", "seed")
    size = dict(zip(_names(dataset), dataset["num_parameters"].values.tolist(), strict=True))
    means = dict(zip(size, accuracy.mean("seed").values.tolist(), strict=True))
    with context():
        figure = Figure(figsize=(6.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, style in ((ceiling, "-"), (null, "--")):
            if name in means:
                colour = method_colour(name)
                axes.axhline(means[name], color=colour, linewidth=0.9, linestyle=style, zorder=1)
        if null in means:
            band = means[null] - within, means[null] + within
            axes.axhspan(*band, color=method_colour(null), alpha=0.1, linewidth=0)
        for (name, seeds), colour in zip(
            zip(size, accuracy.values, strict=True), map(method_colour, size), strict=True
        ):
            at = np.full(seeds.size, size[name])
            dot: dict[str, Any] = {"edgecolor": "white", "linewidths": 0.4, "zorder": 3}
            axes.scatter(at, seeds, s=12, color=colour, gid=name, **dot)
            axes.scatter(size[name], means[name], s=50, color=colour, alpha=0.85, **dot)
        for group in _by_method(size).values():
            line = sorted((size[name], means[name]) for name in group)
            axes.plot(*zip(*line, strict=True), color=method_colour(group[0]), linewidth=1.3)
        axes.set_xscale("log")
        numbers = sorted(set(size.values()))
        axes.set_xlim(numbers[0] / 1.35, numbers[-1] * 1.35)
        ticks = _apart(numbers)
        axes.set_xticks(ticks, [f"{number:,}".replace(",", " ") for number in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("parameters that the network trains (log scale)")
        axes.set_ylabel(axis_label(dataset["test_accuracy"]))
        _name_points(axes, size, means)
        handles = [
            Line2D([], [], color="#555555", marker="o", markersize=3, linestyle="", label="seed"),
            Line2D([], [], color="#555555", marker="o", markersize=6, linestyle="", label="mean"),
        ]
        if null in means:
            text = f"dense {null} ± {100 * within:g} point" + ("" if within == 0.01 else "s")
            handles.append(Line2D([], [], color=method_colour(null), linestyle="--", label=text))
        if ceiling in means:
            handles.append(Line2D([], [], color=method_colour(ceiling), label=f"dense {ceiling}"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        tidy(axes)
    return figure


def angle_curves(
    dataset: xr.Dataset, *, measure: str = "gradient_angle", layers: Sequence[str] | None = None
) -> Figure:
    """Draw the angle of each layer's gradient to backpropagation's over epochs, a panel a layer.

    Thin lines are seeds, thick ones means over seeds, colours methods; each rank has one style of
    line, dense weights a full one. The thin grey line is 90 degrees, what unrelated gradients would
    have. Conditions that diverged end where they did.

    Parameters
    ----------
    dataset
        The measure over (condition, seed, epoch, layer), as studies have it under ``/error_rank``.
    measure
        Name of the variable, in degrees.
    layers
        Panels; by default all in which an angle is more than a degree.

    Raises
    ------
    ValueError
        If the variable, a dim or a layer is missing, or there is nothing to draw.

    Examples
    --------
    >>> dims = ("condition", "seed", "epoch", "layer")
    >>> angle = xr.DataArray([[[[90.0], [70.0]]]], dims=dims, attrs={"units": "degree"})
    >>> names = {"condition": ["DFA"], "seed": [0], "epoch": [0, 6], "layer": ["hidden_1"]}
    >>> figure = angle_curves(xr.Dataset({"gradient_angle": angle}, names))
    >>> figure.axes[0].get_title(loc="left")
    'hidden_1'
    """
    require(dataset, measure, dims=("condition", "seed", "epoch", "layer"))
    values = dataset[measure].transpose("layer", "condition", "seed", "epoch")
    have = [str(name) for name in values["layer"].values]
    if missing := [name for name in layers or () if name not in have]:
        raise ValueError(f"layers: no layer {missing[0]!r}; the dataset has {', '.join(have)}")
    moving = values.max(["condition", "seed", "epoch"]) > 1
    chosen = list(layers) if layers else [n for n, m in zip(have, moving.values, strict=True) if m]
    if not chosen:
        raise ValueError(f"dataset: {measure} is 0 or NaN in all of {', '.join(have)}")
    dashes = _dashes(_names(dataset))
    with context():
        size = (1.9 + 2.3 * len(chosen), 3.0)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
        for axes, layer in zip(grid, chosen, strict=True):
            for (name, dash), one in zip(dashes.items(), values.sel(layer=layer), strict=True):
                style: dict[str, Any] = {"color": method_colour(name), "linestyle": dash}
                axes.plot(one["epoch"], one.values.T, linewidth=0.5, alpha=0.5, gid="seed", **style)
                axes.plot(one["epoch"], one.mean("seed"), linewidth=1.8, gid=name, **style)
            axes.axhline(90, zorder=0, gid="unrelated", **_UNRELATED)
            axes.set_title(layer, loc="left")
            axes.set_xlabel("epoch")
            tidy(axes)
        grid[0].set_ylabel(axis_label(values, width=32))
        grid[0].set_ylim(bottom=min(0.0, float(values.min())) - 1)
        styles: list[dict[str, Any]] = [
            {"color": method_colour(name), "linestyle": dash, "label": name}
            for name, dash in dashes.items()
        ]
        handles = [Line2D([], [], linewidth=1.8, **style) for style in styles]
        handles.append(Line2D([], [], label="unrelated, 90°", **_UNRELATED))
        title = "colour: method, line: rank\nthin: seeds, thick: their mean"
        figure.legend(handles=handles, loc="outside right upper", title=title, title_fontsize=7.5)
    return figure


def _names(dataset: xr.Dataset) -> list[str]:
    return [str(name) for name in dataset["condition"].values]


def _by_method(names: Sequence[str] | dict[str, Any]) -> dict[str, list[str]]:
    """Group conditions that differ in the rank alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"r=[\d.]+", "", name), []).append(name)
    return groups


def _dashes(names: Sequence[str]) -> dict[str, Any]:
    """Give every rank its style of line, the same for all methods; a full one without a rank."""
    found = {name: re.search(r"r=([\d.]*\d)", name) for name in names}
    rank = {name: float(match[1]) for name, match in found.items() if match}
    order = sorted(set(rank.values()), reverse=True)
    later = _DASHES[1:]
    return {
        name: later[order.index(rank[name]) % len(later)] if name in rank else _DASHES[0]
        for name in names
    }


def _apart(numbers: Sequence[int]) -> list[int]:
    """Leave out numbers whose names would touch on a logarithmic axis."""
    kept: list[int] = []
    for number in reversed(numbers):
        if not kept or kept[-1] / number > 1.18:
            kept.append(number)
    return kept[::-1]


def _name_points(axes: Axes, size: dict[str, int], means: dict[str, float]) -> None:
    """Write each condition's name beside its mean, on the side where there is more room."""
    low, high = axes.get_ylim()
    step = (high - low) / 19
    numbers = sorted(set(size.values()))
    edges = [axes.get_xlim()[0], *numbers, axes.get_xlim()[1]]
    for left, number, right in zip(edges, numbers, edges[2:], strict=False):
        here = sorted((n for n in size if size[n] == number), key=lambda name: means[name])
        heights = np.array([means[name] for name in here])
        for i in range(1, len(here)):
            heights[i] = max(heights[i], heights[i - 1] + step)
        heights -= np.mean(heights - [means[name] for name in here])
        is_right = right / number >= number / left
        place: dict[str, Any] = {"xytext": (7 if is_right else -7, 0), "va": "center"}
        place["ha"] = "left" if is_right else "right"
        place["bbox"] = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}
        for name, height in zip(here, heights, strict=True):
            colour = method_colour(name)
            where = (number, height)
            axes.annotate(
                name, where, textcoords="offset points", fontsize=6.8, color=colour, **place
            )
