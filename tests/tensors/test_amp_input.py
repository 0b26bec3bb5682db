"""What message passing takes and refuses, keeps and labels."""

from inspect import unwrap

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb.tensors import (
    BernoulliGaussPrior,
    DenoiserPrior,
    GaussianPrior,
    RademacherPrior,
    TensorAMP,
    TensorProblem,
    mode_overlaps,
    tensor_error,
)
from neurofb.tensors.amp_input import as_tensor, given_factors, mean_square
from neurofb.tensors.problem import priors_of_axes

PRIOR = GaussianPrior(0.6)
PROBLEM = TensorProblem((30, 25, 20), PRIOR, 0.1)


def fit(tensor, **settings):
    return TensorAMP(priors=PRIOR, noise_variance=0.1, **settings).fit(tensor)


def test_dtype_is_kept_and_precision_hardly_matters():
    tensor = PROBLEM.sample(0, standardise=True, dtype=torch.float64).tensor
    before = tensor.clone()
    exact, single = fit(tensor), fit(tensor.float())
    assert exact.factors_[0].dtype == exact.covariances_[0].dtype == torch.float64
    assert single.factors_[0].dtype == single.covariances_[0].dtype == torch.float32
    for ours, theirs in zip(single.factors_, exact.factors_, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-3, rtol=0)
    assert torch.equal(tensor, before)
    half = fit(tensor.half())
    assert half.factors_[0].dtype == torch.float32


