"""Planted tensors, and scores against tensors that are built."""

from inspect import unwrap

import numpy as np
import pytest
import torch

from neurofb.tensors import (
    GaussianPrior,
    RademacherPrior,
    TensorProblem,
    factor_match,
    mode_overlaps,
    start_factors,
    tensor_error,
)
from neurofb.tensors.problem import check_seed, priors_of_axes


def test_sample_is_signal_and_noise():
    problem = TensorProblem((30, 40, 50), GaussianPrior(0.5), 0.2, rank=2)
    tensor, factors, noise_variance = problem.sample(seed=3, dtype=torch.float64)
    signal = torch.einsum("ar,br,cr->abc", *factors) / (30 * 40 * 50) ** (1 / 3)
    noise = tensor - signal
    torch.testing.assert_close(noise, problem.noise_only(seed=3, dtype=torch.float64))
    assert noise_variance == 0.2
    assert float(noise.var()) == pytest.approx(0.2, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)


def test_same_seed_same_numbers_in_every_dtype_and_however_it_is_cut(monkeypatch):
    problem = TensorProblem((20, 30, 40), [GaussianPrior(), GaussianPrior(), RademacherPrior()], 1)
    tensor, factors, _ = problem.sample(seed=1, dtype=torch.float64)
    single, single_factors, _ = problem.sample(seed=1)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), tensor, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(single_factors, factors, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=1e-6)
    assert not torch.equal(problem.sample(seed=2)[0], single)
    monkeypatch.setattr("neurofb.tensors.problem._SLAB_ENTRIES", 1001)
    monkeypatch.setattr("neurofb.tensors.products._SLAB_ENTRIES", 2500)
    torch.testing.assert_close(problem.sample(seed=1, dtype=torch.float64)[0], tensor)
    assert torch.equal(
        problem.noise_only(1), TensorProblem((20, 30, 40), GaussianPrior(), 1).noise_only(1)
    )


def test_standardised_factors_have_the_moments_of_the_prior():
    problem = TensorProblem((30, 40), GaussianPrior((0.5, 0.1), ((1.0, 0.3), (0.3, 2.0))), 0.1, 2)
    for factor in problem.sample(seed=0, standardise=True, dtype=torch.float64).factors:
        centred = factor - factor.mean(0)
        np.testing.assert_allclose(factor.mean(0), [0.5, 0.1])
        np.testing.assert_allclose(centred.T @ centred / len(factor), [[1.0, 0.3], [0.3, 2.0]])


def test_error_is_that_of_the_tensors():
    generator = np.random.default_rng(0)
    found, truth = (
        [torch.from_numpy(generator.standard_normal((n, 2))) for n in (4, 5, 6)] for _ in range(2)
    )
    built = [torch.einsum("ar,br,cr->abc", *factors) for factors in (found, truth)]
    expected = float(((built[0] - built[1]) ** 2).sum() / (built[1] ** 2).sum())
    assert tensor_error(found, truth) == pytest.approx(expected, rel=1e-12)
    assert tensor_error(truth, truth) == pytest.approx(0, abs=1e-14)
    assert tensor_error([0 * f for f in found], truth) == 1
    other_gauge = [-2 * truth[0].flip(1), -truth[1].flip(1) / 4, 2 * truth[2].flip(1)]
    assert tensor_error(other_gauge, truth) == pytest.approx(0, abs=1e-14)
    assert factor_match(other_gauge, truth) == pytest.approx(1)
    assert factor_match([f[:, :1] for f in truth], truth) == pytest.approx(0.5)
    negative = [-truth[0], truth[1], truth[2]]
    assert factor_match(negative, truth) < 0.5  # another tensor, not another gauge
    overlap = mode_overlaps(found, truth)[1]
    torch.testing.assert_close(overlap, found[1].T @ truth[1] / 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TensorProblem((4,), GaussianPrior(), 1.0), r"shape=\(4,\) must have at least two"),
        (lambda: TensorProblem((4, 0), GaussianPrior(), 1.0), "each at least 1"),
        (lambda: TensorProblem((4, 5), GaussianPrior(), -1.0), "noise_variance=-1.0"),
        (lambda: TensorProblem((4, 5), [GaussianPrior()] * 3, 1.0), "3 are given .* 2 axes"),
        (
            lambda: unwrap(TensorProblem.__init__)(
                object.__new__(TensorProblem), (4.5, 5), GaussianPrior(), 1.0
            ),
            "each at least 1 and whole",
        ),
        (lambda: unwrap(check_seed)(1.5), "seed=1.5 must be a whole number"),
        (lambda: TensorProblem((4, 5), GaussianPrior(), 1.0).sample(-1), "seed=-1 must be"),
        (lambda: TensorProblem((4, 5), GaussianPrior(), 1.0).noise_only(-1), "seed=-1 must be"),
        (
            lambda: TensorProblem((4, 5), GaussianPrior(), 1.0).noise_only(0, dtype=torch.int32),
            "dtype=torch.int32 must be floating",
        ),
        (lambda: unwrap(priors_of_axes)([3, 3], 2, 1), "3 is no prior"),
        (lambda: TensorProblem((4, 5), GaussianPrior((1.0, 2.0)), 1.0), "of 2 components"),
        (lambda: TensorProblem((4, 5), RademacherPrior(), 1.0, 9), "rank=9 is above 8"),
        (lambda: tensor_error([torch.ones(3, 1)], [torch.zeros(3, 1)]), "has no scale"),
        (lambda: tensor_error([torch.ones(3, 1)], [torch.ones(4, 1)]), "do not fit"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_prior_that_cannot_be_standardised_says_so():
    from neurofb.tensors import DenoiserPrior

    prior = DenoiserPrior(max, [0.0], [[1.0]], lambda n, generator: generator.standard_normal(n))
    problem = TensorProblem((4, 5), prior, 1.0)
    assert problem.sample(seed=0).tensor.shape == (4, 5)
    with pytest.raises(ValueError, match="standardise=True"):
        problem.sample(seed=0, standardise=True)


def test_a_start_of_the_same_seed_knows_nothing_of_the_planted_factors():
    prior = GaussianPrior(mean=0.0)
    planted = TensorProblem((900, 400, 400), prior, 1.0).factors(seed=5)
    for start, factor in zip(
        start_factors((900, 400, 400), prior, noise=1, seed=5), planted, strict=True
    ):
        correlation = torch.corrcoef(torch.cat([start, factor], dim=1).T)[0, 1]
        assert abs(float(correlation)) < 4 / len(factor) ** 0.5
