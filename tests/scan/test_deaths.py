"""Whom a dead worker is blamed on."""

from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from neurofb.scan import coordinator
from neurofb.scan.deaths import MOST_DEATHS, Deaths, is_death
from neurofb.scan.starts import note_start, starts_in_vain


class KilledWorker(Exception):
    """What dask raises when four workers that held a task have died."""


@pytest.fixture
def cell(tmp_path) -> Path:
    (tmp_path / "cell" / "run").mkdir(parents=True)
    return tmp_path / "cell"


def checkpoint(cell: Path, number: int) -> None:
    path = cell / "run" / "checkpoint.pt"
    path.write_text(str(number))
    import os

    os.utime(path, ns=(number, number))


def test_a_cell_that_only_waited_on_dead_workers_runs_again(cell):
    deaths = Deaths(cell.parent)
    assert all(deaths.again("cell", KilledWorker()) for _ in range(5))
    note_start(cell)
    assert deaths.again("cell", KilledWorker())


def test_a_cell_that_has_killed_its_workers_does_not(cell):
    for _ in range(MOST_DEATHS):
        note_start(cell)
    assert not Deaths(cell.parent).again("cell", KilledWorker())


def test_workers_that_die_before_any_cell_begins_end_the_scan_too(cell):
    deaths = Deaths(cell.parent)
    answers = [deaths.again("cell", KilledWorker()) for _ in range(20)]
    assert answers.index(False) == 9


def test_a_cell_that_gets_further_each_time_is_never_given_up(cell):
    deaths = Deaths(cell.parent)
    for number in range(1, 20):
        note_start(cell)
        checkpoint(cell, number)
        assert deaths.again("cell", KilledWorker() if number % 2 else BrokenExecutor())
    assert starts_in_vain(cell) == 0
    answers = []
    for _ in range(3):
        note_start(cell)
        answers.append(deaths.again("cell", BrokenExecutor()))
    assert answers == [True, False, False]


def test_only_the_loss_of_a_worker_is_a_death():
    assert is_death(KilledWorker())
    assert not is_death(OSError("disk full"))


def test_a_late_file_is_waited_for(cell, monkeypatch):
    """File systems over a network show a file some time after its writer has said so."""
    looks = []

    def late(_: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            (cell / "outcome.npz").touch()

    monkeypatch.setattr(coordinator.time, "sleep", late)
    coordinator._await_answer(cell)
    assert len(looks) == 3
