"""The parts of the page on a study or a run; a run is a study of one condition and one seed."""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.config import from_json
from neurofb.gather import layer_dataset, side_by_side
from neurofb.listing import FIGURES
from neurofb.measures import population_medians
from neurofb.plot.scan import scan_measure
from neurofb.report.configuration import as_stored, conditions, configuration, flat
from neurofb.report.inline import drawn
from neurofb.report.markup import Html, duration, folded, join, number, table, tag
from neurofb.report.source import parsed

_MOST_ROWS = 500
_CAPTIONS = {
    "figure5": "Receptive fields (a row a seed, a column a condition), and their measures against "
    "the rank of the feedback. Red excites, blue suppresses; the band is the untrained network.",
    "montage": "Receptive fields: a column a condition, a row a seed. Red excites, blue "
    "suppresses, each unit on its own scale. A coloured frame marks units that failed.",
    "distributions": "Measures of every unit that counts, medians of each seed, and behind them "
    "the two nulls: the untrained network, and noise of the same spectrum.",
    "rank": "Medians over units against the rank of the feedback: dots are seeds, lines medians.",
    "learning": "Loss and accuracy while training: thin lines are seeds, thick lines medians over "
    "seeds. The dots on the right are accuracies on the test set.",
    "alignment": "Alignment of the feedback with backpropagation while training: thin lines are "
    "seeds, thick lines means. Dashed: feedback unrelated to the weights.",
}


def is_run(tree: xr.DataTree) -> bool:
    """Tell whether a tree is the result of one run.

    Examples
    --------
    >>> is_run(xr.DataTree(xr.Dataset({"test_loss": 1.0})))
    False
    """
    return "training" in tree.children and "condition" not in tree.dims


def as_study(tree: xr.DataTree) -> xr.DataTree:
    """Return a run as a study of one condition and one seed; anything else as it is.

    Raises
    ------
    ValueError
        If the run's configuration cannot be read.

    Examples
    --------
    >>> tree = xr.DataTree(xr.Dataset({"test_loss": 1.0}))
    >>> as_study(tree) is tree
    True
    """
    if not is_run(tree):
        return tree
    config = from_json(str(tree.attrs.get("neurofb_config", "")))
    seed = int(tree.attrs.get("seed", config.seed))
    return side_by_side(config.name, {config.name: config}, {(config.name, seed): tree})


def study_summary(tree: xr.DataTree) -> Html:
    """Say in a line how many runs there are, what they reached, and how long they took."""
    root = tree.to_dataset()
    sizes = root.sizes
    if {"condition", "seed"} <= set(sizes):
        whole = f"{sizes['condition']} conditions × {sizes['seed']} seeds"
        first = tag("strong", f"{sizes['condition'] * sizes['seed']} runs")
        words = [first, f": {whole}."]
    elif is_run(tree):
        words = [tag("strong", "One run"), f", seed {tree.attrs.get('seed', '?')}."]
    else:
        words = [tag("strong", "A result"), " with ",
                 " × ".join(f"{d} {n}" for d, n in sizes.items()) or "no dims", "."]  # fmt: skip
    if "test_accuracy" in root:
        values = root["test_accuracy"].values
        values = values[np.isfinite(values)]
        if values.size:
            low, high = number(values.min()), number(values.max())
            reached = low if values.size == 1 else f"{low} to {high}"
            words.append(f" Accuracy on the test set: {reached}.")
    for name, what in (("wall_seconds", "It took"), ("cpu_seconds", "Processor time:")):
        seconds = tree.attrs.get(name, float("nan"))
        if isinstance(seconds, int | float) and np.isfinite(seconds):
            words.append(f" {what} {duration(float(seconds))}.")
    return tag("p", *words, class_="summary")


def study_figures(tree: xr.DataTree) -> Html:
    """Return the figures that the data allow: accuracies, learning, then layer by layer."""
    try:
        study = as_study(tree)
    except ValueError as error:
        return tag("p", f"Not drawn: the run's configuration cannot be read ({error}).")
    parts, notes = [], []

    def add(name: str, draw: Callable[[], Figure], caption: str, description: str) -> None:
        figure, why = drawn(draw, caption, description)
        parts.append(figure)
        if why:
            notes.append(f"{name} ({why})")

    root = study.to_dataset()
    single = is_run(tree)
    if not single:
        for name in _scalars(root):
            words = str(root[name].attrs.get("long_name", name))
            caption = f"{words[:1].upper()}{words[1:]}: dots are seeds, bars medians over seeds."
            add(name, lambda name=name: scan_measure(root, name), caption, words)
    if "step" in root.dims:
        add(
            "learning", lambda: plot.learning_curves(root), _CAPTIONS["learning"], "learning curves"
        )
    if "alignment" in study.children:
        alignment = study.children["alignment"].to_dataset()
        draw = lambda: plot.alignment_curves(alignment)  # noqa: E731
        add("alignment", draw, _CAPTIONS["alignment"], "alignment with backpropagation")
    for layer in _layers(study):
        parts.append(tag("h3", "Layer ", tag("code", layer)))
        dataset = layer_dataset(study, layer)
        for name in _drawable(dataset, single):
            function = getattr(plot, FIGURES[name])
            add(
                f"{name} of {layer}",
                lambda function=function, dataset=dataset: function(dataset),
                _CAPTIONS[name],
                f"{name} of layer {layer}",
            )
    if notes:
        parts.append(tag("p", "Not drawn: " + "; ".join(notes) + ".", class_="note"))
    parts = parts or [tag("p", "There is nothing that this page can draw.")]
    return tag("div", *parts, class_="figures")


