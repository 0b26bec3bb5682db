"""Recipes that tests scan: quick ones, and ones that go wrong."""

import glob
import os
import signal
import sys
import time

import numpy as np
import xarray as xr

from neurofb.config import Measurement, RunConfig
from neurofb.data import ShapesOnLeaves
from neurofb.networks import MLPConfig
from neurofb.training import TrainingConfig


def wave(gain: float = 1.0, seed: int = 0, tally: str = "", seconds: float = 0.0) -> xr.Dataset:
    """A noisy wave; every call leaves a line in the file `tally`."""
    if tally:
        with open(tally, "a", encoding="utf-8") as file:
            file.write(f"gain={gain},seed={seed}\n")
    time.sleep(seconds)
    noise = np.random.default_rng(seed).normal(size=8)
    values = gain * np.sin(np.arange(8)) + noise
    return xr.Dataset(
        {
            "response": ("time", values, {"units": "mV", "long_name": "response"}),
            "peak": ((), values.max(), {"units": "mV", "long_name": "peak of the response"}),
            "num_positive": ((), int((values > 0).sum()), {"units": "1", "long_name": "count"}),
            "sign": ((), "up" if values[0] > 0 else "down", {"units": "1", "long_name": "sign"}),
        },
        {"time": ("time", np.arange(8) * 0.5, {"units": "ms", "long_name": "time"})},
    )


def ragged(gain: float, seed: int, tally: str = "", slowness: float = 1.0) -> xr.Dataset:
    """Numbers, texts and curves whose lengths depend on the cell; 0.05 s to 0.2 s × slowness."""
    note(tally, f"gain={gain},seed={seed}")
    rng = np.random.default_rng([int(1000 * gain), seed])
    time.sleep(slowness * rng.uniform(0.05, 0.2))
    num_steps, num_units = 3 + seed % 4, 1 + seed % 3
    curve = gain * rng.normal(size=(num_units, num_steps)).astype(np.float32)
    found = {
        "curve": (("unit", "step"), curve, {"units": "mV", "long_name": "response"}),
        "mean": ((), curve.mean(dtype=np.float64), {"units": "mV", "long_name": "mean response"}),
        "sign": ("unit", np.where(curve[:, 0] > 0, "up", "düwn"), {"units": "1"}),
        "num_positive": ((), int((curve > 0).sum()), {"units": "1", "long_name": "count"}),
    }
    if seed % 5 == 0:  # a variable that only some cells have
        found["rare"] = ("step", rng.normal(size=num_steps), {"units": "1"})
    names = [f"unit {i}" for i in range(num_units)]
    return xr.Dataset(found, {"step": np.arange(num_steps), "unit": names})


def trouble(what: str, seed: int = 0, tally: str = "", folder: str = "") -> xr.Dataset:
    """A wave, or what `what` says: everything that can go wrong in a cell."""
    note(tally, f"what={what},seed={seed}")
    if what == "raise":
        raise KeyError(f"seed {seed} has no key")
    if what == "hang":
        time.sleep(600)
    while what == "wait" and not os.path.exists(f"{folder}/go"):
        time.sleep(0.05)
    if what == "eat":
        eaten = [np.zeros((256, 2**20 // 8)) for _ in range(64)]  # 256 MiB each
        raise AssertionError(f"{len(eaten)} × 256 MiB were there")
    if what == "leave":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        sys.exit("enough")
    if what == "number":
        return 3.0  # type: ignore[return-value]
    if what == "fill":
        (here,) = glob.glob(f"{glob.escape(folder)}/*/what=fill,seed={seed}")
        with open(f"{here}/huge", "wb") as file:
            while True:
                file.write(bytes(2**20))
    found = wave(seed=seed)
    if what == "dims":
        found["peak"] = ("time", np.zeros(8))
    if what == "dtype":
        found["peak"] = ((), "high")
    if what == "narrow":
        found["peak"] = found["peak"].astype(np.float32)
    if what == "longer":
        found = found.reindex(time=np.arange(12) * 0.5).assign(sign=found["sign"])
    if what == "name":
        found["status"] = ((), 1.0)
    if what == "dim":
        found["peak"] = ("seed", np.zeros(2))
    if what == "twice":
        found = found.assign_coords(time=np.zeros(8))
    return found


def labelled(text: str, other: str, tally: str = "") -> xr.Dataset:
    """What the cell was asked for, so that no two cells are alike."""
    note(tally, "start")
    return xr.Dataset({"same": ((), f"{text}|{other}", {"units": "1"})})


def tiny_run(num_steps: int = 24, hidden: int = 6, rate: float = 0.1) -> RunConfig:
    """A run of a second or less, with a checkpoint every few steps."""
    return RunConfig(
        name="tiny run",
        data=ShapesOnLeaves(num_train=32, num_validation=16, num_test=16, image_size=12),
        network=MLPConfig(image_size=12, in_channels=1, hidden=(hidden,)),
        training=TrainingConfig(num_steps=num_steps, batch_size=8, checkpoint_every=2),
        measurement=Measurement(layers=()),
        device="cpu",
    )


def of_run(run: xr.DataTree) -> xr.Dataset:
    """What a scan of `tiny_run` keeps."""
    loss = run["training"]["loss"]
    best = loss.idxmin("step").drop_attrs()
    return xr.Dataset({"loss": loss, "test_loss": run["test_loss"], "best_step": best})


def note(tally: str, text: str) -> None:
    """Leave a line that says who started when; lines of several processes do not mix."""
    if tally:
        line = f"{time.time():.6f} {text}\n".encode()
        handle = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line)
        os.close(handle)
