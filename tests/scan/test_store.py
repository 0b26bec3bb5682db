"""What a store holds: labels, units, states, and what a stranger without neurofb sees."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb.scan import Scan, open_scan, run_scan, status
from neurofb.scan.handover import load_outcome, save_outcome, variables_of

RECIPES = Path(__file__).with_name("recipes.py")
ODD = Path(__file__).with_name("odd_recipes.py")
LDFA = f"{Path(__file__).parents[2] / 'models' / 'retina_vvs.py'}::ldfa"


def waves(**axes):
    return Scan(name="waves", recipe=f"{RECIPES}::wave", axes=axes)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "waves.zarr"
    run_scan(waves(gain=[0.5, 2], seed=range(3)), path, workers=0, progress=False)
    return path


def test_every_variable_says_what_it_is(store):
    dataset = open_scan(store)
    assert dict(dataset.sizes) == {"gain": 2, "seed": 3, "time": 8}
    for name, variable in dataset.variables.items():
        assert variable.attrs["units"], name
        assert variable.attrs["long_name"], name
    assert dataset["response"].dims == ("gain", "seed", "time")
    assert dataset["response"].attrs["units"] == "mV"
    assert dataset["time"].values.tolist() == (np.arange(8) * 0.5).tolist()
    assert dataset["gain"].attrs["setting"] == "gain"
    assert dataset["status"].attrs["flag_meanings"] == "absent pending done failed"
    assert (dataset["status"] == 1).all()


def test_a_cell_holds_what_the_recipe_returned(store):
    from neurofb.recipes import call_recipe

    expected = call_recipe(f"{RECIPES}::wave", 2, 1)
    cell = open_scan(store).sel(gain=2, seed=1)
    np.testing.assert_array_equal(cell["response"].values, expected["response"].values)
    assert cell["peak"].item() == expected["peak"].item()
    assert cell["num_positive"].item() == expected["num_positive"].item()
    assert cell["sign"].item() == expected["sign"].item()
    assert json.loads(str(cell["settings"].values)) == {"gain": 2, "seed": 1}


def test_attributes_say_where_it_comes_from(store):
    about = open_scan(store).attrs
    assert about["title"] == "waves"
    assert json.loads(about["neurofb_config"])["gain"] == 0.5
    scan = json.loads(about["neurofb_scan"])
    assert scan["dims"] == ["gain", "seed"]
    assert scan["recipe"] == f"{RECIPES}::wave"
    assert "6 cells by neurofb" in about["history"]


def test_a_stranger_opens_it_without_neurofb(store):
    code = f"""
import sys
sys.modules["neurofb"] = None  # importing it fails
import warnings
warnings.simplefilter("error")
import xarray as xr
dataset = xr.open_zarr({str(store)!r})
print(dataset)
cell = dataset.sel(gain=2, seed=1)
assert float(cell["peak"]) == float(cell["response"].max())
print(dataset.attrs["comment"])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "(gain: 2, seed: 3, time: 8)" in answer.stdout
    assert "status 1 is done" in answer.stdout


def test_one_chunk_a_cell(store):
    import zarr

    group = zarr.open_group(store, mode="r")
    assert group["response"].chunks == (1, 1, 8)
    assert group["response"].shards is None
    assert group["peak"].chunks == (1, 1)


def test_a_longer_axis_and_what_was_there(store, tmp_path):
    path = tmp_path / "waves.zarr"
    tally = tmp_path / "tally.txt"
    first = Scan(
        name="waves",
        recipe=f"{RECIPES}::wave",
        axes={"gain": [1, 2], "seed": [0, 1]},
        settings={"tally": str(tally)},
    )
    run_scan(first, path, workers=0, progress=False)
    before = open_scan(path).load()
    longer = Scan(
        name="waves",
        recipe=f"{RECIPES}::wave",
        axes={"gain": [2, 8], "seed": [0, 1, 5]},
        settings={"tally": str(tally)},
    )
    run_scan(longer, path, workers=0, progress=False)
    after = open_scan(path).load()
    assert tally.read_text().count("\n") == 4 + 4  # gain 2: seed 5; gain 8: seeds 0, 1, 5
    assert after["gain"].values.tolist() == [1, 2, 8]
    assert after["seed"].values.tolist() == [0, 1, 5]
    xr.testing.assert_identical(
        after.sel(gain=[1, 2], seed=[0, 1]).drop_attrs(), before.drop_attrs()
    )
    assert after["status"].sel(gain=1, seed=5).item() == -1  # nobody asked for it
    assert np.isnan(after["peak"].sel(gain=1, seed=5).item())
    assert "8 cells (gain 3 × seed 3): 8 done" in status(path)


