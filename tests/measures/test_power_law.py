"""Exponents of power laws: exact ones, noisy ones, and what has none."""

import numpy as np
import pytest
import xarray as xr

from neurofb.measures import power_law

SIZES = np.array([50.0, 100.0, 200.0, 400.0])


def noisy(exponent, num_trials=15, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.2, size=(SIZES.size, num_trials))
    values = SIZES[:, None] ** exponent * np.exp(noise)
    return xr.DataArray(values, {"size": SIZES}, ("size", "trial"))


def test_exact_powers_have_their_exponent_and_no_interval():
    values = xr.DataArray(
        np.stack([3 * SIZES**-0.5, SIZES**2.0])[:, :, None].repeat(4, axis=2),
        {"law": ["root", "square"], "size": SIZES},
        ("law", "size", "trial"),
    )
    found = power_law(values, dim="size")
    for name in ("slope", "slope_low", "slope_high"):
        np.testing.assert_allclose(found[name], [-0.5, 2.0], rtol=1e-12)
    assert found["law"].values.tolist() == ["root", "square"]


def test_the_interval_holds_the_exponent_and_narrows_with_trials():
    inside, widths = 0, {10: [], 160: []}
    for seed in range(20):
        for num_trials in widths:
            found = power_law(noisy(-1.0, num_trials, seed), dim="size", num_resamples=100)
            widths[num_trials].append(float(found["slope_high"] - found["slope_low"]))
            inside += bool(found["slope_low"] <= -1.0 <= found["slope_high"])
    assert inside >= 33  # 38 of 40 expected
    assert np.mean(widths[160]) == pytest.approx(np.mean(widths[10]) / 4, rel=0.3)


def test_the_same_seed_gives_the_same_interval():
    first, again = (power_law(noisy(-1.0), dim="size", seed=1) for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert float(power_law(noisy(-1.0), dim="size", seed=2)["slope_low"]) != first["slope_low"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: (v - 2, {}), "values must be positive"),
        (lambda v: (v.isel(size=[0]), {}), "two or more values"),
        (lambda v: (v.drop_vars("size"), {}), "positive coordinate"),
        (lambda v: (v, {"over": "seed"}), "no dim 'seed'"),
        (lambda v: (v, {"level": 1.0}), "level=1.0"),
    ],
)
def test_what_has_no_exponent_is_refused(change, message):
    values, arguments = change(noisy(-1.0))
    with pytest.raises(ValueError, match=message):
        power_law(values, dim="size", **arguments)
