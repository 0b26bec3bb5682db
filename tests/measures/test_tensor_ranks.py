"""Decompositions of half of the trials: what is planted is foretold, nulls, posterior variances."""

import numpy as np
import pytest
import xarray as xr

from neurofb.measures import normalised_activity, posterior_agreement, split_half_errors
from neurofb.tensors import TensorALS

DIMS = ("trial", "unit", "drift", "stimulus")
ONLY_ALS = {"ALS": lambda tensor, rank, seed: TensorALS(rank, start="svd").fit(tensor)}


def planted(rank=1, noise=0.01, num_trials=4, shape=(20, 12, 25), seed=0):
    generator = np.random.default_rng(seed)
    factors = [0.5 + generator.standard_normal((side, rank)) for side in shape]
    signal = np.einsum("ar,br,cr->abc", *factors)
    trials = signal + noise * generator.standard_normal((num_trials, *shape))
    return xr.DataArray(trials, dims=DIMS), signal


def test_a_tensor_of_low_rank_is_foretold_at_its_rank():
    activity, _ = planted(rank=2)
    found = split_half_errors(activity, ranks=(1, 2), noise_ratios=(0,))
    assert bool((found.held_out_error.sel(rank=2) < 1e-3).all())
    assert bool((found.held_out_error.sel(rank=1) > 0.05).all())
    assert bool(found.converged.sel(rank=2).all())


def test_errors_are_those_of_the_signal_whatever_noise_the_held_out_trials_have():
    activity, signal = planted(noise=0.5)
    found = split_half_errors(activity, ranks=(1,), noise_ratios=(0,), methods=ONLY_ALS)
    half = activity[:2].mean("trial").values
    fitted = TensorALS(1, start="svd").fit(half).reconstruction().numpy()
    expected = np.mean((fitted - signal) ** 2) / np.mean(signal**2)
    assert float(found.held_out_error.squeeze()) == pytest.approx(expected, abs=0.02)
    # the grand mean, in closed form
    of_mean = np.mean((half.mean() - signal) ** 2) / np.mean(signal**2)
    assert float(found.error_of_mean[0]) == pytest.approx(of_mean, abs=0.06)
    # trials of variance 1/4: of the fitted mean of two 1/8, over the signal and N²
    delta = 0.125 / np.mean(signal**2) / signal.size ** (2 / 3)
    assert float(found.noise_variance[0]) == pytest.approx(delta, rel=0.08)


def test_a_prior_keeps_noise_out_where_least_squares_fit_it():
    activity, _ = planted(shape=(25, 20, 22))
    found = split_half_errors(activity, ranks=(3,), noise_ratios=(30,)).held_out_error.squeeze()
    assert float(found.sel(algorithm="AMP")) < 0.2
    assert float(found.sel(algorithm="ALS, random start")) > 2 * float(found.sel(algorithm="AMP"))


def test_numbers_follow_from_the_seed_and_the_ratio_alone():
    activity, _ = planted()
    settings = {"ranks": (1,), "noise_ratios": (0, 5), "methods": ONLY_ALS}
    one, same = (split_half_errors(activity, seed=1, **settings) for _ in range(2))
    assert one.equals(same)
    other = split_half_errors(activity, seed=2, **settings)
    assert not np.allclose(one.held_out_error, other.held_out_error)


def test_posterior_variances_agree_with_split_halves():
    activity, _ = planted(shape=(40, 30, 35))
    found = posterior_agreement(activity, noise_ratio=30)
    ratio = found.difference / found.predicted_difference
    assert bool((abs(ratio - 1) < 0.25).all()), ratio.values
    small = posterior_agreement(activity, noise_ratio=3)
    assert bool((small.predicted_difference < 0.5 * found.predicted_difference).all())


def test_units_are_normalised_and_silent_ones_left_out():
    activity, _ = planted()
    activity[:, 3] *= 1e-4
    found = normalised_activity(activity.assign_coords(unit=np.arange(20)))
    assert 3 not in found.unit
    assert found.sizes["unit"] == 19
    assert np.allclose((found**2).mean(("trial", "drift", "stimulus")), 1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a: split_half_errors(a[:2]), "2 trials; 3 are needed"),
        (
            lambda a: split_half_errors(a * xr.DataArray([1, 1, -1, -1], dims="trial")),
            "share no signal",
        ),
        (lambda a: posterior_agreement(a[:1]), "1 trials; 2 are needed"),
        (lambda a: normalised_activity(0 * a), "all units are silent"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call(planted()[0])
