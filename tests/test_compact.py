"""A compact copy keeps four digits, everything that is no float, and is smaller on disk."""

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.compact import compact


def tree():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 50)) * 10.0 ** rng.integers(-6, 6, (40, 50))
    values[0, :3] = [np.nan, np.inf, 0.0]
    one = labels.variable
    dataset = xr.Dataset(
        {
            "value": one(("unit", "x"), values, "1", "value"),
            "count": one("unit", np.arange(40), "1", "count"),
            "status": one("unit", ["ok"] * 40, "1", "status"),
        },
        coords={"unit": labels.coordinate("unit", np.arange(40))},
        attrs={"history": "made"},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"history": "made"}), "/part": dataset})


def test_four_digits_stay():
    before, after = tree()["part"].to_dataset(), compact(tree())["part"].to_dataset()
    np.testing.assert_allclose(after["value"], before["value"], rtol=6.2e-5)
    assert not np.array_equal(after["value"], before["value"].astype("float32"), equal_nan=True)
    assert after["value"].attrs == before["value"].attrs


def test_the_rest_is_untouched():
    whole = tree()
    small = compact(whole)
    xr.testing.assert_identical(small["part/count"], whole["part/count"])
    xr.testing.assert_identical(small["part/status"], whole["part/status"])
    xr.testing.assert_identical(whole, tree())  # the argument too
    assert small.attrs["history"].startswith("made\n")


def test_smaller_on_disk(tmp_path):
    whole, small = (
        labels.save(part, tmp_path / f"{name}.nc").stat().st_size
        for name, part in (("whole", tree()), ("small", compact(tree())))
    )
    assert small < 0.7 * whole
