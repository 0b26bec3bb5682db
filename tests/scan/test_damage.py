"""A kill at every second write, and damaged files: the store opens, and resuming repairs it."""

import os
from pathlib import Path

import pytest
import xarray as xr
from zarr.storage import LocalStore

from neurofb.scan import Scan, run_scan
from neurofb.scan.coordinator import Coordinator
from neurofb.scan.scanning import cells_folder

RECIPES = Path(__file__).with_name("recipes.py")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rounds(monkeypatch):
    """The functions of the kill rounds that look at a store."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scan_kill_rounds

    return scan_kill_rounds


def ragged(tmp_path, gains, seeds):
    settings = {"tally": str(tmp_path / "tally.txt"), "slowness": 0.0}
    axes = {"gain": gains, "seed": seeds}
    return Scan(name="r", recipe=f"{RECIPES}::ragged", axes=axes, settings=settings)


def starts(tmp_path):
    path = tmp_path / "tally.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.split(maxsplit=1)[1] for line in lines]


def both_sittings(tmp_path, folder):
    """A scan that grows in every way: labels, variables, lengths, then both axes."""
    store = folder / "a.zarr"
    run_scan(ragged(tmp_path, [1], [0, 1]), store, workers=0, progress=False)
    run_scan(ragged(tmp_path, [1, 2], [0, 1, 5]), store, workers=0, progress=False)
    return store


def dies_at(number, how, work):
    """Do the work in a forked process that ends at this write to a store; tell whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    try:
        count = [0]

        def dying(method):
            async def counted(self, key, *rest):
                count[0] += 1
                if count[0] == number:
                    if how == "half" and rest:
                        half = self.root / f"{key}.0.partial"
                        half.parent.mkdir(parents=True, exist_ok=True)
                        half.write_bytes(rest[0].to_bytes()[: len(rest[0]) // 2])
                    os._exit(9)
                return await method(self, key, *rest)

            return counted

        for name in ("set", "set_if_not_exists", "delete", "delete_dir"):
            setattr(LocalStore, name, dying(getattr(LocalStore, name)))
        work()
    finally:
        os._exit(0)


@pytest.mark.parametrize(("first", "step"), [(5, 31), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_a_kill_at_any_write(tmp_path, rounds, first, step):
    expected = both_sittings(tmp_path, tmp_path)
    reference = xr.open_zarr(expected, chunks=None).load()
    points = 0
    for number in range(first, 10_000, step):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (tmp_path / "tally.txt").unlink(missing_ok=True)
        how = ("clean", "half")[number // step % 2]
        if not dies_at(number, how, lambda: both_sittings(tmp_path, folder)):  # noqa: B023
            break
        points += 1
        store = folder / "a.zarr"
        finished = {cells.name for cells in cells_folder(store).glob("*/*=*") if rounds_done(cells)}
        if store.exists():
            _opens(store)
            finished |= rounds.finished_cells(store)
        before = starts(tmp_path)
        run_scan(ragged(tmp_path, [1, 2], [0, 1, 5]), store, workers=0, progress=False)
        again = starts(tmp_path)[len(before) :]
        assert not finished & set(again), (number, finished, again)
        assert rounds.look(store, reference) == 6, number
        left = [path for path in folder.rglob("*") if "partial" in path.name]
        left += [path for path in cells_folder(store).iterdir() if path.is_dir()]
        assert not left, (number, left)
    assert points > (60 if step == 2 else 4)


def rounds_done(folder):
    return (folder / "outcome.npz").exists()


def _opens(store):
    """Plain xarray opens it without a warning, and cells that are done have all their data."""
    with xr.open_zarr(store, chunks=None) as dataset:
        dataset.load()
    done = dataset["status"].values == 1
    if done.any():
        assert not dataset["mean"].isnull().values[done].any()
        assert not (dataset["sign"].values[done][:, 0] == "").any()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("finished")
    return tmp_path, both_sittings(tmp_path, tmp_path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_damaged_chunks_are_found_and_computed_again(finished, rounds, damage):
    tmp_path, store = finished
    reference = xr.open_zarr(store, chunks=None).load()
    files = [p for name in ("curve", "mean", "sign") for p in (store / name / "c").glob("1/1/**/*")]
    files = [path for path in files if path.is_file()]
    assert len(files) >= 3
    for path in files:
        damage(path)
        before = starts(tmp_path)
        run_scan(None, store, workers=0, verify=True, progress=False)
        assert starts(tmp_path)[len(before) :] == ["gain=2,seed=1"], path
        assert rounds.look(store, reference) == 6
    journal = (cells_folder(store) / "journal.txt").read_text(encoding="utf-8")
    assert "damaged gain=2,seed=1: its data are not as they were written" in journal
    before = starts(tmp_path)
    run_scan(None, store, workers=0, verify=True, progress=False)
    assert starts(tmp_path) == before


@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_damaged_outcome_is_computed_again(tmp_path, rounds, finished, monkeypatch, damage):
    reference = xr.open_zarr(finished[1], chunks=None).load()
    store, take = tmp_path / "a.zarr", Coordinator._take

    def interrupted(self, name):
        if (self.folder / name / "outcome.npz").exists():
            raise KeyboardInterrupt
        return take(self, name)

    scan = ragged(tmp_path, [1, 2], [0, 1, 5])
    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_scan(scan, store, workers=0, progress=False)
    assert starts(tmp_path) == ["gain=1,seed=0"]
    (outcome,) = cells_folder(store).glob("*/gain=1,seed=0/outcome.npz")
    damage(outcome)
    run_scan(None, store, workers=0, progress=False)
    assert starts(tmp_path).count("gain=1,seed=0") == 2
    assert len(starts(tmp_path)) == 7
    assert rounds.look(store, reference) == 6
    journal = (cells_folder(store) / "journal.txt").read_text(encoding="utf-8")
    assert "damaged gain=1,seed=0: " in journal