def test_numbers_stay_numbers_and_texts_texts(tmp_path):
    whole = xr.Dataset(
        {
            "flag": ("unit", [True, False]),
            "count": ((), 3),
            "half": ("unit", np.float16([0.5, 1])),
            "single": ("unit", np.float32([0.1, np.nan])),
            "z": ((), 1 + 2j),
            "text": ("unit", ["ä", ""]),
        },
        {"unit": ["a", "b"], "kind": ("unit", ["on", "off"])},
    )
    save_outcome(tmp_path / "outcome.npz", variables_of(whole), 2.5)
    variables, seconds = load_outcome(tmp_path / "outcome.npz")
    assert seconds == 2.5
    assert {name: str(values.dtype) for name, (_, values, _) in variables.items()} == {
        "flag": "float64",
        "count": "float64",
        "half": "float32",
        "single": "float32",
        "z": "complex128",
        "text": "StringDType()",
        "unit": "StringDType()",
        "kind": "StringDType()",
    }
    assert variables["text"][1].tolist() == ["ä", ""]
    np.testing.assert_array_equal(variables["single"][1], np.float32([0.1, np.nan]))


def test_a_run_and_its_summary(tmp_path):
    scan = Scan(
        name="tiny",
        recipe=LDFA,
        axes={"feedback.rank": [1], "training.num_steps": [2, 3]},
        settings={
            "data.num_train": 32,
            "data.num_validation": 16,
            "data.num_test": 16,
            "measurement.layers": [],
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = run_scan(scan, tmp_path / "tiny.zarr", workers=0, progress=False)
    assert dataset["loss"].dims == ("rank", "num_steps", "step")
    assert np.isfinite(dataset["loss"].values).sum(-1).tolist() == [[2, 3]]
    assert dataset["rank"].attrs["long_name"] == "rank of the feedback"
    assert all({"units", "long_name"} <= v.attrs.keys() for v in dataset.variables.values())
    assert 0 <= dataset["test_accuracy"].values.min() <= 1
    config = json.loads(dataset.attrs["neurofb_config"])
    assert config["training"]["num_steps"] == 2
    assert not list((tmp_path / "tiny.cells").glob("*/"))


def test_folders_of_cells_are_kept_if_wanted(tmp_path):
    from neurofb.run import load_network

    scan = Scan(
        name="tiny",
        recipe=LDFA,
        axes={"training.num_steps": [2]},
        settings={"data.num_train": 32, "data.num_validation": 16, "data.num_test": 16}
        | {"measurement.layers": []},
    )
    run_scan(scan, tmp_path / "tiny.zarr", workers=0, progress=False, keep=True)
    (folder,) = (tmp_path / "tiny.cells").glob("*/num_steps=2/run")
    assert load_network(folder).training is False
    run_scan(scan, tmp_path / "tiny.zarr", workers=0, progress=False)
    assert (folder / "result.zarr").exists()


@pytest.mark.parametrize("name", ["nowhere.zarr", "file.zarr"])
def test_no_store_is_said(tmp_path, name):
    (tmp_path / "file.zarr").write_text("nothing")
    with pytest.raises(ValueError, match="is no store of a scan"):
        open_scan(tmp_path / name)
    with pytest.raises(ValueError, match=r"does not exist|is no store of a scan"):
        run_scan(None, tmp_path / name, workers=0, progress=False)


def test_a_narrower_scan_computes_its_own_cells_alone(tmp_path):
    path = tmp_path / "waves.zarr"
    with pytest.raises(ValueError, match="gone"):
        run_scan(_breaking(), path, workers=0, progress=False, fail_fast=True)
    states = open_scan(path)["status"].values.tolist()
    assert states == [2, 0, 0]
    with pytest.warns(UserWarning, match="1 of 1 cells failed"):
        run_scan(_breaking(seed=[2]), path, workers=0, progress=False)
    assert open_scan(path)["status"].values.tolist() == [2, 0, 2]


def _breaking(seed=range(3)):
    return Scan(name="breaks", recipe=f"{ODD}::gone", axes={"seed": seed})


def test_what_the_docs_show_of_a_store(tmp_path):
    """The printed examples of docs/scans.md, read without neurofb."""
    scan = Scan(
        name="Does the rank of the error matter?",
        recipe=LDFA,
        axes={"feedback.rank": [1, 4], "seed": range(3)},
        settings={
            "training.num_steps": 3,
            "data.num_train": 64,
            "data.num_validation": 32,
            "data.num_test": 32,
            "measurement.layers": [],
        },
    )
    run_scan(scan, tmp_path / "ranks.zarr", workers=0, progress=False)
    page = (Path(__file__).parents[2] / "docs" / "scans.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```pycon\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "block.txt").write_text(block, encoding="utf-8")
    code = (
        "import sys; sys.modules['neurofb'] = None\n"
        "import doctest, warnings; warnings.simplefilter('error')\n"
        "found = doctest.testfile('block.txt', False, optionflags=doctest.ELLIPSIS)\n"
        "sys.exit(found.failed or not found.attempted)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