def test_arrays_views_and_counts_are_taken():
    tensor = PROBLEM.sample(0, standardise=True, dtype=torch.float64).tensor
    expected = fit(tensor).factors_
    reversed_memory = np.asfortranarray(tensor.numpy())
    big_endian = tensor.numpy().astype(">f8")
    for given in (
        tensor.numpy(),
        reversed_memory,
        big_endian,
        tensor.transpose(0, 2).clone().transpose(0, 2),
    ):
        for ours, theirs in zip(fit(given).factors_, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    counts = (20 * tensor).round()
    for given in (counts.int(), counts.int().numpy()):
        found = TensorAMP(priors=PRIOR, noise_variance=40.0, max_sweeps=400).fit(given)
        assert found.factors_[0].dtype == torch.float64


def test_same_seed_same_numbers_and_the_global_state_is_left_alone():
    tensor = PROBLEM.sample(0, standardise=True).tensor
    state = torch.get_rng_state()
    first = fit(tensor, seed=1, start_noise=0.5)
    again = fit(tensor, seed=1, start_noise=0.5)
    other = fit(tensor, seed=2, start_noise=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.factors_[0], again.factors_[0])
    assert first.trace_["change"].values[0] != other.trace_["change"].values[0]


def test_reconstruction_is_the_tensor_of_the_factors():
    tensor, factors, _ = PROBLEM.sample(0, standardise=True, dtype=torch.float64)
    found = fit(tensor)
    signal = torch.einsum("ar,br,cr->abc", *factors) / 15000 ** (1 / 3)
    error = float((found.reconstruction() - signal).square().sum() / signal.square().sum())
    assert error == pytest.approx(tensor_error(found.factors_, factors), rel=1e-6)
    # residual: what is left, plus the posterior's own spread
    left = float((tensor - found.reconstruction()).square().mean())
    assert left < found.residual_variance_ < 1.02 * left


def test_trace_has_a_row_per_sweep():
    tensor, factors, _ = PROBLEM.sample(0, standardise=True)
    found = TensorAMP(priors=PRIOR, noise_variance=0.1).fit(tensor, factors)
    trace = found.trace_
    assert dict(trace.sizes) == {"sweep": found.num_sweeps_, "axis": 3, "component": 1}
    assert trace["tensor_error"].values[-1] == pytest.approx(tensor_error(found.factors_, factors))
    assert trace["change"].values[-1] < 2e-6
    assert "tensor_error" not in fit(tensor).trace_
    for name in trace.variables:
        assert trace[name].attrs["units"]
        assert trace[name].attrs["long_name"]


def test_dataset_has_the_names_of_what_was_fitted(tmp_path):
    from neurofb.labels import load, save

    tensor = PROBLEM.sample(0, standardise=True).tensor.numpy()
    labelled = xr.DataArray(
        tensor, dims=("unit", "time", "trial"), coords={"time": np.linspace(0, 1, 25)}
    )
    found = fit(labelled)
    result = found.to_dataset()
    assert result["time_factor"].dims == ("time", "component")
    assert result["time"].values[-1] == 1
    np.testing.assert_array_equal(result["unit_factor"], found.factors_[0])
    spread = float(found.covariances_[0][0, 0])
    np.testing.assert_allclose(result["unit_variance"], spread, rtol=1e-6)
    built = sum(
        np.multiply.outer(np.multiply.outer(u[:, 0], t[:, 0]), k[:, 0])
        for u, t, k in [[result[f"{dim}_factor"].values for dim in ("unit", "time", "trial")]]
    )
    np.testing.assert_allclose(float(result["scale"]) * built, found.reconstruction(), atol=1e-6)
    kept = load(save(result, tmp_path / "factors.zarr")).to_dataset()
    xr.testing.assert_equal(kept, result)
    plain = fit(tensor)
    assert "axis_2_factor" in plain.to_dataset()
    assert "neuron_factor" in plain.to_dataset(dims=("neuron", "time", "trial"))
    with pytest.raises(ValueError, match="must be 3 different names"):
        plain.to_dataset(dims=("unit", "unit", "trial"))


def test_what_does_not_converge_says_so_with_numbers():
    tensor = PROBLEM.sample(0, standardise=True).tensor
    with pytest.warns(
        RuntimeWarning, match="not converged after 2 sweeps: the last changes are 0."
    ):
        found = fit(tensor, max_sweeps=2)
    assert not found.converged_


def test_what_diverges_keeps_the_last_finite_factors():
    calls = []

    def breaks_down(precision, field):
        calls.append(precision)
        mean, covariance = PRIOR.denoise(precision.double(), field)
        return mean if len(calls) <= 7 else mean * float("inf"), covariance

    class Unchecked(DenoiserPrior):
        def denoise(self, precision, field):
            return self.denoiser(precision, field)

    prior = Unchecked(breaks_down, mean=[0.6], second_moment=[[1.36]])
    tensor = PROBLEM.sample(0, standardise=True, dtype=torch.float64).tensor
    amp = TensorAMP(priors=prior, noise_variance=0.1, settle_scales=False)
    with pytest.warns(RuntimeWarning, match="message passing diverged after 3 sweeps"):
        amp.fit(tensor)
    with pytest.warns(RuntimeWarning, match="not converged after 2"):
        two = fit(tensor, max_sweeps=2, settle_scales=False)
    for ours, theirs in zip(amp.factors_, two.factors_, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert np.isnan(amp.trace_["residual_variance"].values).tolist() == [False, False, True]


def test_settings_are_checked_again_when_they_were_changed():
    amp = TensorAMP()
    amp.schedule = "random"
    with pytest.raises(ValueError, match="schedule='random' must be one of sequential, parallel"):
        amp.fit(torch.ones(3, 4))


def test_what_is_kept_is_what_the_trace_ends_with():
    """Scales are not moved once more after the last sweep: variances and scores are the sweep's."""
    tensor, factors, _ = PROBLEM.sample(0, standardise=True, dtype=torch.float64)
    amp = TensorAMP(priors=PRIOR, noise_variance=0.1, max_sweeps=4)
    with pytest.warns(RuntimeWarning, match="not converged after 4"):
        amp.fit(tensor, factors)
    found = [float(overlap[0, 0]) for overlap in mode_overlaps(amp.factors_, factors)]
    np.testing.assert_allclose(amp.trace_["overlap"].values[-1, :, 0], found, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank=0 must be at least 1"),
        ({"noise_variance": 0.0}, "noise_variance=0.0 must be above 0"),
        ({"noise_variance": float("nan")}, "noise_variance=nan must be above 0"),
        ({"damping": 1.0}, "damping=1.0 must be at least 0 and below 1"),
        ({"tolerance": -1.0}, "tolerance=-1.0 must be at least 0"),
        ({"max_sweeps": 0}, "max_sweeps=0 must be at least 1"),
        ({"start": "svd"}, "start='svd' must be one of prior"),
        ({"learn": ["rank"]}, "learn='rank' must be one of noise_variance"),
        ({"learn": "mean"}, "must be a list of names"),
        ({"num_starts": 0}, "num_starts=0"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TensorAMP(**settings)


@pytest.mark.parametrize(
    ("tensor", "settings", "message"),
    [
        (torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]]), {}, "2 of 4 entries are not"),
        (torch.zeros(3, 4), {}, "all entries are zero"),
        (torch.ones(3), {}, r"shape \(3,\) must have two axes or more"),
        (torch.ones(3, 0), {}, "none empty"),
        (torch.ones(3, 4) + 1j, {}, "must be real numbers"),
        (np.ones((3, 4)) + 1j, {}, "must be real numbers"),
        (np.array([["a", "b"]]), {}, "must be real numbers"),
        (torch.ones(3, 4), {"rank": 4}, "rank=4 is above 3, enough for every tensor"),
        (torch.ones(3, 4), {"rank": 2, "priors": BernoulliGaussPrior()}, "largest of Bernoulli"),
        (torch.ones(20, 20), {"rank": 9, "priors": RademacherPrior()}, "rank=9 is above 8"),
        (torch.ones(3, 4), {"rank": 2, "priors": GaussianPrior((1.0, 1.0, 1.0))}, "3 components"),
        (torch.ones(3, 4), {"priors": [PRIOR] * 3}, "3 are given for a tensor of 2 axes"),
        (torch.ones(3, 4), {"start": [np.ones((3, 1)), np.ones((5, 1))]}, r"\(5, 1\)\] are given"),
        (torch.ones(3, 4), {"start": [np.ones((3, 1)), np.full((4, 1), np.nan)]}, "not finite"),
    ],
)
def test_bad_tensors_are_named(tensor, settings, message):
    with pytest.raises(ValueError, match=message):
        TensorAMP(**settings).fit(tensor)


def test_what_is_no_array_or_no_prior_is_named():
    with pytest.raises(ValueError, match="tensor: a list must be a torch tensor"):
        unwrap(as_tensor)([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="GaussianPrior'> is no prior"):
        unwrap(priors_of_axes)(GaussianPrior, 2, 1)
    with pytest.raises(ValueError, match=r"shapes \[\(\), \(\)\] are given"):
        unwrap(given_factors)([1.0, 2.0], torch.ones(3, 4), 1)


def test_mean_square_is_summed_in_double_precision():
    tensor = torch.full((300, 300, 30), 1e-3)
    assert mean_square(tensor) == pytest.approx(float(tensor[0, 0, 0].double() ** 2), rel=1e-12)
