"""Every engine gives the same bits; a cell is the run that `neurofb.run.run` makes."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from neurofb.recipes import call_recipe
from neurofb.run import run
from neurofb.scan import Scan, run_scan

RECIPES = Path(__file__).with_name("recipes.py")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

FUNCTIONS = Scan(
    name="functions",
    recipe=f"{RECIPES}::ragged",
    axes={"gain": [1, 0.5], "seed": [0, 1, 5]},
    settings={"slowness": 0.1},
)
RUNS = Scan(
    name="runs",
    recipe=f"{RECIPES}::tiny_run",
    axes={"hidden": [4, 6], "seed": [0, 1]},
    analyse=f"{RECIPES}::of_run",
    settings={"num_steps": 8},
)
SCANS = {"functions": FUNCTIONS, "runs": RUNS}


@pytest.fixture
def rounds(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scan_kill_rounds

    return scan_kill_rounds


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    return {
        name: run_scan(scan, folder / f"{name}.zarr", workers=0, progress=False).load()
        for name, scan in SCANS.items()
    }


def equal(rounds, folder, name, serial, **engine):
    store = folder / f"{name}.zarr"
    run_scan(SCANS[name], store, progress=False, **engine)
    assert rounds.look(store, serial[name]) == serial[name]["status"].size


def test_a_cell_is_the_run_alone(serial):
    dataset = serial["runs"]
    config = call_recipe(f"{RECIPES}::tiny_run", 8, 6)
    from neurofb.config import replace

    tree = run(replace(config, seed=1), progress=False)
    cell = dataset.sel(hidden=6, seed=1)
    np.testing.assert_array_equal(cell["loss"], tree["training/loss"])
    assert cell["test_loss"].item() == tree["test_loss"].item()
    assert len(set(dataset["test_loss"].values.ravel().tolist())) == 4


@pytest.mark.parametrize("name", SCANS)
def test_threads(tmp_path, rounds, serial, name):
    with ThreadPoolExecutor(3) as executor:
        equal(rounds, tmp_path, name, serial, executor=executor)


@pytest.mark.slow  # the quick kill rounds compare two workers to the serial scan, too
def test_workers(tmp_path, rounds, serial):
    for name in SCANS:
        equal(rounds, tmp_path, name, serial, workers=2)


@pytest.mark.slow
def test_a_pool_of_the_standard_library(tmp_path, rounds, serial):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        for name in SCANS:
            equal(rounds, tmp_path, name, serial, executor=executor)


def test_the_comparison_sees_one_bit(tmp_path, rounds, serial):
    store = tmp_path / "a.zarr"
    run_scan(FUNCTIONS, store, workers=0, progress=False)
    for name, change in (
        ("mean", lambda block: np.nextafter(block, np.float64(9))),
        ("curve", lambda block: np.nextafter(block, np.float32(9))),
        ("sign", lambda block: np.full_like(block, "ups")),
    ):
        other = serial["functions"].copy(deep=True)
        block = other[name].values[0, 1:2]
        block[...] = change(block)
        with pytest.raises(AssertionError, match=rf"differ from the serial scan in \['{name}'\]"):
            rounds.look(store, other)
