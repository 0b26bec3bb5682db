"""Alternating least squares: what is planted is found, with tensorly's numbers; seeds, errors."""

import builtins

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb.tensors import GaussianPrior, TensorALS
from neurofb.tensors.amp_input import start_factors

parafac = pytest.importorskip("tensorly.decomposition").parafac


def planted(shape, rank, mean=0.3, noise_variance=0.0, seed=0):
    """Return factors and a tensor, with its own formula of the model."""
    generator = np.random.default_rng(seed)
    factors = [mean + generator.standard_normal((side, rank)) for side in shape]
    letters = "abcdef"[: len(shape)]
    text = ",".join(f"{letter}r" for letter in letters) + "->" + letters
    side = np.prod(shape) ** (1 / len(shape))
    tensor = np.einsum(text, *factors) * side ** (-(len(shape) - 1) / 2)
    return tensor + noise_variance**0.5 * generator.standard_normal(shape), factors


@pytest.mark.parametrize("start", ["random", "svd", "prior"])
@pytest.mark.parametrize(("shape", "rank"), [((7, 9, 8), 2), ((5, 6, 7, 4), 1), ((12, 9), 1)])
def test_a_tensor_without_noise_is_found(shape, rank, start):
    tensor, truth = planted(shape, rank)
    fitted = TensorALS(
        rank, start=start, priors=GaussianPrior(0.3), start_noise=0.1, max_sweeps=2000
    )
    fitted.fit(tensor, truth)
    assert fitted.converged_
    assert float(fitted.trace_["tensor_error"][-1]) < 1e-6
    assert fitted.noise_variance_ < 1e-6 * np.mean(tensor**2)
    assert [tuple(each.shape) for each in fitted.factors_] == [(side, rank) for side in shape]


def test_factors_have_the_normalisation_of_the_model_and_one_scale_on_all_axes():
    tensor, _ = planted((6, 7, 8), 1)
    factors = TensorALS(1, start="svd").fit(tensor).factors_
    rebuilt = torch.einsum("ar,br,cr->abc", *factors) / (6 * 7 * 8) ** (1 / 3)
    assert np.allclose(rebuilt.numpy(), tensor, atol=1e-5)
    sizes = [float((each**2).mean()) for each in factors]
    assert np.allclose(sizes, sizes[0])
    assert all(float(each.mean()) > 0 for each in factors[:-1])


def test_a_random_start_gives_tensorlys_own_numbers():
    tensor, _ = planted((8, 9, 10), 2, noise_variance=0.1)
    with pytest.warns(RuntimeWarning, match="after 5 sweeps"):
        fitted = TensorALS(2, max_sweeps=5, seed=3).fit(tensor)
    (_, theirs), errors = parafac(
        tensor, 2, n_iter_max=5, init="random", random_state=3, tol=0, return_errors=True
    )
    ours = torch.einsum("ar,br,cr->abc", *fitted.factors_) / 720 ** (1 / 3)
    assert np.allclose(ours.numpy(), np.einsum("ar,br,cr->abc", *theirs), atol=1e-12)
    expected = np.square(errors) * np.mean(tensor**2)
    assert np.allclose(fitted.trace_["noise_variance"], expected)


def test_the_svd_start_gives_tensorlys_own_numbers_without_its_large_svd():
    tensor, _ = planted((8, 9, 10), 2, noise_variance=0.1)
    with pytest.warns(RuntimeWarning, match="max_sweeps"):
        fitted = TensorALS(2, start="svd", max_sweeps=3).fit(tensor)
    _, errors = parafac(
        tensor, 2, n_iter_max=3, init="svd", tol=0, random_state=0, return_errors=True
    )
    assert np.allclose(fitted.trace_["noise_variance"], np.square(errors) * np.mean(tensor**2))


def test_from_the_truth_with_noise_the_residual_is_that_of_least_squares():
    tensor, truth = planted((30, 25, 20), 1, mean=0.5, noise_variance=0.05)
    fitted = TensorALS(1, start=truth).fit(tensor, truth)
    left = tensor - np.einsum("ar,br,cr->abc", *fitted.factors_) / 15000 ** (1 / 3)
    assert np.isclose(fitted.noise_variance_, np.mean(left**2))
    # at a minimum the residual is orthogonal to the product of the other factors
    _, second, third = fitted.factors_
    assert np.abs(np.einsum("abc,br,cr->ar", left, second, third)).max() < 1e-3
    assert 0 < float(fitted.trace_["tensor_error"][-1]) < 0.5


@pytest.mark.parametrize("start", ["random", "svd", "prior"])
def test_one_seed_reaches_every_path(start):
    tensor, _ = planted((9, 10, 2), 3, noise_variance=0.1)  # the last axis is shorter than the rank
    settings = {"start": start, "priors": GaussianPrior(0.3), "max_sweeps": 2}

    def factors(seed):
        np.random.seed(seed + 11)  # noqa: NPY002 - what is global must not matter
        with pytest.warns(RuntimeWarning, match="sweeps"):
            return torch.cat(TensorALS(3, seed=seed, **settings).fit(tensor).factors_)

    assert torch.equal(factors(1), factors(1))
    assert not torch.equal(factors(1), factors(2))


