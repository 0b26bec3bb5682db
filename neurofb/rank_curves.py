"""Ranks of errors of a study, by what its conditions are made of."""

import xarray as xr

from neurofb.measures.accuracy import last_value
from neurofb.unfold import configurations, unfold

#: what is taken of `neurofb.measures.error_rank`
MEASURES = (
    *("error_rank", "error_rank_normalised", "activity_rank", "gradient_rank", "update_rank"),
    "gradient_angle",
)
#: the definition of effective rank that tables and figures use
DEFINITION = "entropy"


def rank_curves(study: xr.DataTree, pattern: str) -> xr.Dataset:
    """Return the ranks of a study and its accuracies, conditions unfolded.

    Parameters
    ----------
    study
        With ``/error_rank``, as runs with ``measurement.rank_images`` give it.
    pattern
        As for `neurofb.unfold.unfold`.

    Returns
    -------
    xr.Dataset
        `MEASURES` (the pattern's dims, seed, epoch, layer, definition, view, as far as each has
        them), ``ceiling`` (layer, view), ``test_accuracy``, and the attribute `num_classes`.

    Raises
    ------
    ValueError
        If the study has no ``/error_rank``.

    Examples
    --------
    >>> rank_curves(xr.DataTree(), "(?P<rule>.+)")
    Traceback (most recent call last):
    ValueError: the study has no /error_rank; runs need measurement.rank_images > 0
    """
    if "error_rank" not in study.children:
        raise ValueError("the study has no /error_rank; runs need measurement.rank_images > 0")
    measured = study.children["error_rank"].to_dataset()
    curves = unfold(measured[[*MEASURES, "error_rank_ceiling"]], pattern)
    ceiling = curves["error_rank_ceiling"]
    found = curves[list(MEASURES)].assign(
        ceiling=ceiling.max([dim for dim in ceiling.dims if dim not in ("layer", "view")]),
        test_accuracy=unfold(study.to_dataset()[["test_accuracy"]], pattern)["test_accuracy"],
    )
    found["ceiling"].attrs = dict(ceiling.attrs)
    classes = {config.network.num_classes for config in configurations(study).values()}
    found.attrs = {"num_classes": max(classes)}
    return found


def ends(curves: xr.Dataset) -> xr.Dataset:
    """Return ranks and angles before training under their names with ``_start``, and at the end.

    Examples
    --------
    >>> curve = xr.Dataset({"error_rank": ("epoch", [9.0, 5.0])}, {"epoch": [0.0, 1.0]})
    >>> found = ends(curve)
    >>> float(found.error_rank_start), float(found.error_rank)
    (9.0, 5.0)
    """
    timed = [str(name) for name in curves if "epoch" in curves[name].dims]
    start = curves[timed].isel(epoch=0, drop=True).rename({name: f"{name}_start" for name in timed})
    end = curves[timed].map(last_value).drop_vars("epoch", errors="ignore")
    for name in timed:
        text = curves[name].attrs.get("long_name", name)
        end[name].attrs = dict(curves[name].attrs)
        start[f"{name}_start"].attrs = {**curves[name].attrs, "long_name": f"{text} at the start"}
    rest = curves.drop_vars(timed).drop_dims("epoch", errors="ignore")
    return xr.merge([rest, start, end]).assign_attrs(curves.attrs)


def hidden_layers(curves: xr.Dataset, view: str) -> xr.Dataset:
    """Return the layers but the last, whose error is the output's, in one view and `DEFINITION`.

    Layers without an error in this view are left out; the attribute `definition` says which it is.

    Examples
    --------
    >>> names = {"layer": ["a", "readout"], "view": ["sample"], "definition": ["entropy"]}
    >>> ranks = xr.DataArray([[[5.0]], [[9.0]]], names, ("layer", "view", "definition"))
    >>> hidden_layers(xr.Dataset({"error_rank": ranks}), "sample").error_rank.values
    array([5.])
    """
    chosen = curves.sel(view=view, definition=DEFINITION, drop=True).isel(layer=slice(-1))
    shown = chosen.dropna("layer", how="all", subset=["error_rank"])
    return shown.assign_attrs(definition=DEFINITION)


def views(curves: xr.Dataset) -> list[str]:
    """Return the views that are worth a look: one where all agree, as in an MLP, else two.

    Examples
    --------
    >>> names = {"layer": ["a"], "view": ["channel", "sample"]}
    >>> views(xr.Dataset({"error_rank": (("layer", "view"), [[5.0, 5.0]])}, names))
    ['sample']
    """
    channel, sample = (curves["error_rank"].sel(view=view) for view in ("channel", "sample"))
    same = bool(((channel == sample) | channel.isnull()).all())
    return ["sample"] if same else ["channel", "sample"]


def text_of(values: xr.DataArray, digits: int = 0) -> str:
    """Return the means over seeds of the layers, one after the other.

    Examples
    --------
    >>> pair = {"layer": ["a", "b"], "seed": [0, 1]}
    >>> text_of(xr.DataArray([[5.0, 6.0], [9.0, 9.0]], pair, ("layer", "seed")), 1)
    '5.5 9.0'
    """
    means = values.mean("seed").values
    return " ".join("–" if value != value else f"{value:.{digits}f}" for value in means)


def accuracy_text(values: xr.DataArray) -> str:
    """Return mean and every seed of an accuracy in percent; a run that diverged says so.

    Examples
    --------
    >>> accuracy_text(xr.DataArray([0.5, float("nan")], {"seed": [0, 1]}, ("seed",)))
    '50.0 (50.0 diverged)'
    """
    seeds = ["diverged" if v != v else f"{100 * v:.1f}" for v in values.values.tolist()]
    return f"{100 * float(values.mean()):.1f} ({' '.join(seeds)})"
