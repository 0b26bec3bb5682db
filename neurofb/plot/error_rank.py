"""Effective rank of the error over depth and over epochs, rule beside rule."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import (
    UNTRAINED_COLOUR,
    axis_label,
    context,
    panel_title,
    rule_colours,
    tidy,
)

_START: Mapping[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": "-.", "linewidth": 1.2}
_RAW: Mapping[str, Any] = {"linestyle": (0, (3, 2)), "linewidth": 1.0}
_CEILING: Mapping[str, Any] = {"color": "#999999", "linestyle": "-", "linewidth": 0.8}
_GREY = "#555555"
_OUTPUT: Mapping[str, Any] = {"color": "#666666", "linestyle": ":", "linewidth": 1.2}


def rank_over_depth(
    dataset: xr.Dataset,
    *,
    rows: str = "normalisation",
    columns: str = "optimiser",
    raw: bool = True,
) -> Figure:
    """Draw the rank of the error against depth at the end of training, a line a rule.

    Thick lines are means over seeds of the rank of the row-normalised error (each image's error
    divided by its norm), dots its seeds, thin dashed lines means of the raw error's rank. Grey
    dash-dots are the same network before training, row-normalised, the mean of all rules; a thin
    line on top is the highest rank possible, a dotted one that of an output error, classes − 1.
    Numbers are mean test accuracies. The legend has the rules that are drawn.

    Parameters
    ----------
    dataset
        `error_rank` and `error_rank_normalised` (rule, `rows`, `columns`, seed, epoch, layer),
        `test_accuracy` (the same without epoch and layer), `ceiling` (layer), and as attributes or
        not `num_classes` and `definition`, that of the rank.
    rows, columns
        Dims whose entries make rows and columns of panels. A row or column without values is left
        out.
    raw
        Whether the raw error's rank is drawn too.

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> from neurofb.plot.example_rank import example_rank_study
    >>> figure = rank_over_depth(example_rank_study())
    >>> figure.axes[0].get_title(loc="left")
    'SGD, no normalisation'
    """
    names = ("error_rank", "error_rank_normalised")
    require(dataset, *names, "ceiling", "test_accuracy", dims=("rule", rows, columns, "layer"))
    layers = short_layers([str(name) for name in dataset["layer"].values])
    with context():
        figure, grid = _panels(dataset, rows, columns)
        for axes, panel in grid:
            place = np.arange(panel.sizes["layer"])
            start = panel["error_rank_normalised"].isel(epoch=0).mean(["rule", "seed"])
            axes.plot(place, start, gid="start", **_START)
            axes.plot(place, panel["ceiling"], gid="ceiling", **_CEILING)
            _draw_output(axes, dataset)
            for rule, colour in rule_colours(dataset).items():
                one = _last(panel.sel(rule=rule))
                values = one["error_rank_normalised"].transpose("layer", "seed")
                if not bool(values.notnull().any()):
                    continue
                if raw:
                    mean = one["error_rank"].mean("seed")
                    axes.plot(place, mean, color=colour, gid=f"raw {rule}", **_RAW)
                axes.plot(place, values.mean("seed"), color=colour, linewidth=2.0, gid=rule)
                axes.plot(place, values, "o", color=colour, markersize=2.5, gid="seed")
            _write_accuracies(axes, panel, dataset)
            axes.set_xticks(place, layers)
        _label(grid, f"layer (output behind {layers[-1]})", dataset)
        more = [Line2D([], [], color=_GREY, label="raw error, mean", **_RAW)] if raw else []
        text = "before training (row-normalised, mean of rules)"
        more.append(Line2D([], [], label=text, **_START))
        dot: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": ""}
        _explain(figure, dataset, [Line2D([], [], color=_GREY, label="seed", **dot), *more])
    return figure


def rank_over_epochs(
    dataset: xr.Dataset,
    *,
    layer: str | None = None,
    rows: str = "normalisation",
    columns: str = "optimiser",
) -> Figure:
    """Draw the rank of one layer's error against the epoch, a line a rule, every seed shown.

    Thin lines are seeds, thick lines means; the rank is that of the row-normalised error. The
    dotted line is the rank of an output error, classes − 1, the thin one the highest possible.

    Parameters
    ----------
    dataset, rows, columns
        As for `rank_over_depth`.
    layer
        The layer; by default the last of the dataset.

    Raises
    ------
    ValueError
        If a variable, a dim or the layer is missing.

    Examples
    --------
    >>> from neurofb.plot.example_rank import example_rank_study
    >>> rank_over_epochs(example_rank_study()).axes[-1].get_xlabel()
    'epoch'
    """
    names = ("error_rank_normalised", "ceiling", "test_accuracy")
    require(dataset, *names, dims=("rule", rows, columns, "layer", "epoch"))
    layers = [str(name) for name in dataset["layer"].values]
    chosen = layers[-1] if layer is None else layer
    if chosen not in layers:
        raise ValueError(f"layer={layer!r} is not in the dataset, which has {', '.join(layers)}")
    here = dataset.sel(layer=chosen)
    with context():
        figure, grid = _panels(here, rows, columns)
        for axes, panel in grid:
            axes.axhline(float(panel["ceiling"]), gid="ceiling", **_CEILING)
            _draw_output(axes, dataset)
            for rule, colour in rule_colours(dataset).items():
                values = panel["error_rank_normalised"].sel(rule=rule).transpose("epoch", "seed")
                values = values.dropna("epoch", how="all")
                if not values.size:
                    continue
                epoch = values["epoch"].values
                axes.plot(epoch, values, color=colour, linewidth=0.7, alpha=0.6, gid="seed")
                mean = values.mean("seed")
                axes.plot(epoch, mean, "o-", color=colour, linewidth=2, markersize=3, gid=rule)
            _write_accuracies(axes, panel, here)
        _label(grid, "epoch", dataset)
        _explain(figure, dataset, [], where=f", in {chosen}", more="thin: seeds; ")
    return figure


def short_layers(layers: list[str]) -> list[str]:
    """Return the names of layers without what they share at the start.

    Examples
    --------
    >>> short_layers(["hidden_1", "hidden_2"]), short_layers(["stem", "blocks.0.conv_1"])
    (['1', '2'], ['stem', '0.1'])
    """
    return [
        name.replace("blocks.", "").replace("conv_", "").replace("hidden_", "") for name in layers
    ]


def _panels(
    dataset: xr.Dataset, rows: str, columns: str
) -> tuple[Figure, list[tuple[Axes, xr.Dataset]]]:
    """Return a figure, and its axes with what belongs into each; empty ones are blank."""
    have = dataset["error_rank_normalised"].notnull()
    down, right = (
        [str(v) for v in dataset[dim].values[have.any(set(have.dims) - {dim}).values]]
        for dim in (rows, columns)
    )
    width = 2.0 if len(right) <= 3 else 1.9
    size = (max(1.2 + width * len(right), 4.2), 1.3 + 1.55 * len(down))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(down), len(right), sharex=True, sharey=True, squeeze=False)
    found = []
    for i, row in enumerate(down):
        for j, column in enumerate(right):
            panel = dataset.sel({rows: row, columns: column})
            if not bool(panel["error_rank_normalised"].notnull().any()):
                axes[i, j].set_axis_off()
                continue
            title = panel_title(f"{column}, {row}")
            axes[i, j].set_title(title, loc="left", fontweight="bold", fontsize=7.5)
            tidy(axes[i, j])
            found.append((axes[i, j], panel))
    return figure, found


def _label(grid: list[tuple[Axes, xr.Dataset]], x: str, dataset: xr.Dataset) -> None:
    """Write what the axes show, at the left column and the lowest row of panels."""
    kind = f" ({dataset.attrs['definition']})" if "definition" in dataset.attrs else ""
    for axes, _ in grid:
        spec = axes.get_subplotspec()
        if spec is not None and spec.is_last_row():
            axes.set_xlabel(x)
        if spec is not None and spec.is_first_col():
            axes.set_ylabel(f"effective rank{kind}")


def _last(panel: xr.Dataset) -> xr.Dataset:
    """Return the ranks at the last epoch at which they were measured."""
    have = panel["error_rank_normalised"].notnull().any(["seed", "layer"])
    return panel.isel(epoch=int(np.flatnonzero(have.values).max(initial=0)))


def _draw_output(axes: Axes, dataset: xr.Dataset) -> None:
    """Mark the rank of an output error, where the number of classes is known."""
    if "num_classes" in dataset.attrs:
        axes.axhline(float(dataset.attrs["num_classes"]) - 1, gid="output", **_OUTPUT)


def _write_accuracies(axes: Axes, panel: xr.Dataset, dataset: xr.Dataset) -> None:
    """Write each rule's mean test accuracy above the highest rank, in its colour."""
    axes.set_ylim(0, 1.2 * float(dataset["ceiling"].max()))
    means = panel["test_accuracy"].mean("seed")
    x = 0.02
    for rule, colour in rule_colours(dataset).items():
        if bool(means.sel(rule=rule).isnull()):
            continue
        text = f"{rule} {100 * float(means.sel(rule=rule)):.0f} %"
        axes.text(x, 0.91, text, color=colour, transform=axes.transAxes, fontsize=7)
        x += 0.03 * len(text) + 0.05


def _explain(
    figure: Figure,
    dataset: xr.Dataset,
    handles: list[Line2D],
    *,
    where: str = "",
    more: str = "",
) -> None:
    """Put the legend below the figure: rules that are drawn, these handles, and what all have."""
    drawn = dataset["error_rank_normalised"].notnull()
    rules = [
        Line2D([], [], color=colour, linewidth=2.0, label=rule)
        for rule, colour in rule_colours(dataset).items()
        if bool(drawn.sel(rule=rule).any())
    ]
    handles = [*rules, *handles]
    if "num_classes" in dataset.attrs:
        handles.append(Line2D([], [], label="classes − 1", **_OUTPUT))
    handles.append(Line2D([], [], label="highest possible", **_CEILING))
    name = axis_label(dataset["error_rank_normalised"])
    title = f"thick: {name}{where}, mean of seeds; {more}numbers: test accuracy"
    title = textwrap.fill(title, int(18 * figure.get_figwidth()))
    ncols = min(len(handles), max(2, int(figure.get_figwidth() / 1.7)))
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": ncols, "columnspacing": 1.2}
    figure.legend(handles=handles, title=title, title_fontsize=7.5, **place)
