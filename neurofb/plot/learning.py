"""Loss and accuracy while training."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, condition_colours, context, tidy


def learning_curves(dataset: xr.Dataset, *, smooth: int = 5) -> Figure:
    """Draw training loss and accuracy against the step, and test accuracy at the end.

    Thin lines are seeds, thick lines medians over seeds, colours conditions. The dots right of the
    accuracy curves are test accuracies, one a seed.

    Parameters
    ----------
    dataset
        A study with `loss` and `accuracy` (condition, seed, step) and `test_accuracy` (condition,
        seed).
    smooth
        Number of neighbouring points averaged (centred) for display; 1 draws what was recorded.

    Raises
    ------
    ValueError
        If a variable is missing, or `smooth` is below 1.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> learning_curves(example_study(), smooth=1).axes[0].get_ylabel()
    'training loss (nat)'
    """
    require(dataset, "loss", "accuracy", "test_accuracy", dims=("condition", "seed", "step"))
    if smooth < 1:
        raise ValueError(f"smooth={smooth} must be at least 1")
    colours = condition_colours(dataset)
    with context():
        per_row = 4 if max(map(len, colours)) > 16 else 7
        height = 2.95 + 0.17 * -(-len(colours) // per_row)
        figure = Figure(figsize=(7.6, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, name in ((left, "loss"), (right, "accuracy")):
            _draw_curves(axes, dataset, name, smooth)
        _draw_test(right, dataset)
        handles = [Line2D([], [], color=c, linewidth=2.2, label=n) for n, c in colours.items()]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=per_row,
            title="thin: seeds; thick: median over seeds",
            title_fontsize=7.5,
            columnspacing=1.2,
            handlelength=1.2,
        )
    return figure


def _draw_curves(axes: Axes, dataset: xr.Dataset, name: str, smooth: int) -> None:
    """Draw every seed and the median of each condition."""
    curves = dataset[name].transpose("condition", "seed", "step")
    if smooth > 1:
        curves = curves.rolling(step=smooth, center=True, min_periods=1).mean()
    step, middle = dataset["step"], curves.median("seed", skipna=True)
    for index, (condition, colour) in enumerate(condition_colours(dataset).items()):
        one = curves.isel(condition=index)
        axes.plot(step, one.values.T, color=colour, linewidth=0.6, alpha=0.45, gid="seed")
        axes.plot(
            step, middle.isel(condition=index), color=colour, linewidth=2.0, zorder=3, gid=condition
        )
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= float(step.max())])
    smoothed = f"\nmean of {smooth} records" if smooth > 1 else ""
    axes.set_ylabel(axis_label(dataset[name]) + smoothed)
    axes.set_xlabel(axis_label(step))
    tidy(axes)


def _draw_test(axes: Axes, dataset: xr.Dataset) -> None:
    """Draw the test accuracies right of the last step, a column of dots per condition."""
    step = dataset["step"].values
    span = float(max(step.max() - step.min(), 1))
    test = dataset["test_accuracy"].transpose("condition", "seed").values
    end = float(step.max()) + 0.06 * span
    for index, (condition, colour) in enumerate(condition_colours(dataset).items()):
        axes.scatter(
            [end + 0.035 * span * index] * test.shape[1],
            test[index],
            s=14,
            color=colour,
            edgecolor="white",
            linewidths=0.4,
            zorder=4,
            gid=f"test {condition}",
        )
    axes.axvline(float(step.max()) + 0.03 * span, color="#999999", linewidth=0.8, linestyle=":")
    axes.text(
        end + 0.0175 * span * (len(test) - 1),
        1.0,
        "test",
        ha="center",
        va="bottom",
        transform=axes.get_xaxis_transform(),
    )
