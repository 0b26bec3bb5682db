"""From the labels of a study's conditions back to what they stand for: dims, and settings."""

import json
import math
import re
from collections.abc import Hashable

import pandas as pd
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, from_json

#: What a label of a condition may tell.
_DIMS = (
    *("network", "rule", "rank", "width", "num_classes", "learning_rate"),
    *("optimiser", "normalisation", "control"),
)


def unfold(dataset: xr.Dataset, pattern: str) -> xr.Dataset:
    """Turn the dim ``condition`` into the dims that its labels are made of.

    Parameters
    ----------
    dataset
        With the dim ``condition``, as `neurofb.gather.side_by_side` makes it.
    pattern
        Regular expression of a whole label. Its named groups are the new dims: network, rule, rank,
        width, num_classes or learning_rate. Conditions of another form are left out.

    Returns
    -------
    xr.Dataset
        The variables over the new dims, in the order of the conditions; numbers are sorted.
        Combinations that the study does not have are NaN. Other coordinates of the conditions are
        dropped.

    Raises
    ------
    ValueError
        If a group is none of these, no label has the form, two are the same in all groups, or
        there is no dim ``condition``.

    Examples
    --------
    >>> accuracy = xr.DataArray([0.9, 0.8, 0.7], dims="condition")
    >>> names = {"condition": ["MLP, BP", "MLP, FA", "VGG, BP"]}
    >>> study = xr.Dataset({"test_accuracy": accuracy}, names)
    >>> unfold(study, "(?P<network>.*), (?P<rule>.*)").test_accuracy.values.tolist()
    [[0.9, 0.8], [0.7, nan]]
    """
    dims = list(re.compile(pattern).groupindex)
    if not dims or not set(dims) <= set(_DIMS):
        raise ValueError(f"pattern={pattern!r}: its groups must be some of {', '.join(_DIMS)}")
    names = condition_names(dataset)
    found = {i: match for i, label in enumerate(names) if (match := re.fullmatch(pattern, label))}
    if not found:
        raise ValueError(f"pattern={pattern!r} matches no condition; those are: {'; '.join(names)}")
    columns = {dim: _column([match[dim] for match in found.values()]) for dim in dims}
    table = pd.MultiIndex.from_arrays(list(columns.values()), names=dims)
    if not table.is_unique:
        raise ValueError(f"pattern={pattern!r} gives conditions the same name: {table.tolist()}")
    other: list[Hashable] = [name for name, c in dataset.coords.items() if "condition" in c.dims]
    chosen = dataset.drop_vars(other).isel(condition=list(found))
    index = xr.Coordinates.from_pandas_multiindex(table, "condition")
    answer = chosen.assign_coords(index).unstack("condition")
    for dim in dims:
        values = labels.coordinate(dim, _ordered(columns[dim]))
        answer = answer.reindex({dim: values.values}).assign_coords({dim: values})
    return answer.transpose(*dims, ...)


def condition_names(study: xr.Dataset) -> list[str]:
    """Return the labels of a study's conditions.

    Raises
    ------
    ValueError
        If there is no dim ``condition``, as in the result of one run.

    Examples
    --------
    >>> condition_names(xr.Dataset({"test_accuracy": 0.9}))
    Traceback (most recent call last):
    ValueError: the result has no dim 'condition': it is of one run, and a study's is needed
    """
    if "condition" not in study.dims:
        raise ValueError(
            "the result has no dim 'condition': it is of one run, and a study's is needed"
        )
    return [str(name) for name in study["condition"].values]


def configurations(study: xr.Dataset | xr.DataTree) -> dict[str, RunConfig]:
    """Return the run of each condition of a study, as its attributes have it.

    Raises
    ------
    ValueError
        If the attributes hold no configurations, that of one run, or one that is not readable.

    Examples
    --------
    >>> from neurofb.config import to_json
    >>> text = f'{{"BP": {to_json(RunConfig(name="test"))}}}'
    >>> configurations(xr.Dataset(attrs={"neurofb_config": text}))["BP"].name
    'test'
    """
    try:
        found = json.loads(study.attrs["neurofb_config"])
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"study has no attribute neurofb_config in JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(run, dict) for run in found.values()):
        raise ValueError("the result's configuration is that of one run, and a study's is needed")
    return {str(name): from_json(json.dumps(config)) for name, config in found.items()}


def by_condition(dataset: xr.Dataset) -> xr.Dataset:
    """Call the rules conditions, with the ranks in their names, as figures want them.

    Examples
    --------
    >>> rules = xr.Dataset(coords={"rule": ["BP", "LDFA r=4, local"]})
    >>> by_condition(rules).feedback_rank.values.tolist()
    [nan, 4.0]
    """
    found = [re.search(r"\br=(\d+)", str(rule)) for rule in dataset["rule"].values]
    ranks = [float(rank[1]) if rank else math.nan for rank in found]
    full = [math.inf] * len(ranks)
    return dataset.rename(rule="condition").assign_coords(
        feedback_rank=labels.variable("condition", ranks, "1", "rank of the feedback"),
        bottleneck=labels.variable("condition", full, "1", "no bottleneck in the network"),
    )


def _column(texts: list[str]) -> list[int] | list[float] | list[str]:
    """Return whole numbers, numbers, or the texts as they are."""
    try:
        return [int(text) for text in texts]
    except ValueError:
        pass
    try:
        return [float(text) for text in texts]
    except ValueError:
        return texts


def _ordered(values: list[int] | list[float] | list[str]) -> list:
    """Return the different values: numbers sorted, texts as they come.

    A text that a later group of conditions brings in stands behind the one it follows there.
    """
    if not isinstance(values[0], str):
        return sorted(set(values))
    different: list = []
    for before, value in zip([None, *values], values, strict=False):
        if value not in different:
            place = different.index(before) + 1 if before in different else len(different)
            different.insert(place, value)
    return different
