from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.training.checkpoint import load_checkpoint, save_checkpoint
from neurofb.training.snapshots import decode, encode, stack


def snapshot(value: float) -> xr.Dataset:
    return xr.Dataset(
        {
            "rf": labels.variable(("unit", "y"), np.full((2, 3), value, np.float32), "1", "RF"),
            "status": labels.variable("unit", ["ok", "dead"], "1", "status"),
            "moved": labels.variable("unit", [True, False], "1", "moved", threshold=0.7),
            "num_probes": labels.variable((), 48, "1", "probes"),
        },
        coords={"unit": labels.coordinate("unit", [0, 1]), "layer": "retina_2"},
        attrs={"title": "fields"},
    )


def test_a_dataset_survives_a_checkpoint(tmp_path: Path):
    save_checkpoint({"snapshot": encode(snapshot(np.nan))}, tmp_path)
    state = load_checkpoint(tmp_path)
    assert state is not None
    decoded = decode(state["snapshot"])
    xr.testing.assert_identical(decoded, snapshot(np.nan))
    for name, variable in snapshot(np.nan).variables.items():
        assert decoded[name].dtype == variable.dtype


def test_stack_orders_by_step_and_keeps_values():
    stacked = stack({10: snapshot(1.0), 0: snapshot(0.0), 5: snapshot(np.nan)})
    assert stacked is not None
    assert stacked.step.values.tolist() == [0, 5, 10]
    assert stacked.step.attrs["units"] == "1"
    assert stacked.rf.dims == ("step", "unit", "y")
    xr.testing.assert_identical(stacked.rf.sel(step=10, drop=True), snapshot(1.0).rf)
    assert stacked.attrs == {"title": "fields"}
    assert stack({}) is None


def test_snapshots_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"(?i)unit|align|index"):
        stack({0: snapshot(0.0), 5: snapshot(0.0).isel(unit=[0])})
