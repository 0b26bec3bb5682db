"""A scan asked again: longer, shorter, in another order, changed, and with odd labels."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb.scan import Scan, open_scan, run_scan

RECIPES = Path(__file__).with_name("recipes.py")


def ragged(tmp_path, **changes):
    settings = {"tally": str(tmp_path / "tally.txt"), "slowness": 0.0}
    axes = {"gain": [1, 2], "seed": [0, 1]}
    scan = Scan(name="r", recipe=f"{RECIPES}::ragged", axes=axes, settings=settings)
    return replace(scan, **changes)


def runs(**axes):
    recipe, analyse = f"{RECIPES}::tiny_run", f"{RECIPES}::of_run"
    return Scan(name="runs", recipe=recipe, axes={"seed": [0], **axes}, analyse=analyse)


def sit(scan, store, **options):
    return run_scan(scan, store, workers=0, progress=False, **options).load()


def starts(tmp_path):
    path = tmp_path / "tally.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.split(maxsplit=1)[1] for line in lines]


def test_longer_axes_compute_only_the_new_cells(tmp_path):
    store = tmp_path / "a.zarr"
    sit(ragged(tmp_path), store)
    first = open_scan(store).load()
    sit(ragged(tmp_path, axes={"gain": [1, 2], "seed": [3, 0, 1]}), store)
    assert starts(tmp_path)[4:] == ["gain=1,seed=3", "gain=2,seed=3"]
    sit(ragged(tmp_path, axes={"gain": [4, 2], "seed": [1]}), store)
    assert starts(tmp_path)[6:] == ["gain=4,seed=1"]
    last = open_scan(store).load()
    assert last["gain"].values.tolist() == [1, 2, 4]
    assert last["seed"].values.tolist() == [0, 1, 3]
    assert last["status"].values.tolist() == [[1, 1, 1], [1, 1, 1], [-1, 1, -1]]
    for name in ("curve", "mean", "sign", "rare", "settings"):
        old = last[name].sel({dim: first[dim] for dim in first[name].dims})
        np.testing.assert_array_equal(old.values, first[name].values)
    alone = sit(ragged(tmp_path, axes={"gain": [4], "seed": [1]}), tmp_path / "b.zarr")
    for name in ("mean", "num_positive"):
        assert last[name].sel(gain=4, seed=1) == alone[name].squeeze()


def test_shorter_axes_and_another_order_are_the_same_scan(tmp_path):
    store = tmp_path / "a.zarr"
    before = sit(ragged(tmp_path), store)
    same = sit(ragged(tmp_path, axes={"seed": [1], "gain": [2.0]}), store)
    assert len(starts(tmp_path)) == 4
    xr.testing.assert_identical(same, before)
    longer = sit(ragged(tmp_path, axes={"seed": [2], "gain": [2]}), store)
    assert starts(tmp_path)[4:] == ["gain=2,seed=2"]
    assert longer["status"].dims == ("gain", "seed")


def test_whole_floats_and_whole_numbers_are_one_label(tmp_path):
    store = tmp_path / "a.zarr"
    sit(ragged(tmp_path, axes={"gain": [1.0, 0.5], "seed": [0]}), store)
    longer = sit(ragged(tmp_path, axes={"gain": [1, 0.5, 2], "seed": [0]}), store)
    assert longer["gain"].values.tolist() == [1, 0.5, 2]
    assert len(starts(tmp_path)) == 3
    store = tmp_path / "b.zarr"
    sit(ragged(tmp_path), store)
    words = r"axis 'gain': \[0.5\] are of another kind than the labels in the store, \[1, 2\]"
    with pytest.raises(ValueError, match=words):
        sit(ragged(tmp_path, axes={"gain": [1, 2, 0.5], "seed": [0, 1]}), store)
    before = open_scan(store).load()
    assert sit(ragged(tmp_path), store).identical(before)
    assert len(starts(tmp_path)) == 7


def test_another_scan_is_refused(tmp_path):
    store = tmp_path / "a.zarr"
    sit(ragged(tmp_path), store)
    before = open_scan(store).load()
    other = shutil.copy(RECIPES, tmp_path / "other.py")
    for scan, words in [
        (ragged(tmp_path, recipe=f"{other}::ragged"), r"recipe: .*ragged → .*other.py::ragged"),
        (ragged(tmp_path, axes={"gain": [1]}), "is over gain, seed, the scan over gain"),
        (ragged(tmp_path, settings={"slowness": 0.5}), "slowness: 0.0 → 0.5"),
        (
            ragged(tmp_path, axes={("gain", "slowness"): [(1, 0)], "seed": [0]}, settings={}),
            r"axes: .*\['gain'\].* → .*\['gain', 'slowness'\]",
        ),
    ]:
        with pytest.raises(ValueError, match=words) as error:
            sit(scan, store)
        assert "take another store" in str(error.value)
    xr.testing.assert_identical(open_scan(store).load(), before)
    assert len(starts(tmp_path)) == 4


def test_a_changed_configuration_is_refused_with_what_differs(tmp_path):
    store = tmp_path / "a.zarr"
    sit(runs(hidden=[4]), store)
    words = r"training.num_steps: 24 → 20"
    with pytest.raises(ValueError, match=words):
        sit(replace(runs(hidden=[4]), settings={"num_steps": 20}), store)
    with pytest.raises(ValueError, match=r"analyse: .*::of_run → none;"):
        sit(replace(runs(hidden=[4]), analyse=""), store)
    with pytest.raises(ValueError, match=r"axes: .*'hidden'.*'seed'|is over"):
        sit(runs(), store)
    longer = sit(runs(hidden=[4, 5]), store)
    assert longer["status"].values.tolist() == [[1, 1]]


ODD = [
    "BP / wide",
    "BP\\ wide",
    "",
    " ",
    ".",
    "../..",
    "a,seed=1",
    "a",
    "Ärger μ ×",
    "日本",
    "tab\tline\nend",
    "trash-0",
    "x" * 300,
    "x" * 300 + "y",
    "1",
    "'quote\" {brace} %s",
]


def test_odd_labels(tmp_path):
    store = tmp_path / "a.zarr"
    scan = Scan(
        name="odd",
        recipe=f"{RECIPES}::labelled",
        axes={"text": ODD[:-1], "other": ["b", "1,other=b"]},
        settings={"tally": str(tmp_path / "tally.txt")},
    )
    sit(scan, store)
    dataset = sit(replace(scan, axes={"text": ODD, "other": ["b", "1,other=b"]}), store)
    assert len(starts(tmp_path)) == 2 * len(ODD)
    assert dataset["text"].values.tolist() == ODD
    assert (dataset["status"] == 1).all()
    for text in ODD:
        for other in ("b", "1,other=b"):
            assert dataset["same"].sel(text=text, other=other).item() == f"{text}|{other}"
    sit(None, store, verify=True)
    assert len(starts(tmp_path)) == 2 * len(ODD)
    inside = {path.parent for path in tmp_path.rglob("*") if ".cells" in str(path.parent)}
    assert inside == {tmp_path / "a.cells"}


def test_labels_that_cannot_be_told_apart_are_refused(tmp_path):
    for gains, words in [
        ([1, 1.0], "has the value 1 twice"),
        ([1, "a"], "mixes texts and numbers"),
        ([float("nan")], "must be finite"),
        ([2**60], r"above 2\*\*53 are not exact"),
        ([], "has no value"),
    ]:
        with pytest.raises(ValueError, match=words):
            sit(ragged(tmp_path, axes={"gain": gains, "seed": [0]}), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_settings_that_change_together_grow_together(tmp_path):
    store = tmp_path / "a.zarr"
    names = ("gain", "seed")
    scan = ragged(tmp_path, axes={names: [(1, 7), (2, 8)]})
    sit(scan, store)
    longer = sit(replace(scan, axes={names: [(3, 9)]}), store)
    assert starts(tmp_path) == ["gain=1,seed=7", "gain=2,seed=8", "gain=3,seed=9"]
    assert longer["seed"].dims == ("gain",)
    assert longer["seed"].values.tolist() == [7, 8, 9]
    with pytest.raises(ValueError, match="seed: 7 → 6"):
        sit(replace(scan, axes={names: [(1, 6)]}), store)
    mixed = Scan(
        name="m", recipe=f"{RECIPES}::labelled", axes={("text", "other"): [("a", "x"), ("b", 1)]}
    )
    sit(mixed, tmp_path / "b.zarr")
    longer = sit(replace(mixed, axes={("text", "other"): [("c", 2)]}), tmp_path / "b.zarr")
    assert longer["other"].values.tolist() == ["x", "1", "2"]
    assert longer["same"].values.tolist() == ["a|x", "b|1", "c|2"]
