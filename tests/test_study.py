"""A study: its tree, what a failure leaves, what resuming does, and what a kill leaves."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

from neurofb import labels
from neurofb.conditions import facts
from neurofb.config import Measurement, RunConfig, change, replace
from neurofb.feedback import Exact, LowRank
from neurofb.gather import layer_dataset, side_by_side
from neurofb.overview import overview
from neurofb.recipes import call_recipe
from neurofb.run import run
from neurofb.study import Study, run_folder, run_study

RECIPES = Path(__file__).with_name("tiny_recipes.py")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a study's folder and tree, made by two workers."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    study = call_recipe(f"{RECIPES}::pair")
    return study, folder, run_study(study, folder, workers=2, progress=False)


def times(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.zarr")}


def test_conditions_with_fewer_units_are_filled_up(finished):
    study, folder, tree = finished
    assert tree.sizes == {"condition": 2, "seed": 2, "step": 12, "epoch": 3}
    layer = tree["retina_2"].to_dataset()
    assert layer["receptive_field"].dims == ("condition", "seed", "unit", "y", "x")
    narrow = layer.sel(condition="BP narrow")
    assert (narrow["status"].isel(unit=slice(2, 4)) == "absent").all()
    assert narrow["receptive_field"].isel(unit=slice(2, 4)).isnull().all()
    assert not narrow["receptive_field"].isel(unit=slice(0, 2)).isnull().any()
    assert not (layer.sel(condition="BP wide")["status"] == "absent").any()
    for name in (
        "rotational_symmetry",
        "rotational_symmetry_untrained",
        "rotational_symmetry_noise",
    ):
        assert name in layer
    for condition, seed, _ in study.runs():
        alone = labels.load(run_folder(folder, condition, seed) / "result.zarr")
        expected = alone["receptive_field/retina_2/receptive_field"].values[:, 0]
        field = layer["receptive_field"].sel(condition=condition, seed=seed)
        np.testing.assert_array_equal(field.values[: len(expected)], expected)


def test_every_variable_of_the_study_says_what_it_is(finished):
    for node in finished[2].subtree:
        for name, variable in node.variables.items():
            assert variable.attrs.get("units"), (node.path, name)
            assert variable.attrs.get("long_name"), (node.path, name)


def test_the_saved_study_is_the_one_returned(finished):
    _, folder, tree = finished
    loaded = labels.load(folder / "study.zarr")
    for layer in ("retina_1", "retina_2"):
        assert layer_dataset(loaded, layer).identical(layer_dataset(tree, layer))
    with pytest.raises(ValueError, match="layer='nowhere' is not in the study; it has retina"):
        layer_dataset(tree, "nowhere")
    bare = xr.DataTree(xr.Dataset({"loss": 1.0}))
    with pytest.raises(ValueError, match="it has none: it is no study of receptive fields"):
        layer_dataset(bare, "retina_2")


@pytest.fixture(scope="module")
def table():
    """Return a study without receptive fields, its runs by condition and seed, and its tree."""
    study = call_recipe(f"{RECIPES}::table")
    runs = {(c, s): run(config, progress=False) for c, s, config in study.runs()}
    return study, runs, side_by_side(study.name, study.conditions, runs)


def test_a_study_without_receptive_fields(table):
    _, runs, tree = table
    assert tree.sizes == {"condition": 2, "seed": 2, "step": 14, "epoch": 5}
    assert set(tree.children) == {"alignment"}
    for (condition, seed), alone in runs.items():
        cell = tree.to_dataset().sel(condition=condition, seed=seed)
        for name in ("test_accuracy", "test_loss"):
            assert float(cell[name]) == float(alone[name])
        history = alone["training"].to_dataset()
        loss = cell["loss"].dropna("step")
        np.testing.assert_array_equal(loss, history["loss"])
        found = cell[["validation_accuracy", "validation_loss", "step_at_epoch"]].dropna("epoch")
        for name in found:
            np.testing.assert_array_equal(found[name], history[name])


def test_conditions_say_what_they_are(table):
    study, runs, tree = table
    assert tree["network"].values.tolist() == ["mlp", "mlp"]
    assert tree["rule"].values.tolist() == ["low_rank", "direct_random"]
    assert tree["learning"].values.tolist() == ["oja", "fixed"]
    np.testing.assert_array_equal(tree["feedback_rank"], [2, np.nan])
    sizes = [int(runs[condition, 0]["num_parameters"]) for condition in study.conditions]
    assert tree["num_parameters"].values.tolist() == sizes
    assert "bottleneck" not in tree.coords
    overridden = replace(study.conditions["LDFA"], feedback=Exact(), feedback_layers=())
    overridden = replace(
        overridden, feedback_overrides={"readout": LowRank(rank=4), "hidden_2": Exact()}
    )
    assert float(facts([overridden])["feedback_rank"][0]) == 4
    wide, narrow = (
        call_recipe(f"{RECIPES}::pair").conditions[f"BP {w}"] for w in ("wide", "narrow")
    )
    np.testing.assert_array_equal(facts([wide, narrow])["feedback_rank"], [4, np.nan])


def test_alignment_of_networks_of_different_depth(table):
    _, runs, tree = table
    aligned = tree["alignment"].to_dataset()
    assert aligned["gradient_cosine"].dims == ("condition", "seed", "epoch", "layer")
    assert aligned["layer"].values.tolist() == ["hidden_1", "hidden_2", "readout", "hidden_3"]
    for (condition, seed), alone in runs.items():
        own = alone["alignment"].to_dataset()
        cell = aligned.sel(condition=condition, seed=seed).sel(layer=own["layer"])
        cell = cell.dropna("epoch", subset=["step_at_epoch"])
        np.testing.assert_array_equal(cell["gradient_cosine"], own["gradient_cosine"])
        np.testing.assert_array_equal(cell["step_at_epoch"], own["step"])
    for node in tree.subtree:
        for name, variable in node.variables.items():
            assert variable.attrs.get("units"), (node.path, name)
            assert variable.attrs.get("long_name"), (node.path, name)


def test_overview_of_accuracies(table):
    _, runs, tree = table
    values = [float(runs["DRTP", seed]["test_accuracy"]) for seed in (0, 1)]
    line = next(line for line in overview(tree).splitlines() if line.startswith("DRTP"))
    mean, sd, count = line.split()[1:]
    assert float(mean) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(sd) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert count == "2"


def test_a_study_saved_and_loaded_is_the_same(table, tmp_path):
    tree = table[2]
    for suffix in (".zarr", ".nc"):
        assert labels.load(labels.save(tree, tmp_path / f"table{suffix}")).equals(tree)


def test_a_run_alone_and_in_a_study_agree(finished):
    study, _, tree = finished
    alone = run(replace(study.conditions["BP narrow"], seed=1), progress=False)
    loss = tree["loss"].sel(condition="BP narrow", seed=1)
    np.testing.assert_array_equal(loss, alone["training/loss"])


def test_an_existing_study_is_refused(finished):
    study, folder, _ = finished
    with pytest.raises(ValueError, match="holds a study already; resume it, overwrite it"):
        run_study(study, folder, progress=False)
    with pytest.raises(ValueError, match="exclude each other"):
        run_study(study, folder, progress=False, resume=True, overwrite=True)
    with pytest.raises(ValueError, match="workers=0 must be at least 1"):
        run_study(study, folder, progress=False, resume=True, workers=0)


def test_resuming_does_what_is_missing_and_one_worker_gives_the_same(finished, tmp_path, capfd):
    study, folder, tree = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "runs" / "BP_narrow-seed1")
    (copy / "runs" / "BP_wide-seed0" / "notes.txt").write_text("mine")
    before = times(copy)
    again = run_study(study, copy, workers=1, resume=True, progress=True)
    after = times(copy)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"BP_narrow-seed1"}
    for layer in ("retina_1", "retina_2"):
        assert layer_dataset(again, layer).equals(layer_dataset(tree, layer))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("4/4 runs  BP_narrow-seed1  ")
    assert "\r" not in lines[0]


def test_a_failing_run_is_named_and_stops_no_other(finished, tmp_path):
    _, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "runs" / "BP_wide-seed1")
    before = times(copy)
    failing = call_recipe(f"{RECIPES}::failing")
    with pytest.raises(
        ValueError, match=r"2 of 6 runs failed \(exploding-seed\d: NonFiniteLossErr"
    ):
        run_study(failing, copy, workers=1, resume=True, progress=False)
    after = times(copy)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"BP_wide-seed1"}


@pytest.mark.parametrize(
    ("conditions", "seeds", "message"),
    [
        ({}, (0,), "at least one condition and one seed"),
        ({"a": RunConfig(name="a")}, (), "at least one condition and one seed"),
        ({"a": RunConfig(name="a")}, (1, 1), r"seeds=\(1, 1\) must differ"),
        (
            {"r=1": RunConfig(name="a"), "r-1": RunConfig(name="a")},
            (0,),
            "'r=1' and 'r-1' must differ in letters or digits",
        ),
        (
            {
                "a": RunConfig(name="a"),
                "b": RunConfig(name="b", measurement=Measurement(layers=("retina_1",))),
            },
            (0,),
            "must measure the same layers",
        ),
    ],
)
def test_studies_that_cannot_be_are_refused(conditions, seeds, message):
    with pytest.raises(ValueError, match=message):
        Study(name="x", conditions=conditions, seeds=seeds)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_study_leaves_no_worker_and_can_be_resumed(tmp_path):
    out = tmp_path / "out"
    words = ["run", f"{RECIPES}::long", "--workers", "1", "--out", str(out)]
    environment = {**os.environ, "NEUROFB_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "neurofb.cli", *words], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: any(out.glob("runs/*/checkpoint.pt")))
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    study = call_recipe(f"{RECIPES}::long")
    tree = run_study(study, out, workers=1, resume=True, progress=False)
    assert not tree["loss"].isnull().any()
    whole = run(replace(study.conditions["BP"], seed=0), progress=False)
    np.testing.assert_array_equal(tree["loss"].sel(condition="BP", seed=0), whole["training/loss"])


def test_torchrun_is_for_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    study = Study(name="s", conditions={"BP": RunConfig(name="BP")}, seeds=(0,))
    with pytest.raises(ValueError, match="torchrun is for one run"):
        run_study(study, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_runs_of_unequal_length_keep_their_epochs_on_disk(tmp_path):
    """What was stored as whole numbers holds NaN where a shorter run has no epoch."""
    conditions = {
        f"{steps} steps": change(
            call_recipe("tests/tiny_recipes.py::mlp"),
            {"training.num_steps": str(steps), "training.validate_every": "1"},
        )
        for steps in (1, 3)
    }
    runs = {}
    for name, config in conditions.items():
        path = tmp_path / f"{name}.zarr"
        labels.save(run(config, progress=False), path)
        runs[name, 0] = labels.load(path)
    path = labels.save(side_by_side("lengths", conditions, runs), tmp_path / "study.zarr")
    tree = labels.load(path)
    steps = tree.to_dataset()["step_at_epoch"].squeeze("seed").values
    np.testing.assert_array_equal(steps, [[np.nan, 1, np.nan, np.nan], [np.nan, 1, 2, 3]])
    steps = tree["alignment"]["step_at_epoch"].squeeze("seed").values
    np.testing.assert_array_equal(steps, [[0, 1, np.nan, np.nan], [0, np.nan, np.nan, 3]])
