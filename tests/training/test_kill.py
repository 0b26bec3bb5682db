"""Kill -9 while training, resume, compare with the run that was left alone."""

import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
import xarray as xr

from neurofb.training.order import batch_indices

SCRIPT = Path(__file__).with_name("killed_run.py")


def start_and_kill(
    folder: Path, num_steps: int, precision: str, delay: float, *, wait: bool
) -> None:
    arguments = [sys.executable, str(SCRIPT), str(folder), str(num_steps), precision]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while wait and not (folder / "checkpoint.pt").exists():
            time.sleep(0.001)
            assert child.poll() is None
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, f"it had ended after {delay} s"


def check_equal_after_kills(
    script: ModuleType, folder: Path, num_steps: int, precision: str, num_kills: int
) -> list[int]:
    began = time.perf_counter()
    alone, expected = script.run(None, num_steps, precision, resume=False)
    duration = time.perf_counter() - began
    reached = []
    for _ in range(num_kills):
        delay = random.uniform(0, 0.1 if num_kills == 1 else 0.8 * duration / num_kills)
        start_and_kill(folder, num_steps, precision, delay, wait=num_kills == 1)
        path = folder / "checkpoint.pt"
        reached.append(torch.load(path, weights_only=True)["step"] if path.exists() else 0)
    killed, result = script.run(folder, num_steps, precision, resume=True)
    assert result.resumed_from == reached[-1]
    for name, value in alone.state_dict().items():
        other = killed.state_dict()[name]
        same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        assert same, f"{name} differs after kills at steps {reached}"
    xr.testing.assert_identical(result.history, expected.history)
    checksums = [
        zlib.crc32(batch_indices(5, step, 70, 16).numpy().tobytes()) for step in range(num_steps)
    ]
    assert result.history.batch_checksum.values.tolist() == checksums
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    return reached


def test_one_kill(tmp_path: Path, tiny: ModuleType):
    (reached,) = check_equal_after_kills(tiny, tmp_path, 100, precision="float32", num_kills=1)
    assert 0 < reached < 100


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_five_kills_at_random_moments(tmp_path: Path, tiny: ModuleType, precision: str):
    reached = check_equal_after_kills(
        tiny, tmp_path, num_steps=600, precision=precision, num_kills=5
    )
    assert reached == sorted(reached)
    assert reached[-1] > 0
