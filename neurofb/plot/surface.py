"""A measure over bottleneck × feedback rank × route: heat maps, every seed, nulls, verdicts."""

from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from neurofb.plot.study import require
from neurofb.plot.style import NOISE_COLOUR, UNTRAINED_COLOUR, context, tidy

_COLOURS = {"exact": "#0072B2", "stepwise": "#D55E00", "direct": "#009E73"}
_MARKERS = {"exact": "D", "stepwise": "o", "direct": "s"}
#: state of a cell that has no number -> (hatch, word)
_STATES = {"pending": ("////", "…"), "failed": ("xxxx", "failed"), "no unit": ("....", "no unit")}
_DIMS = ("route", "bottleneck", "rank", "seed")


def symmetry_surface(
    dataset: xr.Dataset,
    *,
    measure: str = "rotational_symmetry",
    null: Literal["noise", "untrained"] = "noise",
    statements: bool = True,
) -> Figure:
    """Draw a measure over bottleneck and feedback rank, one map a route, with nulls and verdicts.

    Top: medians over seeds; below each number the seeds above their null and the test accuracy; a
    ring marks cells where not every seed is above. Cells that were not asked for are empty;
    pending, failed and unit-less ones are hatched. Middle: one panel a bottleneck, every seed a
    dot, lines through medians; bands and dashes are the nulls. Bottom: the dataset's statements,
    every seed's difference a dot.

    Parameters
    ----------
    dataset
        What ``analyses/symmetry_surface.py`` returns: `measure` and its nulls (route, bottleneck,
        rank, seed), ``status``, ``test_accuracy``, and over the first three
        ``<measure>_median`` and ``<measure>_num_above_<null>``. Route "exact" has one rank a
        bottleneck.
    measure
        Name of the measure.
    null
        What a seed has to exceed: 95 % of the noise with its fields' spectrum, or the network
        before training. (Noise keeps what depends on the spectrum alone, as gOSI does.)
    statements
        Whether the statements are drawn, if the dataset has any.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> import numpy as np
    >>> one = xr.DataArray(np.full((1, 1, 1, 1), 0.6), dims=("route", "bottleneck", "rank", "seed"))
    >>> names = {"": one, "_untrained": one, "_noise": one, "_noise_low": one, "_noise_high": one}
    >>> names |= {"_median": one[..., 0], "_num_above_noise": one[..., 0] * 0}
    >>> scan = xr.Dataset({f"rotational_symmetry{ending}": a for ending, a in names.items()})
    >>> scan = scan.assign(status=one * 0 + 1, test_accuracy=one)
    >>> scan = scan.assign_coords(route=["direct"], bottleneck=[4], rank=[2], seed=[0])
    >>> symmetry_surface(scan).axes[0].get_title(loc="left")
    'direct'
    """
    endings = ("", "_untrained", "_noise_low", "_noise_high", "_median", f"_num_above_{null}")
    names = [f"{measure}{ending}" for ending in endings]
    require(dataset, *names, "status", "test_accuracy", dims=_DIMS)
    with_statements = statements and "statement_difference" in dataset
    heights = [2.9, 2.7, 0.5 + 0.2 * dataset.sizes["statement"]] if with_statements else [2.9, 2.7]
    with context():
        figure = Figure(figsize=(8.6, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        shown = dataset.assign(above=dataset[f"{measure}_num_above_{null}"])
        _draw_maps(parts[0], shown, measure, null)
        _draw_lines(parts[1], shown, measure, null)
        if with_statements:
            _draw_statements(parts[2], dataset)
    return figure


def exact_column(dataset: xr.Dataset) -> xr.Dataset:
    """Return the route "exact" without its rank: the one that was asked for at each bottleneck.

    Examples
    --------
    >>> status = xr.DataArray([[[[-1], [1]]]], dims=("route", "bottleneck", "rank", "seed"))
    >>> cells = xr.Dataset({"status": status}, {"route": ["exact"], "rank": [2, 4]})
    >>> exact_column(cells).status.values.tolist()
    [[1]]
    """
    exact = dataset.sel(route="exact")
    asked = (exact["status"] >= 0).any("seed")
    return exact.isel(rank=asked.argmax("rank"))


def _draw_maps(part: SubFigure, dataset: xr.Dataset, measure: str, null: str) -> None:
    """Draw one map a route, backpropagation as a single column."""
    routes = [str(route) for route in dataset["route"].values]
    num_ranks = dataset.sizes["rank"]
    widths = [1.25 if route == "exact" else num_ranks for route in routes]
    grid = part.subplots(1, len(routes), squeeze=False, sharey=True, width_ratios=widths)[0]
    largest = float(np.nanmax(np.append(dataset[f"{measure}_median"].values.ravel(), 0.01)))
    top = 1.0 if measure == "rotational_symmetry" else largest
    image = None
    for axes, route in zip(grid, routes, strict=True):
        one = dataset.sel(route=[route])
        if route == "exact":
            column = exact_column(one)
            one = column.drop_vars("rank").expand_dims(rank=[0])
        else:
            one = one.squeeze("route")
        one = one.transpose("bottleneck", "rank", ...)
        values = one[f"{measure}_median"].values
        masked = np.ma.masked_invalid(values)
        image = axes.imshow(masked, origin="lower", cmap="viridis", vmin=0, vmax=top, aspect="auto")
        _write_cells(axes, one, measure, top)
        axes.set_title(route, loc="left", fontweight="bold", color=_COLOURS.get(route, "black"))
        ranks = ["BP"] if route == "exact" else [f"{rank:g}" for rank in one["rank"].values]
        axes.set_xticks(np.arange(len(ranks)), ranks)
        axes.set_xlabel("" if route == "exact" else _rank_label(route))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    bottlenecks = dataset["bottleneck"].values
    grid[0].set_yticks(np.arange(bottlenecks.size), [f"{width:g}" for width in bottlenecks])
    grid[0].set_ylabel("bottleneck (retinal outputs)")
    limit = "95 % of their noise" if null == "noise" else "the network before training"
    text = f"median over seeds; below it the seeds above {limit} (○: not all), and test accuracy"
    part.suptitle(text, x=0.01, ha="left", fontsize=7.5)
    if image is not None:
        part.colorbar(image, ax=list(grid), label=_name(measure), fraction=0.03, pad=0.01)


def _write_cells(axes: Axes, one: xr.Dataset, measure: str, top: float) -> None:
    """Write numbers into the cells of one map, and hatch those that have none."""
    values, above = one[f"{measure}_median"].values, one["above"].values
    accuracy = one["test_accuracy"].median("seed", skipna=True).values
    done = (one["status"] == 1).sum("seed").values
    for row, column in np.ndindex(*values.shape):
        state = _state(one["status"].isel(bottleneck=row, rank=column).values)
        if state == "done" and not np.isfinite(values[row, column]):
            state = "no unit"
        if state in _STATES:
            hatch, word = _STATES[state]
            box = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch=hatch)
            box.set(edgecolor="#bbbbbb", linewidth=0, gid=state)
            axes.add_patch(box)
            behind = {"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "none"}
            axes.text(column, row, word, ha="center", va="center", fontsize=7, bbox=behind)
        if state != "done":
            continue
        colour = "white" if values[row, column] < 0.6 * top else "black"
        every = above[row, column] == done[row, column]
        text = f"{values[row, column]:.2f}{'' if every else ' ○'}"
        bold = "bold" if every else "normal"
        kind: dict[str, Any] = {"ha": "center", "color": colour}
        axes.text(column, row + 0.02, text, va="bottom", fontsize=8, fontweight=bold, **kind)
        small = f"{above[row, column]:.0f}/{done[row, column]:.0f}  {accuracy[row, column]:.0%}"
        axes.text(column, row - 0.06, small, va="top", fontsize=5.5, **kind)


def _draw_lines(part: SubFigure, dataset: xr.Dataset, measure: str, null: str) -> None:
    """Draw one panel a bottleneck: every seed of every route against rank, over the nulls."""
    widths = dataset["bottleneck"].values
    grid = part.subplots(1, widths.size, squeeze=False, sharey=True)[0]
    ranks = [f"{rank:g}" for rank in dataset["rank"].values]
    routes = [str(route) for route in dataset["route"].values]
    others = [route for route in routes if route != "exact"]
    for axes, width in zip(grid, widths, strict=True):
        one = dataset.sel(bottleneck=width)
        low, high, before = (
            _middle(one[f"{measure}_{ending}"])
            for ending in ("noise_low", "noise_high", "untrained")
        )
        if null == "noise" and np.isfinite(low):
            axes.axhspan(low, high, color=NOISE_COLOUR, alpha=0.35, linewidth=0, gid="noise")
        if np.isfinite(before):
            axes.axhline(before, color=UNTRAINED_COLOUR, linestyle="--", gid="untrained")
        for number, route in enumerate(others):
            shift = 0.22 * (number - (len(others) - 1) / 2)
            here = one.sel(route=route).transpose("rank", "seed", ...)
            _draw_route(axes, np.arange(len(ranks)) + shift, here, measure, route)
        ticks = ranks
        if "exact" in routes:
            column = exact_column(dataset.sel(bottleneck=[width])).transpose(
                "bottleneck", "seed", ...
            )
            _draw_route(axes, np.array([len(ranks) + 0.3]), column, measure, "exact")
            middle = float(column[f"{measure}_median"].values[0])
            axes.axhline(middle, color=_COLOURS["exact"], linewidth=0.7, alpha=0.6, zorder=1)
            ticks = [*ranks, "BP"]
        axes.set_xticks([*range(len(ranks)), len(ranks) + 0.3][: len(ticks)], ticks)
        axes.set_xlim(-0.5, len(ranks) - 0.5 if ticks == ranks else len(ranks) + 0.8)
        axes.set_title(f"bottleneck {width:g}", loc="left")
        axes.set_xlabel("feedback rank")
        tidy(axes)
    grid[0].set_ylabel(_name(measure))
    grid[0].set_ylim(bottom=min(0.0, grid[0].get_ylim()[0]))
    if measure == "rotational_symmetry":
        grid[0].set_ylim(0, 1.03)
    _explain(part, routes, null)


def _draw_route(axes: Axes, at: np.ndarray, one: xr.Dataset, measure: str, route: str) -> None:
    """Draw the seeds of one route as dots, and a line through the medians over seeds."""
    values, middle = one[measure].values, one[f"{measure}_median"].values
    colour, marker = _COLOURS.get(route, "black"), _MARKERS.get(route, "o")
    x = np.broadcast_to(at[:, None], values.shape)
    finite = np.isfinite(values)
    axes.scatter(
        x[finite], values[finite], s=13, marker=marker, color=colour, edgecolor="white",
        linewidths=0.4, zorder=3, gid=route,
    )  # fmt: skip
    have = np.isfinite(middle)
    axes.hlines(middle[have], at[have] - 0.15, at[have] + 0.15, color=colour, linewidth=1.8)
    axes.plot(at, middle, color=colour, linewidth=1.6, zorder=2, gid=f"{route} median")


def _explain(part: FigureBase, routes: list[str], null: str) -> None:
    """Explain dots, lines, band and dashes below the panels."""
    handles: list[Artist] = [
        Line2D([], [], color=_COLOURS.get(route, "black"), marker=_MARKERS.get(route, "o"),
               markersize=4, label=f"{route}: seeds, median")
        for route in routes
    ]  # fmt: skip
    if null == "noise":
        label = "noise of equal spectrum, 5–95 %"
        handles.append(Patch(facecolor=NOISE_COLOUR, alpha=0.35, label=label))
    handles.append(Line2D([], [], color=UNTRAINED_COLOUR, linestyle="--", label="before training"))
    part.legend(
        handles=handles, loc="outside lower center", ncols=5, columnspacing=1.2, handlelength=1.6
    )


def _draw_statements(part: SubFigure, dataset: xr.Dataset) -> None:
    """Draw a row a statement: each seed's difference, and whether the statement holds."""
    axes = part.subplots()
    names = [str(text) for text in dataset["statement"].values]
    rows = np.arange(len(names))[::-1]
    holds = dataset["statement_holds"].values == 1
    differences = dataset["statement_difference"].transpose("statement", "seed").values
    axes.axvline(0, color="#999999", linewidth=0.8)
    for row, one, good in zip(rows, differences, holds, strict=True):
        finite = one[np.isfinite(one)]
        face = "black" if good else "white"
        axes.scatter(finite, np.full(finite.size, row), s=16, facecolor=face, edgecolor="black",
                     linewidths=0.8, zorder=3, alpha=0.8)  # fmt: skip
    counts = zip(
        names,
        dataset["statement_num_agreeing"].values,
        dataset["statement_num_seeds"].values,
        holds,
        strict=True,
    )
    words = [
        f"{name}: {'HOLDS' if good else 'does not hold'}, {k:.0f} of {n:.0f}"
        for name, k, n, good in counts
    ]
    axes.set_yticks(rows, words)
    for label, good in zip(axes.get_yticklabels(), holds, strict=True):
        label.set_fontweight("bold" if good else "normal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("each seed's trend (−Kendall's τ) or difference; to the right of 0 it agrees")
    axes.spines["left"].set_visible(False)
    tidy(axes)
    axes.tick_params(axis="y", length=0, labelsize=7)


def _state(status: np.ndarray) -> str:
    """Return what to draw for a cell of several seeds."""
    if (status == 1).any():
        return "done"
    if (status == 0).any():
        return "pending"
    return "failed" if (status == 2).any() else "absent"


def _middle(values: xr.DataArray) -> float:
    """Return the median of all that is finite, or NaN."""
    finite = values.values[np.isfinite(values.values)]
    return float(np.median(finite)) if finite.size else np.nan


def _rank_label(route: str) -> str:
    """Say what a rank counts on a route."""
    words = {"stepwise": "dimensions at every pixel", "direct": "numbers an image"}
    return f"feedback rank ({words[route]})" if route in words else "feedback rank"


def _name(measure: str) -> str:
    """Return a measure's name in words."""
    return measure.replace("_", " ")
