"""A small synthetic study, and its variations."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import example_study


@pytest.fixture
def study() -> xr.Dataset:
    """Six conditions, two seeds, eight units: Gabors, DoGs, dead, silent and unmoved units."""
    return example_study(num_seeds=2, num_units=8)


@pytest.fixture
def failed(study: xr.Dataset) -> xr.Dataset:
    """The study with LDFA r=2, seed 1 wholly dead: NaN fields and NaN measures."""
    at = {"condition": "LDFA r=2", "seed": 1}
    study = study.copy(deep=True)
    study["status"].loc[at] = "dead"
    study["receptive_field"].loc[at] = np.nan
    for name in ("rotational_symmetry", "orientation_selectivity"):
        study[name].loc[at] = np.nan
    return study


@pytest.fixture
def tuning() -> Callable[..., xr.Dataset]:
    """A builder of tuning curves: one cosine for each preferred orientation."""

    def build(*preferred: float) -> xr.Dataset:
        angles = np.arange(0.0, 180.0, 15.0)
        rows = [1 + np.cos(np.deg2rad(2 * (angles - one))) for one in preferred]
        return xr.Dataset(
            {"response": (("unit", "orientation"), np.array(rows), {"units": "1 / s"})},
            coords={
                "unit": [3 * i for i in range(len(rows))],
                "orientation": ("orientation", angles, {"units": "degree"}),
            },
        )

    return build
