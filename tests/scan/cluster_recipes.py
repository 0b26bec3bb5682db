"""Recipes that go wrong on a cluster, each call noted in the file `tally`."""

import os
import signal
import time

import numpy as np
import xarray as xr

from neurofb.config import Measurement, RunConfig
from neurofb.data import ShapesOnLeaves
from neurofb.networks import MLPConfig
from neurofb.training import TrainingConfig


def cell(what: str = "fine", tally: str = "", seconds: float = 0.0) -> xr.Dataset:
    """Return a number, or go wrong as `what` says."""
    with open(tally, "a+", encoding="utf-8") as file:
        file.seek(0)
        earlier = sum(line.split()[0] == what for line in file)
        file.write(f"{what} {os.getpid()}\n")
    time.sleep(seconds)
    if what.startswith("kills") or (what.startswith("interrupted") and not earlier):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raises":
        raise RuntimeError("no such neuron")
    if what == "hangs" or (what == "waits" and not earlier):
        time.sleep(1000)
    if what == "eats":
        np.ones(2**28)  # 2 GiB
    about = {"units": "1", "long_name": "number"}
    return xr.Dataset({"number": ((), float(len(what)), about)})


def training(num_steps: int = 2000) -> RunConfig:
    """A run that leaves a checkpoint every few steps."""
    return RunConfig(
        name="training",
        data=ShapesOnLeaves(num_train=64, num_validation=32, num_test=32, image_size=12),
        network=MLPConfig(image_size=12, in_channels=1, hidden=(8,)),
        training=TrainingConfig(num_steps=num_steps, batch_size=16, checkpoint_every=20),
        measurement=Measurement(layers=(), fits=False),
        device="cpu",
    )
