"""Recipes that tests scan: quick ones, and ones that go wrong."""

import os
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
