"""Channels of single rows against samples and the library's denoisers; their own identities."""

import numpy as np
import pytest
import torch

from neurofb.tensors import BernoulliGaussPrior, GaussianPrior, RademacherPrior
from neurofb.theory import GaussianChannel, MixtureChannel, channel_of

PRIORS = {
    "gaussian": (GaussianPrior(mean=0.3, covariance=0.7), 1),
    "rank 2": (GaussianPrior(mean=(0.5, -0.2), covariance=((1.0, 0.4), (0.4, 0.5))), 2),
    "rademacher": (RademacherPrior(0.65), 1),
    "bernoulli": (BernoulliGaussPrior(0.3, 1.0, 0.5), 1),
}
SCALARS = [name for name, (_, rank) in PRIORS.items() if rank == 1]


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("strength", [0.3, 4.0])
def test_overlap_is_that_of_sampled_rows_and_the_denoiser(name: str, strength: float):
    prior, rank = PRIORS[name]
    generator = np.random.default_rng(1)
    num_rows = 100_000
    precision = strength * (np.eye(rank) + 0.3 * (1 - np.eye(rank)))
    rows = prior.sample(num_rows, rank, generator).numpy()
    noise = generator.standard_normal((num_rows, rank)) @ np.linalg.cholesky(precision).T
    field = rows @ precision + noise
    mean, variance = prior.denoise(torch.from_numpy(precision), torch.from_numpy(field))
    channel = channel_of(prior, rank)
    overlap = channel.overlap(precision)
    products = mean.numpy()[:, :, None] * rows[:, None, :]
    error = products.std(0) / np.sqrt(num_rows)
    assert np.all(np.abs(products.mean(0) - overlap) < 4 * error)
    # no precision and much of it: the prior's mean, the truth
    np.testing.assert_allclose(channel.overlap(0 * precision), channel.prior_overlap, atol=1e-12)
    assert np.abs(channel.overlap(1e6 * precision) - channel.second_moment).max() < 1e-4
    # what is missing to the second moment is the posterior variance
    missing = channel.second_moment - overlap
    np.testing.assert_allclose(variance.numpy().reshape(-1, rank, rank).mean(0), missing, atol=1e-2)


@pytest.mark.parametrize("name", PRIORS)
def test_log_partition_rises_by_half_the_overlap(name: str):
    prior, rank = PRIORS[name]
    channel, precision = channel_of(prior, rank), 1.7 * np.eye(rank) + 0.2
    change = np.array([[1.0, 0.3], [0.3, -0.5]])[:rank, :rank] * 1e-5
    rise = channel.log_partition(precision + change) - channel.log_partition(precision - change)
    np.testing.assert_allclose(rise, np.sum(change * channel.overlap(precision)), rtol=1e-6)
    assert abs(channel.log_partition(0 * precision)) < 1e-12


@pytest.mark.parametrize("name", SCALARS)
def test_slope_is_that_of_the_overlap(name: str):
    channel = channel_of(PRIORS[name][0])
    precision = np.array([0.01, 1.0, 30.0])
    low, high = (channel.overlap((precision * f)[:, None, None]) for f in (1 - 1e-5, 1 + 1e-5))
    expected = (high - low)[:, 0, 0] / (2e-5 * precision)
    np.testing.assert_allclose(channel.slope(precision), expected, rtol=1e-5)


def test_a_mixture_of_one_gaussian_is_a_gaussian():
    mixture = MixtureChannel((1.0,), (0.4,), (0.9,))
    gaussian = GaussianChannel(np.array([0.4]), np.array([[0.9]]))
    precision = np.geomspace(1e-6, 1e3, 10)[:, None, None]
    np.testing.assert_allclose(mixture.overlap(precision), gaussian.overlap(precision), rtol=1e-9)
    expected = gaussian.log_partition(precision)
    np.testing.assert_allclose(mixture.log_partition(precision), expected, rtol=1e-8, atol=1e-15)
    assert channel_of(mixture) is mixture


def test_values_and_probabilities_stand_for_a_prior():
    """A fine lattice of values, against the Gaussian that it approximates."""
    values = np.linspace(-6, 6, 49)
    weights = np.exp(-(values**2) / 2)
    lattice = MixtureChannel(tuple(weights / weights.sum()), tuple(values), (0.0,) * len(values))
    assert abs(lattice.overlap(np.array([[2.0]])).item() - 2 / 3) < 1e-7


def test_parameters_that_fit_nothing_are_named():
    with pytest.raises(ValueError, match=r"\[2, 1, 2\] entries"):
        MixtureChannel((0.5, 0.5), (0.0,), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"variances=.*-1"):
        MixtureChannel((0.5, 0.5), (0.0, 1.0), (-1.0, 1.0))
    with pytest.raises(ValueError, match="sum to 1"):
        MixtureChannel((0.5, 0.6), (0.0, 1.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="no state evolution; known: GaussianPrior"):
        channel_of("laplace")
    with pytest.raises(ValueError, match="rank=2 of RademacherPrior"):
        channel_of(RademacherPrior(), 2)
    with pytest.raises(ValueError, match="rank=3"):
        channel_of(GaussianPrior(mean=(0.1, 0.2)), 3)
