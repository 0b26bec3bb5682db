"""Ways in which finished results could be lost or mixed up, each once seen."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurofb.scan import Scan, ScanStoppedError, open_scan, run_scan, status
from neurofb.scan import data as data_module
from neurofb.scan.cell import this_process
from neurofb.scan.coordinator import Coordinator
from neurofb.scan.lock import only_writer
from neurofb.scan.scanning import cells_folder
from neurofb.scan.store import Store

RECIPES = Path(__file__).with_name("recipes.py")
WAVE = f"{RECIPES}::wave"


def waves(axes=None, **settings):
    return Scan(name="waves", recipe=WAVE, axes=axes or {"seed": range(2)}, settings=settings)


def run(scan, store, **how):
    return run_scan(scan, store, workers=0, progress=False, **how).load()


def test_what_another_store_of_this_name_left_is_not_taken(tmp_path, monkeypatch):
    """An outcome waits beside the store; the store is removed and made anew with other settings."""
    store = tmp_path / "a.zarr"

    def interrupted(self, name):
        if (self.folder / name / "outcome.npz").exists():
            raise KeyboardInterrupt
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(waves(gain=1), store)
    assert len(list(cells_folder(store).glob("*/seed=0/outcome.npz"))) == 1
    shutil.rmtree(store)
    found = run(waves(gain=7), store)
    expected = run(waves(gain=7), tmp_path / "b.zarr")
    np.testing.assert_array_equal(found["response"], expected["response"])


def test_arguments_that_json_cannot_say_are_refused(tmp_path):
    found = run(waves({("seed", "tally"): [(0, ""), (1, "")]}, gain=2.5), tmp_path / "a.zarr")
    assert json.loads(found.attrs["neurofb_config"])["gain"] == 2.5
    with pytest.raises(ValueError, match=r"setting 'gain': .* is a complex; allowed"):
        run(waves(gain=2j), tmp_path / "b.zarr")


def test_an_extension_with_other_settings_is_refused(tmp_path):
    store = tmp_path / "a.zarr"
    run(waves({"seed": [0]}, gain=2), store)
    with pytest.raises(ValueError, match=r"settings: \{'gain': 2\} → \{'gain': 3\}"):
        run(waves({"seed": [1]}, gain=3), store)
    with pytest.raises(ValueError, match=r"gain: 2 → 3 \(cell seed=0\)"):
        run(waves({"seed": [0, 1]}, gain=3), store)
    assert run(waves({"seed": [1]}, gain=2), store).sizes["seed"] == 2


def test_one_lock_whatever_links_lead_to_a_store(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    run(waves(), tmp_path / "far" / "a.zarr")
    (tmp_path / "near" / "a.zarr").symlink_to(tmp_path / "far" / "a.zarr")
    with (
        only_writer(cells_folder(tmp_path / "far" / "a.zarr"), Path("a.zarr")),
        pytest.raises(ValueError, match="is being written by another scan"),
    ):
        run(None, tmp_path / "near" / "a.zarr")


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "full")])
def test_a_cell_that_fails_while_the_store_grows_harms_no_other(tmp_path, monkeypatch, error):
    store = tmp_path / "a.zarr"
    run(waves(), store)
    whole, raised = data_module.arrays.add_array, []

    def once(group, name, *others):
        if name == "extra" and not raised:
            raised.append(name)
            raise error
        return whole(group, name, *others)

    monkeypatch.setattr(data_module.arrays, "add_array", once)
    opened = Store(store)
    name = "seed=0"
    longer = {
        "response": (("time",), np.arange(9.0), {}),
        "time": (("time",), np.arange(9.0) * 0.5, {}),
    }
    with pytest.raises(type(error)):
        opened.write(name, {**longer, "extra": ((), np.array(1.0), {})}, 1.0)
    assert raised
    opened.write("seed=1", longer, 1.0)
    found = open_scan(store).load()
    assert found.sizes["time"] == 9
    assert found["response"].sel(seed=1).values.tolist() == list(range(9))


def test_an_analysis_that_fails_does_not_cost_the_training(tmp_path):
    analysis = tmp_path / "analysis.py"
    analysis.write_text("def per_run(run):\n    raise ValueError('not yet')\n")
    scan = Scan(
        name="tiny", recipe=f"{RECIPES}::tiny_run", axes={"seed": [0]}, analyse=str(analysis)
    )
    store = tmp_path / "a.zarr"
    with pytest.warns(UserWarning, match="1 of 1 cells failed"):
        run(scan, store)
    (result,) = cells_folder(store).glob("*/seed=0/run/result.zarr")
    written = result.stat().st_mtime_ns
    analysis.write_text("def per_run(run):\n    return run.to_dataset()[['test_loss']]\n")
    with pytest.warns(UserWarning, match="analysis.py changed since the store was made"):
        found = run(scan, store, retry_failed=True, keep=True)
    assert found["status"].values.tolist() == [1]
    assert result.stat().st_mtime_ns == written


def test_a_kill_before_the_first_cell_leaves_no_store_or_one_that_knows_its_cells(
    tmp_path, monkeypatch
):
    store = tmp_path / "a.zarr"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "ask", killed)
        with pytest.raises(KeyboardInterrupt):
            run(waves(), store)
    assert not store.exists()
    run(waves(), store)
    assert "2 cells (seed 2): 2 done" in status(store)


def test_a_time_limit_never_ends_the_coordinator(tmp_path):
    from neurofb.scan.cell import attempt

    settings = {"time_limit": 5.0, "coordinator": this_process()}
    attempt(tmp_path, lambda: 1 / 0, settings)
    assert "needs worker processes" in (tmp_path / "failure.txt").read_text()


def test_recomputed_cells_keep_nothing_of_before(tmp_path):
    store = tmp_path / "a.zarr"
    run(waves(), store)
    opened = Store(store)
    opened.write("seed=0", {"other": ((), np.array(2.0), {})}, 1.0)
    found = open_scan(store).load()
    assert np.isnan(found["peak"].sel(seed=0))
    assert found["other"].sel(seed=0) == 2
    assert opened.damaged() == []


def test_independent_seeds_need_a_seed(tmp_path):
    scan = Scan(
        name="a", recipe=f"{RECIPES.with_name('odd_recipes.py')}::constant", axes={"a": [1]},
        independent_seeds=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="has no argument 'seed'"):
        run(scan, tmp_path / "a.zarr")


def test_stopped_scans_say_so(tmp_path):
    scan = Scan(
        name="a", recipe=f"{RECIPES.with_name('odd_recipes.py')}::gone", axes={"seed": range(5)}
    )
    with pytest.raises(ScanStoppedError, match="the first 3 cells all failed alike"):
        run(scan, tmp_path / "a.zarr")


def test_a_script_without_a_main_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from neurofb.scan import Scan, run_scan\n"
        f"scan = Scan(name='waves', recipe={WAVE!r}, axes={{'seed': range(4)}})\n"
        f"run_scan(scan, {str(tmp_path / 'a.zarr')!r}, workers=1, progress=False)\n"
    )
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert answer.returncode == 1
    assert (
        answer.stderr.strip()
        .splitlines()[-1]
        .startswith("neurofb.scan.coordinator.ScanStoppedError: workers die before they begin")
    )
    assert '`if __name__ == "__main__":`' in answer.stderr
    assert (open_scan(tmp_path / "a.zarr")["status"] == 0).all()


def test_changed_code_is_said_before_the_first_cell_on_resume_too(tmp_path):
    recipe = tmp_path / "recipe.py"
    text = RECIPES.with_name("odd_recipes.py").read_text()
    recipe.write_text(text)
    store = tmp_path / "a.zarr"
    run(Scan(name="a", recipe=f"{recipe}::constant", axes={"a": [1.0]}), store)
    recipe.write_text(f"{text}\n# another\n")
    with pytest.warns(UserWarning, match="recipe.py changed since the store was made"):
        run(None, store)
    journal = (cells_folder(store) / "journal.txt").read_text()
    assert "code: " in journal


def test_floats_stay_floats_and_can_grow(tmp_path):
    store = tmp_path / "a.zarr"
    assert run(waves({"gain": [1.0, 2.0]}), store)["gain"].dtype == np.float64
    grown = run(waves({"gain": [1, 2.5]}), store)
    assert grown["gain"].values.tolist() == [1, 2, 2.5]
    assert (grown["status"] == 1).all()


def test_settings_that_change_together_are_coordinates(tmp_path):
    found = run(waves({("seed", "gain"): [(0, 2.0), (1, 3.0)]}), tmp_path / "a.zarr")
    assert found.coords["gain"].dims == ("seed",)
    assert found["gain"].values.tolist() == [2, 3]


def test_an_axis_is_no_setting_for_all(tmp_path):
    with pytest.raises(ValueError, match="setting 'seed' is an axis"):
        run(waves({"seed": [0]}, seed=3), tmp_path / "a.zarr")
