"""The command line: help, refusals in one line, and each command on a tiny study."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

from neurofb import labels
from neurofb.cli import EXAMPLES, main
from neurofb.recipes import call_recipe
from neurofb.run import run
from neurofb.training.checkpoint import load_checkpoint

RECIPES = Path(__file__).with_name("tiny_recipes.py")
ANALYSIS = Path(__file__).parents[1] / "analyses" / "receptive_fields.py"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROFB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the file of a study, made without a pool."""
    from neurofb.study import gather, run_folder

    folder = tmp_path_factory.mktemp("study")
    study = call_recipe(f"{RECIPES}::pair")
    for condition, seed, config in study.runs():
        run(config, run_folder(folder, condition, seed), progress=False)
    return labels.save(gather(study, folder), folder / "study.zarr")


def refused(capsys, *words):
    """Run a command that must end with status 2 and one line on stderr; return the line."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert EXAMPLES[command] in " ".join(capsys.readouterr().out.split())


def test_help_of_the_whole(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in EXAMPLES)


def test_dry_run_says_what_to_expect_and_writes_nothing(capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["run", f"{RECIPES}::low_rank", "--dry-run", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "12 steps of 16 images (1×12×12, 10 classes; 64 train" in text
    assert "low_rank r=1" in text
    assert "vvs_1" in text
    for word in ("memory: ", "time: ", "device: cpu"):
        assert word in text
    assert not out.exists()


def test_dry_run_of_a_study_says_how_long_it_takes(capsys, tmp_path):
    words = ["run", f"{RECIPES}::table", "--dry-run", "--workers", "2", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "table: 4 runs, 2 conditions × 2 seeds"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["LDFA", "DRTP"]
    assert "14 steps" in lines[2]
    assert "on 2 cores" in lines[3]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'"),
        (["run"], "required: recipe"),
        (["run", "nowhere.py::x", "--out", "o"], "there is no file 'nowhere.py'"),
        (["run", RECIPES, "--out", "o"], "must be 'path/to/file.py::function'"),
        (["run", f"{RECIPES}::bogus", "--out", "o"], "no function 'bogus'; the file has: bp, low_"),
        (["run", f"{RECIPES}::_private", "--out", "o"], "no function '_private'"),
        (
            ["run", f"{RECIPES}::needs_arguments", "--out", "o"],
            "missing a required argument: 'rank'",
        ),
        (["run", f"{RECIPES}::returns_nothing", "--out", "o"], "neither a run nor a study"),
        (["run", f"{RECIPES}::bp"], "--out DIR is needed"),
        (["run", f"{RECIPES}::bp", "--workers", "2"], "--workers is for a study"),
        (["run", f"{RECIPES}::bp", "--set", "seed"], "--set 'seed' must be NAME=VALUE"),
        (
            ["run", f"{RECIPES}::bp", "--set", "sed=1", "--dry-run"],
            "'sed' does not exist; a run has: seed",
        ),
        (["run", f"{RECIPES}::bp", "--seed", "one"], "argument --seed: invalid int value"),
        (["run", f"{RECIPES}::bp", "--seed", "-1", "--dry-run"], "seed=-1 must be at least 0"),
        (
            ["run", f"{RECIPES}::bp", "--device", "abacus", "--dry-run"],
            "device='abacus' is not avail",
        ),
        (["run", f"{RECIPES}::bp", "--resume", "--overwrite"], "not allowed with argument"),
        (["run", f"{RECIPES}::pair"], "--out DIR is needed"),
        (["run", f"{RECIPES}::pair", "--seed", "1"], "not for a study; give a recipe of one run"),
        (
            ["run", f"{RECIPES}::bp", "--set", "bottleneck=3", "--out", "o"],
            f"neurofb scan {RECIPES}::bp --over bottleneck=3 --store STORE sets",
        ),
        (
            ["run", f"{RECIPES}::pair", "--workers", "0", "--out", "o"],
            "workers=0 must be at least 1",
        ),
        (["demo", "--preset", "bogus", "--out", "o"], "no function 'bogus'"),
        (["demo"], "required: --out"),
        (["figure", "bogus", "x.zarr", "--out", "f.png"], "figure 'bogus' is not one of figure5"),
        (["figure", "figure5", "x.zarr", "--out", "f.png"], "'x.zarr' does not exist"),
        (["figure", "figure5", RECIPES, "--out", "f.png"], "must end in .zarr or .nc"),
        (["analyse", ANALYSIS, "x.zarr", "--out", "o"], "'x.zarr' does not exist"),
        (["list", "bogus"], "list 'bogus' is not one of recipes"),
    ],
)
def test_mistakes_take_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert not (tmp_path / "o").exists()


def test_a_recipe_that_fails_is_named(capsys, tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "syntax.py").write_text("def")
    for name in ("broken", "syntax"):
        assert "fails: " in refused(capsys, "run", f"{tmp_path / name}.py::x", "--dry-run")


def test_run_resume_refuse_overwrite(capsys, tmp_path):
    words = ["run", f"{RECIPES}::bp", "--out", str(tmp_path / "out"), "--seed", "3"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("test accuracy 0.")
    assert "\r" not in captured.err
    assert captured.err.startswith("step ")
    assert labels.load(tmp_path / "out" / "result.zarr").attrs["seed"] == 3
    assert "holds a run already" in refused(capsys, *words)
    assert main([*words, "--resume"]) == 0
    assert "other settings: seed: 3 → 4" in refused(capsys, *words[:-1], "4", "--resume")


def test_an_exploding_run_takes_one_line(capsys, tmp_path):
    words = ["run", f"{RECIPES}::bp", "--out", tmp_path / "out"]
    assert (
        main([str(word) for word in (*words, "--set", "training.num_steps=12", "--dry-run")]) == 0
    )
    capsys.readouterr()
    line = refused(capsys, *words, "--set", "training.optimiser.learning_rate=1e30")
    assert "learning_rate=1e+30" in line.splitlines()[-1]


def test_list(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("models/retina_vvs.py::ldfa", "LowRank", "ShapesOnLeaves", "figure5", "Cifar"):
        assert name in text


@pytest.mark.parametrize("name", ["figure5", "montage", "distributions", "rank", "learning"])
def test_figure(name, result, capsys, tmp_path):
    words = ["figure", name, str(result), "--out", str(tmp_path / f"{name}.png")]
    status = main(words)
    captured = capsys.readouterr()
    if name == "rank" and status:  # two conditions of backpropagation have no rank to draw
        assert captured.err.count("\n") == 1
        return
    assert status == 0, captured.err
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figure_of_another_layer_or_format(result, capsys, tmp_path):
    line = refused(capsys, "figure", "montage", result, "--layer", "x", "--out", tmp_path / "f.png")
    assert "layer='x' is not in the study; it has retina" in line
    line = refused(capsys, "figure", "learning", result, "--out", tmp_path / "f.jpg")
    assert "must end in .png or .pdf" in line


def test_analyse(result, capsys, tmp_path):
    def table(study):
        return xr.Dataset({"n": labels.variable((), len(study.children), "1", "layers")}), {}

    recipe = tmp_path / "count.py"
    recipe.write_text(
        "import xarray as xr\n\n\ndef analyse(study):\n"
        "    return xr.Dataset({'n': len(study.children)}), {}\n\n\n"
        "def wrong(study):\n    return 3\n"
    )
    out = tmp_path / "analysis"
    assert main(["analyse", str(recipe), str(result), "--out", str(out)]) == 0
    assert int(labels.load(out / "analysis.zarr")["n"]) == int(table(labels.load(result))[0]["n"])
    line = refused(capsys, "analyse", f"{recipe}::wrong", result, "--out", out)
    assert "must return a dataset and a dict of figures" in line


@pytest.mark.slow
def test_a_run_killed_in_training_and_resumed_is_the_uninterrupted_one(tmp_path):
    out = tmp_path / "out"
    words = ["run", f"{RECIPES}::low_rank", "--set", "training.num_steps=400", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "neurofb.cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    state = load_checkpoint(out)
    assert state is not None
    assert 0 < state["step"] < 400
    assert not (out / "result.zarr").exists()
    assert main([*words, "--resume"]) == 0
    assert main([*words[:-1], str(tmp_path / "whole")]) == 0
    resumed, whole = (labels.load(f / "result.zarr") for f in (out, tmp_path / "whole"))
    for node in whole.subtree:
        xr.testing.assert_equal(
            node.to_dataset(inherit=False), resumed[node.path].to_dataset(inherit=False)
        )
