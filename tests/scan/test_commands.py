"""`neurofb scan` and `neurofb report` as a user types them."""

from pathlib import Path

import pytest

from neurofb.cli import main
from neurofb.scan import open_scan

RECIPES = Path(__file__).with_name("recipes.py")
WAVE = f"{RECIPES}::wave"
TROUBLE = f"{RECIPES}::trouble"
LIMITED = ("scan", WAVE, "--over", "gain=1", "--store", "a.zarr", "--time-limit", "1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROFB_CACHE", str(tmp_path / "cache"))


def words(*line):
    return [str(word) for word in line]


def scan(store, *more, recipe=WAVE):
    line = ("scan", recipe, "--over", "seed=0:2", "--store", store, "--workers", 0, *more)
    return main(words(*line))


def refused(capsys, *line):
    try:
        status = main(words(*line))
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_start_extend_status(tmp_path, capsys):
    store = tmp_path / "waves.zarr"
    assert scan(store, "--over", "gain=1,2") == 0
    assert f"{store}: 4 cells (seed 2 × gain 2): 4 done, 0 failed" in capsys.readouterr().out
    assert scan(store, "--over", "gain=1,2,3") == 0
    assert main(words("scan", "status", store)) == 0
    assert "6 cells (seed 2 × gain 3): 6 done" in capsys.readouterr().out
    assert open_scan(store)["peak"].sel(gain=3).notnull().all()


def test_a_failed_cell_gives_status_1_and_resume_retries_only_if_told(tmp_path, capsys):
    store, tally = tmp_path / "trouble.zarr", tmp_path / "tally.txt"
    more = ("--over", "what=fine,raise", "--set", f"tally={tally}")
    assert scan(store, *more, recipe=TROUBLE) == 1
    captured = capsys.readouterr()
    assert "4 cells (seed 2 × what 2): 2 done, 2 failed, 0 pending" in captured.out
    assert "failed: seed=0 what=raise" in captured.out
    assert f"neurofb scan resume {store} --retry-failed  goes on" in captured.out
    assert "neurofb scan: 2 of 4 cells failed" in captured.err
    count = tally.read_text().count("\n")
    assert main(words("scan", "resume", store, "--workers", 0)) == 1
    assert tally.read_text().count("\n") == count
    assert main(words("scan", "resume", store, "--workers", 0, "--retry-failed")) == 1
    assert tally.read_text().count("\n") == count + 2


def test_a_dry_run_lists_the_cells_and_writes_nothing(tmp_path, capsys):
    line = ("scan", WAVE, "--over", "gain=1,2", "--over", "seed=0:9", "--dry-run")
    assert main(words(*line, "--where", "seed > gain")) == 0
    out = capsys.readouterr().out
    assert "13 cells of gain 2 × seed 9" in out
    assert "gain=1,seed=3" in out
    assert "… and 3 more" in out
    assert list(tmp_path.iterdir()) == []


def test_a_report(tmp_path, capsys):
    store = tmp_path / "waves.zarr"
    scan(store, "--over", "gain=1,2")
    assert main(words("report", store, "--out", tmp_path / "page.html")) == 0
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(words("report", store)) == 0
    assert (tmp_path / "waves.html").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("scan", WAVE), "--over NAME=VALUE,VALUE is needed"),
        (("scan", WAVE, "--over", "gain=1"), "--store PATH.zarr is needed"),
        (("scan", WAVE, "--over", "gain=1", "--over", "gain=2", "--dry-run"), "an axis already"),
        (("scan", WAVE, "--over", "gane=1", "--dry-run"), "'gane' is no argument"),
        (
            ("scan", "wave", "--over", "gain=1", "--dry-run"),
            "neither a recipe (path/to/file.py::function), nor status",
        ),
        (("scan", "resume"), "`neurofb scan resume STORE` needs a store"),
        (("scan", "status", "nowhere.zarr"), "is no store of a scan"),
        (("scan", "resume", "nowhere.zarr"), "does not exist"),
        (("scan", "resume", "nowhere.zarr", "--over", "a=1"), "not for `scan resume`"),
        (("scan", WAVE, "--over", "gain=1", "--set", "a"), "--set 'a' must be NAME=VALUE"),
        (("scan", WAVE, "--over", "gain=1", "--store", "waves.nc"), "must end in .zarr"),
        ((*LIMITED, "--workers", "0"), "time_limit=1 needs worker processes"),
        (("scan", WAVE, "--over", "gain=1", "--store", "a.zarr", "--threads", "0"), "threads=0"),
        (("report", "nowhere.zarr"), "nowhere.zarr"),
    ],
)
def test_mistakes_end_in_one_line(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *line)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".zarr"] == []


def test_other_settings_are_refused_with_the_difference(tmp_path, capsys):
    store = tmp_path / "waves.zarr"
    scan(store, "--over", "gain=1,2")
    capsys.readouterr()
    line = ("scan", WAVE, "--over", "seed=0:2", "--over", "gain=1,2", "--store", store)
    message = refused(capsys, *line, "--set", "seconds=0.5")
    assert "seconds: 0.0 → 0.5 (cell seed=0,gain=1 and 3 more)" in message
    assert "axes" not in message
