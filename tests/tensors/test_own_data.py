"""What a user's own data and priors run into: each is named, and the page's snippet runs."""

import itertools
import re
from inspect import unwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb.tensors import (
    DenoiserPrior,
    GaussianPrior,
    RademacherPrior,
    TensorALS,
    TensorAMP,
    TensorProblem,
    factor_match,
    mode_overlaps,
    tensor_error,
)
from neurofb.tensors.problem import check_number

PROBLEM = TensorProblem((40, 40, 40), GaussianPrior(0.0), 0.05)
STRINGS = [np.str_("0.1"), "0.1", None, True, [0.1], float("nan")]


@pytest.mark.parametrize("prior", [GaussianPrior(), RademacherPrior()], ids=repr)
def test_a_fit_that_ends_at_means_of_zero_says_so(prior):
    tensor = PROBLEM.sample(0).tensor
    with pytest.warns(RuntimeWarning, match=r"found nothing.*start_noise=0.01; try 1"):
        found = TensorAMP(priors=prior, noise_variance=1.0).fit(tensor)
    assert found.converged_


def test_a_fit_that_finds_something_does_not_whatever_the_scale():
    problem = TensorProblem((40, 40, 40), GaussianPrior(1.0), 0.05)
    tensor = problem.sample(0, dtype=torch.float64).tensor
    learn = ("noise_variance", "mean", "covariance")
    for scale in (1.0, 1e-3):
        amp = TensorAMP(learn=learn, start_noise=1.0, num_starts=3, tolerance=1e-3)
        assert amp.fit(scale * tensor).residual_variance_ > 0  # warnings are errors
    # means that are not zero explain a share of the signal
    TensorAMP(priors=GaussianPrior(0.2), noise_variance=1.0).fit(tensor)


def test_a_denoiser_must_return_finite_numbers_and_shapes():
    def overflows(precision, field):
        low = torch.exp(field - precision / 2)
        high = torch.exp(3 * field - 9 * precision / 2)
        mean = (low + 3 * high) / (low + high)
        return mean, ((low + 9 * high) / (low + high) - mean**2)[..., None]

    def logistic(precision, field):
        share = torch.sigmoid(2 * field - 4 * precision)
        return 1 + 2 * share, (4 * share * (1 - share))[..., None]

    moments = {"mean": [2.0], "second_moment": [[5.0]]}
    drawn = DenoiserPrior(logistic, **moments, sampler=lambda n, rng: rng.choice([1.0, 3.0], n))
    tensor, factors, _ = TensorProblem((40, 40, 40), drawn, 0.05).sample(0)
    found = TensorAMP(priors=drawn, noise_variance=0.05).fit(tensor)
    assert tensor_error(found.factors_, factors) < 1e-3
    with pytest.raises(ValueError, match=r"denoiser: overflows returned .* not finite"):
        TensorAMP(priors=DenoiserPrior(overflows, **moments), noise_variance=0.05).fit(tensor)
    field, precision = 0.1 * torch.ones(4, 1), torch.eye(1)
    torch.testing.assert_close(overflows(precision, field), logistic(precision, field))
    flat = DenoiserPrior(lambda a, b: (b, b), **moments)
    with pytest.raises(ValueError, match=r"shapes \(4, 1\) and \(4, 1\) for a field of \(4, 1\)"):
        flat.denoise(precision, field)


def test_masked_entries_and_truth_values_are_refused():
    tensor = np.ma.masked_less(PROBLEM.sample(0).tensor.numpy(), -0.6)
    with pytest.raises(ValueError, match=r"of 64000 entries are masked; missing entries are not"):
        TensorAMP().fit(tensor)
    prior = GaussianPrior(0.5)
    TensorAMP(priors=prior).fit(np.ma.masked_array(np.ones((4, 5, 6))))  # nothing is masked
    with pytest.raises(ValueError, match=r"not finite .*; missing entries are not supported"):
        TensorAMP().fit(xr.DataArray(tensor.filled(np.nan)))
    for given in (np.ones((3, 4), bool), torch.ones(3, 4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="bool must be real numbers"):
            TensorAMP().fit(given)


@pytest.mark.parametrize("value", STRINGS, ids=repr)
@pytest.mark.parametrize("name", ["damping", "tolerance", "start_noise", "noise_variance"])
def test_settings_that_are_no_numbers_are_named(name, value):
    for one in (TensorAMP(), TensorALS()):
        if (name, value) != ("noise_variance", None) and hasattr(one, name):
            setattr(one, name, value)
            with pytest.raises(ValueError, match=f"^{name}=.* must be "):
                one.__post_init__()


def test_other_wrong_types_are_named():
    check = unwrap(check_number)
    with pytest.raises(ValueError, match=r"noise_variance='0.1' must be a number, at least 0 and"):
        check("noise_variance", "0.1")
    for value in (np.float32(0.5), np.int64(0), torch.tensor(0.5)):
        check("damping", value, below=1.0)
    wrong = {
        "rank='2' must be at least 1": ("rank", "2"),
        "priors='gauss' must be a prior, such as Gaussian": ("priors", "gauss"),
        "priors: 3 is no prior": ("priors", [GaussianPrior(), 3]),
    }
    for one, (message, (name, value)) in itertools.product((TensorAMP, TensorALS), wrong.items()):
        changed = one()
        setattr(changed, name, value)
        with pytest.raises(ValueError, match=message):
            changed.__post_init__()


@pytest.mark.parametrize("method", [TensorAMP, TensorALS])
def test_what_needs_a_fit_says_so(method):
    for ask in (method().to_dataset, method().reconstruction):
        with pytest.raises(ValueError, match=r"no factors yet; call fit\(tensor\) first"):
            ask()


def test_scores_take_arrays():
    generator = np.random.default_rng(0)
    factors = [generator.standard_normal((n, 2)) for n in (5, 6, 7)]
    tensors = [torch.from_numpy(factor) for factor in factors]
    assert tensor_error(factors, tensors) == pytest.approx(0, abs=1e-12)
    assert factor_match(factors, factors) == pytest.approx(1)
    torch.testing.assert_close(mode_overlaps(factors, tensors)[0], tensors[0].T @ tensors[0] / 5)


def test_the_snippet_of_the_page_runs(capsys):
    page = Path(__file__).parents[2] / "docs/tensor_phases.md"
    (snippet,) = re.findall(r"```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(snippet, page.name, "exec"), {})
    error, dims = capsys.readouterr().out.splitlines()
    assert float(error) < 0.0005
    assert dims == "('neuron', 'component')"
