"""Rounds of a scan that is killed and started again: nothing is lost, nothing is done twice."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rounds(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scan_kill_rounds

    return scan_kill_rounds


@pytest.mark.parametrize(
    ("num_rounds", "num_cells", "seed", "most_kills", "least_kills"),
    [(1, 12, 166, 1, 1), pytest.param(2, 24, 114, 4, 2, marks=pytest.mark.slow)],
)
def test_rounds_of_kills(rounds, num_rounds, num_cells, seed, most_kills, least_kills):
    """Quick: coordinator. Slow: coordinator, 2 workers; coordinator, worker, coordinator.

    The last of these rounds trains networks. benchmarks/scan_kill_rounds.py has 20 of 60 cells.
    """
    played = list(rounds.play(num_rounds, num_cells, seed, most_kills))
    totals = rounds.totals(played)
    assert totals["num_rounds"] == num_rounds
    assert sum(totals["kills"].values()) >= num_rounds * least_kills
    if least_kills > 1:
        assert totals["resumes"] >= num_rounds
    assert totals["executions"] >= totals["cells"] == num_rounds * num_cells
    if num_rounds > 1:
        assert {entry["kind"] for entry in played} == {"function", "run"}
    assert totals["longest_life_of_an_orphan_s"] < 30


def test_a_finished_cell_that_starts_again_is_seen(rounds, tmp_path):
    tally = tmp_path / "tally.txt"
    tally.write_text("1.5 gain=1,seed=0 0\n2.5 gain=1,seed=0 4\n", encoding="utf-8")
    starts = rounds.read_tally(tally)
    assert starts == [("gain=1,seed=0", 1.5, 0), ("gain=1,seed=0", 2.5, 4)]
    assert rounds.started_again(starts, {"gain=1,seed=0": 2.0}) == [("gain=1,seed=0", 2.5)]
    assert rounds.started_again(starts, {"gain=1,seed=0": 3.0}) == []
