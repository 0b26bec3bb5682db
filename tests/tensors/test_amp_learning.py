"""Expectation maximisation: what is learnt of the noise and of the priors."""

import numpy as np
import pytest
import torch

from neurofb.tensors import (
    BernoulliGaussPrior,
    GaussianPrior,
    RademacherPrior,
    TensorAMP,
    TensorProblem,
    tensor_error,
)


def learnt(shape, priors, guess, noise_variance, learn, rank=1, **settings):
    """Return a fit from guessed priors, and the errors of it and of one that knows the truth."""
    tensor, factors, _ = TensorProblem(shape, priors, noise_variance, rank).sample(
        0, standardise=True
    )
    amp = TensorAMP(rank, priors=guess, learn=learn, **settings).fit(tensor)
    oracle = TensorAMP(rank, priors=priors, noise_variance=noise_variance).fit(tensor)
    return amp, tensor_error(amp.factors_, factors), tensor_error(oracle.factors_, factors)


def test_the_noise_variance_is_learnt_where_the_signal_is_strong():
    shape, prior = (30, 25, 20), GaussianPrior(1.0)
    tensor = TensorProblem(shape, prior, 1e-3).sample(0).tensor
    guessed = float(tensor.square().mean())
    assert guessed > 3e-3  # the mean square is mostly signal
    found = TensorAMP(priors=prior, learn=["noise_variance"], tolerance=1e-4).fit(tensor)
    assert found.noise_variance_ == pytest.approx(1e-3, rel=0.05)
    assert found.trace_["noise_variance"].values[-1] == found.noise_variance_


def test_unknown_noise_is_the_mean_square():
    tensor = TensorProblem((60, 50, 40), GaussianPrior(0.5), 0.1).sample(0).tensor
    found = TensorAMP(priors=GaussianPrior(0.5)).fit(tensor)
    assert found.noise_variance_ == pytest.approx(float(tensor.square().mean()), rel=1e-5)


def test_means_are_learnt():
    shape, names = (100, 90, 110), ("noise_variance", "mean")
    amp, error, oracle = learnt(shape, GaussianPrior(0.6), GaussianPrior(0.3), 0.05, names)
    assert amp.noise_variance_ == pytest.approx(0.05, rel=0.01)
    assert [prior.mean[0] for prior in amp.priors_] == pytest.approx([0.6] * 3, abs=0.05)
    assert [prior.covariance for prior in amp.priors_] == [(1.0,)] * 3
    assert error == pytest.approx(oracle, rel=0.02)


def test_covariances_are_learnt_up_to_scales_between_axes():
    names = ("noise_variance", "mean", "covariance")
    priors = [GaussianPrior(0.6, 0.5), GaussianPrior(0.6, 1.5), GaussianPrior(0.6, 1.0)]
    amp, error, oracle = learnt((100, 90, 110), priors, GaussianPrior(0.3), 0.05, names)
    signs = [prior.mean[0] / prior.covariance[0][0] ** 0.5 for prior in amp.priors_]
    np.testing.assert_allclose(signs, [0.6 / 0.5**0.5, 0.6 / 1.5**0.5, 0.6], rtol=0.1)
    size = np.prod([prior.covariance[0][0] for prior in amp.priors_])
    assert size == pytest.approx(0.75, rel=0.1)
    assert error == pytest.approx(oracle, rel=0.02)


def test_two_components_are_learnt_from_a_guess_that_does_not_tell_them_apart():
    priors = [GaussianPrior((0.5, -0.2)), GaussianPrior((0.2, 0.6)), GaussianPrior((0.4, 0.3))]
    names = ("noise_variance", "mean", "covariance")
    _, error, oracle = learnt(
        (100, 80, 60), priors, GaussianPrior(0.3), 0.1, names, 2, start_noise=0.3
    )
    assert error < 1.1 * oracle


def test_each_prior_learns_what_it_knows():
    priors = [RademacherPrior(0.65), GaussianPrior(0.4), BernoulliGaussPrior(0.3, 1.0, 1.0)]
    guess = [RademacherPrior(0.6), GaussianPrior(0.3), BernoulliGaussPrior(0.5, 0.7, 1.0)]
    names = ("mean", "density", "noise_variance")
    amp, error, oracle = learnt((150, 120, 100), priors, guess, 0.02, names)
    signs, _, sparse = amp.priors_
    assert isinstance(signs, RademacherPrior)
    assert signs.probability == pytest.approx(0.65, abs=0.02)
    assert isinstance(sparse, BernoulliGaussPrior)
    assert sparse.density == pytest.approx(0.3, abs=0.05)
    assert sparse.variance == 1.0
    assert error < 1.05 * oracle


def test_nothing_is_learnt_unless_asked():
    prior = GaussianPrior(0.5)
    tensor = TensorProblem((30, 25, 20), prior, 0.1).sample(0, standardise=True).tensor
    found = TensorAMP(priors=prior, noise_variance=0.2).fit(tensor)
    assert found.noise_variance_ == 0.2
    assert found.priors_ == (prior,) * 3
    torch.testing.assert_close(
        found.factors_, TensorAMP(priors=prior, noise_variance=0.2).fit(tensor).factors_
    )


def test_what_no_prior_knows_is_named():
    tensor = torch.ones(3, 4)
    with pytest.raises(ValueError, match="no prior has density"):
        TensorAMP(learn=["density"]).fit(tensor)


@pytest.mark.parametrize("seed", [7, 10])
def test_a_learnt_noise_is_never_above_the_data(seed):
    # from these starts the first residuals are above it; taken as noise they ran away
    tensor, factors, _ = TensorProblem((20, 8, 3), GaussianPrior(1.0), 1e-3).sample(seed)
    amp = TensorAMP(
        priors=GaussianPrior(0.3),
        learn=("noise_variance", "mean", "covariance"),
        start_noise=1.0,
        seed=seed,
    ).fit(tensor)
    most = float(tensor.square().mean()) * (1 + 1e-6)
    assert float(amp.trace_["residual_variance"].max()) > most
    assert float(amp.trace_["noise_variance"].max()) <= most
    assert tensor_error(amp.factors_, factors) < 0.01