def study_table(tree: xr.DataTree) -> Html:
    """Return a row a run with its accuracies, and medians of each layer's measures."""
    parts = []
    try:
        study = as_study(tree)
    except ValueError:
        study = tree
    root = study.to_dataset()
    names = _scalars(root)
    if names:
        parts.append(_runs(root, names))
    elif root.data_vars:
        single = {str(n): v for n, v in root.data_vars.items() if v.ndim == 0}
        rows = [[n, v.item(), v.attrs.get("units", ""), v.attrs.get("long_name", "")]
                for n, v in single.items()]  # fmt: skip
        if rows:
            parts.append(table(["name", "value", "units", "meaning"], rows, name="cells"))
    for layer in _layers(study):
        try:
            medians = population_medians(layer_dataset(study, layer))
        except (ValueError, KeyError):
            continue
        parts.append(_medians(medians, layer, is_open=is_run(tree)))
    return join(parts) or tag("p", "There are no single numbers to tabulate.")


def study_configuration(tree: xr.DataTree) -> Html:
    """Return the configuration; for a study what differs between conditions, and the rest."""
    stored = tree.attrs.get("neurofb_config", "")
    inside = parsed(stored)
    if not isinstance(inside, dict) or not inside:
        return tag("p", "The result keeps no configuration.")
    root = tree.to_dataset()
    names = root["condition"].values.tolist() if "condition" in root.coords else []
    if not all(isinstance(inside.get(name), dict) for name in names) or not names:
        return join([configuration(flat(inside)), as_stored(stored)])
    differ, first, changing = conditions(inside)
    parts = [tag("h3", "What differs between the conditions"), differ] if differ else []
    settings = configuration(first, changing)
    return join([*parts, tag("h3", "All settings"), settings, as_stored(stored)])


def _scalars(root: xr.Dataset) -> list[str]:
    """Return the variables of which each run has one."""
    if not {"condition", "seed"} <= set(root.dims):
        return []
    return [
        str(name)
        for name, values in root.data_vars.items()
        if set(values.dims) == {"condition", "seed"} and values.dtype.kind in "fiu"
    ]


def _layers(study: xr.DataTree) -> list[str]:
    """Return the layers with receptive fields or their measures."""
    if "condition" not in study.dims:
        return []
    return [
        str(name)
        for name, node in study.children.items()
        if "unit" in node.dims and "status" in node.data_vars
    ]


def _drawable(dataset: xr.Dataset, single: bool) -> Iterator[str]:
    """Give the figures of a layer for which there is something to see."""
    fields = "receptive_field" in dataset
    ranked = {"feedback_rank", "bottleneck"} <= set(dataset.variables)
    if fields:
        yield "figure5" if ranked and not single else "montage"
    yield "distributions"
    if not fields and dataset.sizes["condition"] > 1:
        yield "rank"


def _runs(root: xr.Dataset, names: list[str]) -> Html:
    """Return a row a run."""
    facts = [
        str(n) for n, v in root.coords.items() if v.dims == ("condition",) and n not in root.dims
    ]
    rows = []
    for i, condition in enumerate(root["condition"].values.tolist()):
        known = [root[name].values[i] for name in facts]
        known = ["" if value != value else value for value in known]
        for j, seed in enumerate(root["seed"].values.tolist()):
            at = {"condition": i, "seed": j}
            rows.append([condition, *known, seed, *[root[n].isel(at).item() for n in names]])
    note = (
        "All runs." if len(rows) <= _MOST_ROWS else f"The first {_MOST_ROWS} of {len(rows)} runs."
    )
    return table(
        ["condition", *facts, "seed", *names], rows[:_MOST_ROWS], caption=note, name="cells"
    )


def _medians(medians: xr.Dataset, layer: str, *, is_open: bool) -> Html:
    """Return a row a condition: the median over seeds of each measure, with its range."""
    names = [str(name) for name in medians.data_vars]
    rows = []
    for i, condition in enumerate(medians["condition"].values.tolist()):
        one = medians.isel(condition=i)
        rows.append([condition, *[_spread(one[name].values) for name in names]])
    caption = join(
        ["Layer ", tag("code", layer), ": medians over the units that count, then over seeds "
         "(in brackets the smallest and the largest seed)."]
    )  # fmt: skip
    return folded(
        f"Medians of {layer}", table(["condition", *names], rows, caption=caption), is_open=is_open
    )


def _spread(values: np.ndarray) -> str:
    """Write the median of some values, and their range where they differ."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return "–"
    middle, low, high = np.median(values), values.min(), values.max()
    return f"{middle:.3g}" if low == high else f"{middle:.3g} ({low:.3g} to {high:.3g})"