def test_precision_and_kind_of_the_tensor_are_kept():
    tensor, _ = planted((8, 9, 10), 1)
    single = TensorALS(1, start="svd", tolerance=1e-4).fit(torch.tensor(tensor).float())
    double = TensorALS(1, start="svd").fit(tensor)
    assert {each.dtype for each in single.factors_} == {torch.float32}
    assert {each.dtype for each in double.factors_} == {torch.float64}
    for one, other in zip(single.factors_, double.factors_, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-4)


def test_the_tensor_and_the_start_are_left_as_they_are():
    tensor, truth = planted((8, 9, 10), 1, noise_variance=0.01)
    before = tensor.copy(), [each.copy() for each in truth]
    TensorALS(1, start=truth).fit(tensor, truth)
    assert np.array_equal(tensor, before[0])
    assert all(map(np.array_equal, truth, before[1]))


def test_trace_is_labelled():
    tensor, truth = planted((8, 9, 10), 1)
    fitted = TensorALS(1).fit(tensor, truth)
    assert isinstance(fitted.trace_, xr.Dataset)
    assert fitted.trace_.sizes["sweep"] == fitted.num_sweeps_
    assert float(fitted.trace_["change"][-1]) < 1e-6
    assert all(v.attrs["units"] == "1" for v in fitted.trace_.variables.values())
    assert fitted.trace_["overlap"].dims == ("sweep", "axis", "component")
    assert "tensor_error" not in TensorALS(1).fit(tensor).trace_


def test_the_dataset_has_the_dims_of_what_was_fitted():
    tensor, _ = planted((8, 9, 10), 2)
    array = xr.DataArray(tensor, dims=("unit", "drift", "stimulus"), coords={"unit": range(3, 11)})
    fitted = TensorALS(2, start="svd", max_sweeps=2000).fit(array)
    found = fitted.to_dataset()
    assert found["unit"].values.tolist() == list(range(3, 11))
    rebuilt = found["scale"] * (
        found["unit_factor"] * found["drift_factor"] * found["stimulus_factor"]
    ).sum("component")
    assert np.allclose(rebuilt.transpose(*array.dims), tensor, atol=1e-3)
    assert np.allclose(rebuilt.transpose(*array.dims), fitted.reconstruction())
    assert "axis_2_factor" in TensorALS(1).fit(tensor[..., :1]).to_dataset()
    with pytest.raises(ValueError, match="3 different names"):
        fitted.to_dataset(dims=("unit", "unit", "drift"))


def test_the_prior_start_is_that_of_message_passing():
    tensor, _ = planted((8, 9, 10), 1, noise_variance=0.1)
    prior = GaussianPrior(0.3)
    one, other = (
        TensorALS(1, start=start, priors=prior, seed=4).fit(tensor)
        for start in ("prior", start_factors((8, 9, 10), prior, seed=4))
    )
    assert all(map(torch.equal, one.factors_, other.factors_))


def test_components_that_are_the_same_end_in_a_warning():
    tensor, _ = planted((8, 9, 10), 2)
    with pytest.warns(RuntimeWarning, match="became singular"):
        fitted = TensorALS(2, start="prior", priors=GaussianPrior(1), start_noise=0).fit(tensor)
    assert not fitted.converged_


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rank": 0}, "rank=0"),
        ({"max_sweeps": 0}, "max_sweeps=0"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"start_noise": np.nan}, "start_noise=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"start": "nmf"}, "start='nmf' must be one of random, svd, prior"),
        ({"start": "prior"}, "needs priors"),
    ],
)
def test_settings_out_of_range_are_named(settings, text):
    with pytest.raises(ValueError, match=text):
        TensorALS(**settings)


@pytest.mark.parametrize(
    ("tensor", "settings", "text"),
    [
        (np.ones(3), {}, "two axes or more"),
        (np.full((3, 3, 3), np.nan), {}, "27 of 27 entries are not finite"),
        (np.zeros((3, 3, 3)), {}, "all entries are zero"),
        (np.ones((2, 3, 4)), {"rank": 7}, "rank=7 is above 6"),
        (np.ones((2, 3)), {"start": [np.ones((2, 1))]}, r"\[\(2, 1\), \(3, 1\)\] are needed"),
        (np.ones((2, 3)), {"start": [np.full((2, 1), np.inf), np.ones((3, 1))]}, "not finite"),
        (
            np.ones((2, 3)),
            {"start": "prior", "priors": [GaussianPrior(1)] * 3},
            "priors: 3 are given",
        ),
    ],
)
def test_bad_input_is_named(tensor, settings, text):
    with pytest.raises(ValueError, match=text):
        TensorALS(**settings).fit(tensor)


def test_without_tensorly_the_error_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("tensorly"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'neurofb\[tensor\]'"):
        TensorALS(1).fit(np.ones((2, 3, 4)))
