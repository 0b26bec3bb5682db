"""Two processes train as one does: same weights, histories, checkpoints; one of them writes."""

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neurofb import labels
from neurofb.training.distributed import Processes, join

SCRIPT = Path(__file__).with_name("distributed_run.py")


def start(rank: int, port: int, *command: object) -> subprocess.Popen[str]:
    """Start a process as torchrun would."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, **place, **address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def pair(folder):
    """What each of two processes found."""
    port = free_port()
    processes = [start(rank, port, SCRIPT, folder) for rank in range(2)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_weights_and_history_are_those_of_one_process(pair, script):
    """Batches that two do not divide, a layer whose pathway never fires, a direct pathway."""
    alone = script["run"](script["convolutional"])
    for whole in (process["whole"] for process in pair):
        assert whole["fired"] == alone["fired"] == {"retina_1": 0, "vvs_1": 11, "vvs_2": 11}
        for part in ("weights", "history"):
            for name, expected in alone[part].items():
                torch.testing.assert_close(
                    whole[part][name], expected, rtol=1e-6, atol=1e-7, msg=name
                )
        torch.testing.assert_close(whole["snapshots"], alone["snapshots"])


def test_factors_are_those_of_one_process(pair, script):
    """Local terms of each share of a batch, retraction, and the same components cut away."""
    alone = script["run"](script["factored"], svd_space=script["SVD_SPACE"])["weights"]
    assert alone["hidden_1.s"].shape == (3,)
    for process in pair:
        for name, expected in alone.items():
            found = process["factored"]["weights"][name]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7, msg=name)


def test_all_processes_have_the_same_result(pair):
    first, second = pair
    for name in ("whole", "perceptron", "factored"):  # the second with batch norm and dropout
        assert same(first[name]["weights"], second[name]["weights"])
        assert same(first[name]["history"], second[name]["history"])
        assert torch.equal(first[name]["snapshots"], second[name]["snapshots"])


def test_noise_differs_between_processes(pair):
    assert pair[0]["noise_seed"] != pair[1]["noise_seed"]


def test_a_resumed_run_is_the_same_bit_for_bit(pair):
    for process in pair:
        assert process["resumed"]["resumed_from"] == 4
        assert same(process["resumed"]["weights"], process["whole"]["weights"])
        assert same(process["resumed"]["history"], process["whole"]["history"])


def test_the_first_process_alone_writes_and_one_can_go_on_from_it(pair, folder, script):
    assert [path.name for path in (folder / "run").iterdir()] == ["checkpoint.pt"]
    with pytest.warns(UserWarning, match=r"another number of processes \(2 -> 1\)"):
        alone = script["run"](script["convolutional"], folder / "run", resume=True)
    assert alone["resumed_from"] == 11
    assert same(alone["weights"], pair[0]["whole"]["weights"])


def test_errors_reach_all_processes(pair):
    first, second = (process["refused_folder"] for process in pair)
    assert "holds a checkpoint; resume=True" in first
    assert second == f"the first process failed: {first}"
    for process in pair:
        assert process["refused_batches"] == (
            "batch_size=23 leaves 1 of 70 images for an epoch's last batch; each of the 2 "
            "processes needs at least one"
        )


def test_shares_are_a_partition_and_their_weighted_means_the_whole_mean():
    batch = torch.arange(8.0)
    every = [Processes(rank=rank, count=3) for rank in range(3)]
    shares = [process.share(batch) for process in every]
    assert torch.equal(torch.cat(shares), batch)
    assert [len(share) for share in shares] == [3, 3, 2]
    means = [
        process.weigh(share.mean(), len(share), 8)
        for process, share in zip(every, shares, strict=True)
    ]
    torch.testing.assert_close(torch.stack(means).mean(), batch.mean())


def test_one_process_is_alone_and_a_worker_of_a_study_too(monkeypatch):
    assert join() == Processes(rank=0, count=1)
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "a pool")
    assert join() == Processes(rank=0, count=1)


@pytest.mark.slow
def test_torchrun_of_the_command_line_writes_one_result(tmp_path):
    recipe = f"{SCRIPT.parent.parent / 'tiny_recipes.py'}::low_rank"
    arguments = ["--standalone", "--nproc-per-node", "2", "-m", "neurofb.cli", "run", recipe]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments, "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = labels.load(tmp_path / "run" / "result.zarr")
    assert result["training"].sizes["step"] == 12
    assert done.stderr.count("step 12/12") == 1
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert found == ["checkpoint.pt", "config.json", "result.zarr"]
