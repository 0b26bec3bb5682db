"""Recipes that compute a Dataset: their arguments as text, their folder, `neurofb run`."""

import json

import pytest
import xarray as xr

from neurofb import labels
from neurofb.cli import main
from neurofb.simulation import arguments_of, simulate

TEXT = '''
from typing import Literal

import numpy as np
import xarray as xr

from neurofb import labels


def wave(
    gain: float = 1.0,
    ranks: tuple[int, ...] = (1, 2),
    kinds: tuple[str, ...] = ("a",),
    shape: Literal["sine", "box"] = "sine",
    samples: int | None = None,
    flag: bool = False,
    loose=3,
    seed: int = 0,
) -> xr.Dataset:
    """A noisy wave.

    More of it.
    """
    values = gain * np.random.default_rng(seed).normal(size=len(ranks))
    wave = labels.variable("rank", values, "mV", "wave")
    return xr.Dataset({"wave": wave}, {"rank": list(ranks)})


def placed(device: str = "cpu") -> xr.Dataset:
    """Somewhere."""
    return xr.Dataset({"device": device})


def needs(count: int) -> "xr.Dataset":
    """No default."""
    return xr.Dataset({"count": count})


def lies() -> xr.Dataset:
    """It returns something else."""
    return 3
'''


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "waves.py"
    path.write_text(TEXT)
    return f"{path}::wave"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("gain", "2", 2.0),
        ("gain", "1e-3", 1e-3),
        ("ranks", "1,2,4", (1, 2, 4)),
        ("ranks", "[8]", (8,)),
        ("ranks", "8", (8,)),
        ("kinds", "BP,LDFA fixed P", ("BP", "LDFA fixed P")),
        ("kinds", "BP", ("BP",)),
        ("kinds", "4", ("4",)),
        ("shape", "box", "box"),
        ("samples", "None", None),
        ("samples", "null", None),
        ("samples", "100", 100),
        ("flag", "True", True),
        ("loose", "x", "x"),
        ("loose", "[1, 2]", [1, 2]),
        ("seed", "7", 7),
    ],
)
def test_text_becomes_what_the_annotation_says(recipe, name, text, value):
    arguments = arguments_of(recipe, {name: text})
    assert arguments[name] == value
    assert type(arguments[name]) is type(value)
    default = arguments_of(recipe, {})
    assert {**arguments, name: 0} == {**default, name: 0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain": "loud"}, "gain=loud: allowed is float (Input should be a valid number)"),
        ({"ranks": "1,2.5"}, r"ranks=1,2.5: allowed is tuple[int, ...]"),
        ({"shape": "round"}, "shape=round: allowed is"),
        ({"seed": "1.5"}, "seed=1.5: allowed is int"),
        ({"flag": "1"}, "flag=1: allowed is bool"),
        ({"gian": "2"}, "has no argument 'gian'; it has: gain"),
    ],
)
def test_wrong_values_are_named(recipe, settings, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        arguments_of(recipe, settings)
    assert message in str(error.value)


def test_a_device_is_one_that_is_there(recipe):
    placed = recipe.replace("::wave", "::placed")
    assert arguments_of(placed, {"device": "auto"})["device"] in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="device='gpu9' is not available; here: auto"):
        arguments_of(placed, {"device": "gpu9"})


def test_a_missing_argument_and_a_wrong_answer(recipe):
    needs, lies = (recipe.replace("::wave", f"::{name}") for name in ("needs", "lies"))
    with pytest.raises(ValueError, match="needs the argument 'count': --set count=VALUE"):
        arguments_of(needs, {})
    assert int(simulate(needs, arguments_of(needs, {"count": "3"}))["count"]) == 3
    with pytest.raises(ValueError, match="returns a int, not a Dataset"):
        simulate(lies, {})


def test_the_result_says_what_made_it(recipe, tmp_path):
    out = tmp_path / "out"
    assert main(["run", recipe, "--set", "ranks=1,2,4", "--seed", "5", "--out", str(out)]) == 0
    result = labels.load(out / "result.zarr")
    said = json.loads(result.attrs["neurofb_config"])
    assert said["recipe"] == recipe
    assert said["arguments"]["ranks"] == [1, 2, 4]
    assert said["arguments"]["gain"] == 1.0
    assert result.attrs["seed"] == 5
    assert result.attrs["title"] == "A noisy wave."
    direct = simulate(recipe, arguments_of(recipe, {"ranks": "1,2,4", "seed": "5"}))
    xr.testing.assert_identical(result.to_dataset().drop_attrs(), direct.drop_attrs())


def test_resume_refuse_overwrite(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["run", recipe, "--out", str(out)]
    assert main(words) == 0
    created = labels.load(out / "result.zarr").attrs["wall_seconds"]
    assert main(words) == 2
    assert "holds a simulation already" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert labels.load(out / "result.zarr").attrs["wall_seconds"] == created
    assert main([*words, "--resume", "--set", "gain=2", "--seed", "1"]) == 2
    assert "other settings: gain: 1.0 → 2.0; seed: 0 → 1" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--set", "gain=2"]) == 0
    assert (
        json.loads(labels.load(out / "result.zarr").attrs["neurofb_config"])["arguments"]["gain"]
        == 2
    )
    (out / "config.json").write_text('{"name": "a run"}')
    for option in ("--resume", "--overwrite"):
        assert main([*words, option]) == 2
        assert "holds a run, or a result of something else" in capsys.readouterr().err


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_a_folder_without_a_result_is_free(recipe, tmp_path, option):
    """A simulation that was refused or cut short does not stand in the way of its correction."""
    out = tmp_path / "out"
    lies = recipe.replace("::wave", "::lies")
    assert main(["run", lies, "--out", str(out)]) == 2
    assert [path.name for path in out.iterdir()] == ["config.json"]
    assert main(["run", recipe, "--out", str(out), *option]) == 0
    said = labels.load(out / "result.zarr").attrs
    assert json.loads(said["neurofb_config"])["recipe"] == recipe
    assert said["references"] == ""


def test_dry_run_lists_the_arguments_and_writes_nothing(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", recipe, "--dry-run", "--set", "gain=2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A noisy wave.\n  gain = 2.0\n  ranks = (1, 2)\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "2"), "--workers is for a study"),
        ((), "--out DIR is needed"),
        (("--device", "cpu", "--dry-run"), "has no argument 'device'"),
        (("--set", "gain", "--dry-run"), "must be NAME=VALUE"),
    ],
)
def test_mistakes_take_one_line(recipe, words, message, capsys):
    assert main(["run", recipe, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
