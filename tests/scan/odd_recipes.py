"""Recipes that return something else than a scan takes, or nothing."""

import xarray as xr


def number(seed: int = 0):
    return seed


def gone(seed: int = 0) -> xr.Dataset:
    raise ValueError(f"seed {seed} is gone")


def constant(a: float = 1.0) -> xr.Dataset:
    return xr.Dataset({"b": a})
