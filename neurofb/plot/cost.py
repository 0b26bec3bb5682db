"""What conditions cost, as shares of a reference."""

import textwrap
from collections.abc import Mapping
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from neurofb.plot.ssa import method_colour
from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, tidy


def cost_bars(
    dataset: xr.Dataset, *, reference: str = "BP", parts: Mapping[str, str] | None = None
) -> Figure:
    """Draw what each condition costs as shares of a reference: a panel a cost, a bar a condition.

    Parameters
    ----------
    dataset
        Any number of variables (condition); the panels, in their order.
    reference
        The condition whose cost is 100 %, the dotted line.
    parts
        Variable → another one that is contained in it, the hatched end of the bar, and no panel.

    Raises
    ------
    ValueError
        If there is no variable, or the reference is missing.

    Examples
    --------
    >>> costs = xr.Dataset({"parameters": ("condition", [200.0, 50.0])})
    >>> figure = cost_bars(costs.assign_coords(condition=["BP", "SSA-DFA r=0.1"]))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['100 %', '25 %']
    """
    require(dataset, dims=("condition",))
    names = [str(name) for name in dataset["condition"].values]
    if reference not in names or not dataset.data_vars:
        raise ValueError(
            f"dataset must have a variable and reference={reference!r} among {', '.join(names)}"
        )
    with context():
        parts = dict(parts or {})
        panels = [dataset[name] for name in dataset.data_vars if name not in parts.values()]
        size = (1.6 + 1.9 * len(panels), 1.0 + 0.26 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, cost in zip(grid, panels, strict=True):
            whole = float(cost.sel(condition=reference))
            share = 100 * cost / whole
            axes.barh(names, share.values, color=[method_colour(name) for name in names])
            if cost.name in parts:
                part = dataset[parts[str(cost.name)]]
                ends = 100 * part.values / whole
                hatched: dict[str, Any] = {"hatch": "////", "edgecolor": "white", "linewidth": 0}
                axes.barh(names, ends, left=share.values - ends, facecolor="none", **hatched)
                axes.bar(0, 0, facecolor="#888888", label=f"hatched: {axis_label(part)}", **hatched)
                figure.legend(loc="outside lower center")
            for row, value in enumerate(share.values):
                beside: dict[str, Any] = {"va": "center", "fontsize": 6.5}
                beside["bbox"] = {"facecolor": "white", "linewidth": 0, "pad": 0.4}
                axes.annotate(
                    f"{value:.0f} %", (value, row), (3, 0), textcoords="offset points", **beside
                )
            axes.axvline(100, color="black", linestyle=":", linewidth=0.9)
            axes.set_xlim(0, 1.3 * float(share.max()))
            title = textwrap.fill(str(cost.attrs.get("long_name", cost.name)), 30)
            axes.set_title(title, loc="left", fontsize=7.5)  # no units: these are shares
            axes.set_xlabel(f"% of {reference}")
            axes.set_ylim(len(names) - 0.4, -0.6)
            tidy(axes)
    return figure
