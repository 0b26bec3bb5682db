"""Two processes with half of the batch each end where one with the whole batch does."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("distributed_run.py")


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory):
    """One pair of processes for all rules, since starting torch is most of the time."""
    folder = tmp_path_factory.mktemp("distributed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), "2", folder / "meeting", folder / f"{rank}.pt"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def final_state():
    return runpy.run_path(str(SCRIPT))["final_state"]


def test_same_weights_as_one_process_with_the_joined_batch(
    request, spec, in_two_processes, final_state
):
    name = request.node.callspec.id
    first, second = (states[name] for states in in_two_processes)
    alone = final_state(spec, 0, 1)
    assert first.keys() == second.keys() == alone.keys()
    moved = [key for key, (start, end) in alone.items() if not torch.equal(start, end)]
    assert {"below.weight", "layer.weight", "readout.weight"} <= set(moved)
    for key, (start, end) in alone.items():
        assert torch.equal(first[key][0], start), key
        assert torch.equal(first[key][1], second[key][1]), key
        torch.testing.assert_close(first[key][1], end, rtol=1e-9, atol=1e-12, msg=key)


def test_the_pair_trains_every_rule(request, in_two_processes):
    """A rule that is added to the list is tested here without another word."""
    here = runpy.run_path(str(SCRIPT.with_name("conftest.py")))["PATHWAYS"]
    assert in_two_processes[0].keys() == here.keys()
