"""Seeds of one cell as one stacked network: the same numbers to rounding, or one by one."""

import json
from pathlib import Path

import numpy as np
import pytest

from neurofb.config import to_json
from neurofb.recipes import call_recipe
from neurofb.scan import Scan, open_scan, run_scan
from neurofb.scan.stack import batches

RECIPES = Path(__file__).with_name("recipes.py")
TINY = f"{RECIPES}::tiny_run"


def scan(axes, **settings):
    return Scan(name="stack", recipe=TINY, axes=axes, settings=settings)


def run(path, scan, stack):
    return run_scan(scan, path, workers=0, progress=False, stack=stack).load()


def test_a_stack_gives_the_loop_to_rounding(tmp_path):
    grid = scan({"hidden": [4, 6], "seed": range(4)}, **{"training.num_steps": 8})
    alone = run(tmp_path / "alone.zarr", grid, 1)
    stacked = run(tmp_path / "stacked.zarr", grid, 3)
    assert (stacked["status"] == 1).all()
    for name in ("loss", "validation_loss", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(stacked[name], alone[name], rtol=1e-3, atol=1e-5)
    assert not np.array_equal(alone["loss"][0, 0], alone["loss"][0, 1])
    journal = (tmp_path / "stacked.cells" / "journal.txt").read_text()
    assert journal.count(" start ") == 8
    assert (stacked["cell_seconds"] > 0).all()
    assert not list((tmp_path / "stacked.cells").glob("*/"))


def test_what_cannot_be_stacked_runs_alone_and_says_so(tmp_path):
    grid = scan({"seed": range(2)}, **{"measurement.alignment_images": 8, "training.num_steps": 4})
    with pytest.warns(UserWarning, match=r"stack=2: cell seed=0 runs alone: .*alignment"):
        dataset = run(tmp_path / "alone.zarr", grid, 2)
    assert (dataset["status"] == 1).all()


def test_a_cell_that_fails_does_not_harm_its_stack(tmp_path, monkeypatch):
    import neurofb.scan.stack as module

    whole = module.run_stacked

    def one_breaks(configs, **others):
        trees = whole(configs, **others)
        return [
            ArithmeticError("seed 1 is bad") if c.seed == 1 else t
            for c, t in zip(configs, trees, strict=True)
        ]

    monkeypatch.setattr(module, "run_stacked", one_breaks)
    with pytest.warns(UserWarning, match="1 of 3 cells failed"):
        dataset = run(tmp_path / "one.zarr", scan({"seed": range(3)}), 3)
    assert dataset["status"].values.tolist() == [1, 2, 1]
    assert "seed 1 is bad" in str(dataset["failure"].values[1])


def test_a_stack_that_breaks_is_computed_one_by_one(tmp_path, monkeypatch):
    import neurofb.scan.stack as module

    def breaks(configs, **others):
        raise RuntimeError("no memory for so many")

    grid = scan({"seed": range(3)}, **{"training.num_steps": 4})
    monkeypatch.setattr(module, "run_stacked", breaks)
    dataset = run(tmp_path / "broken.zarr", grid, 3)
    monkeypatch.undo()
    alone = run(tmp_path / "alone.zarr", grid, 1)
    np.testing.assert_array_equal(dataset["loss"], alone["loss"])


def test_only_seeds_go_together():
    names = [f"{a}{s}" for a in (1, 2) for s in range(5)]

    def job(name):
        return f'{{"recipe": "a.py::f", "arguments": {{"rank": {name[0]}, "seed": {name[1]}}}}}'

    found, reasons = batches(names, job, 4)
    assert found == [(name,) for name in names]  # functions are not stacked
    assert set(reasons) == {"10", "20"}


def test_batches_of_runs():
    base = json.loads(to_json(call_recipe(TINY)))

    def job(name):
        config = {**base, "seed": int(name[1:]), "name": name[0]}
        return json.dumps({"config": config, "analyse": ""})

    names = [f"{a}{s}" for s in range(5) for a in "xy"]
    found, reasons = batches(names, job, 3, {"x1"})
    assert found == [("x0", "x2", "x3"), ("x4",), ("y0", "y1", "y2"), ("y3", "y4"), ("x1",)]
    assert reasons == {}


def test_a_stack_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stack=0 must be at least 1"):
        run(tmp_path / "a.zarr", scan({"seed": [0]}), 0)
    with pytest.raises(ValueError, match="no store"):
        open_scan(tmp_path / "a.zarr")
