"""Denoisers against sums over a fine grid, moments against samples, and what is refused."""

import itertools

import numpy as np
import pytest
import torch

from neurofb.tensors import (
    BernoulliGaussPrior,
    DenoiserPrior,
    GaussianPrior,
    Prior,
    RademacherPrior,
)
from neurofb.tensors.protocol import check_rank

COVARIANCE = ((1.0, 0.4), (0.4, 0.5))


def states_of(prior, rank):
    """Values (state, component) and log-probabilities of a fine discretisation."""
    axis = np.linspace(-9, 9, 361)
    if isinstance(prior, RademacherPrior):
        states = np.array(list(itertools.product([1.0, -1.0], repeat=rank)))
        shares = np.where(states > 0, prior.probability, 1 - prior.probability)
        return states, np.log(shares).sum(1)
    if isinstance(prior, BernoulliGaussPrior):
        density = np.exp(-((axis - prior.mean) ** 2) / (2 * prior.variance))
        shares = np.append(prior.density * density / density.sum(), 1 - prior.density)
        return np.append(axis, 0.0)[:, None], np.log(shares + 1e-300)
    states = np.array(list(itertools.product(axis, repeat=rank)))
    centred = states - prior.mean_of(rank).numpy()
    inverse = np.linalg.inv(prior.covariance_of(rank).numpy())
    return states, -np.einsum("sa,ab,sb->s", centred, inverse, centred) / 2


CASES = [
    (GaussianPrior(0.3, 0.8), 1),
    (GaussianPrior((0.3, -0.5), COVARIANCE), 2),
    (RademacherPrior(0.7), 1),
    (RademacherPrior(0.7), 2),
    (RademacherPrior(0.5), 3),
    (BernoulliGaussPrior(0.3, 0.5, 1.2), 1),
    (BernoulliGaussPrior(1.0, 0.5, 1.2), 1),
]


@pytest.mark.parametrize(("prior", "rank"), CASES, ids=str)
def test_denoiser_is_the_posterior(prior, rank):
    generator = np.random.default_rng(0)
    root = generator.standard_normal((rank, rank))
    precision, field = root @ root.T + 0.1 * np.eye(rank), generator.standard_normal((4, rank))
    states, log_prior = states_of(prior, rank)
    quadratic = np.einsum("sa,ab,sb->s", states, precision, states) / 2
    weights = log_prior + field @ states.T - quadratic
    weights = np.exp(weights - weights.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    expected = weights @ states
    square = np.einsum("ns,sa,sb->nab", weights, states, states)
    mean, covariance = prior.denoise(torch.from_numpy(precision), torch.from_numpy(field))
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    spread = square - np.einsum("na,nb->nab", expected, expected)
    np.testing.assert_allclose(covariance.expand(4, rank, rank), spread, atol=1e-6)


@pytest.mark.parametrize(("prior", "rank"), CASES, ids=str)
def test_moments_are_those_of_the_posterior_without_data_and_of_samples(prior, rank):
    none = torch.zeros(rank, rank, dtype=torch.float64), torch.zeros(1, rank, dtype=torch.float64)
    mean, covariance = prior.denoise(*none)
    torch.testing.assert_close(mean[0], prior.mean_of(rank))
    square = covariance.reshape(-1, rank, rank)[0] + torch.outer(mean[0], mean[0])
    torch.testing.assert_close(square, prior.second_moment_of(rank))
    rows = prior.sample(40000, rank, np.random.default_rng(0))
    torch.testing.assert_close(rows.mean(0), prior.mean_of(rank), atol=0.03, rtol=0)
    second = rows.T @ rows / len(rows)
    torch.testing.assert_close(second, prior.second_moment_of(rank), atol=0.04, rtol=0)


@pytest.mark.parametrize(("prior", "rank"), CASES, ids=str)
def test_standardised_samples_have_the_moments_exactly(prior, rank):
    rows = prior.standardise(prior.sample(200, rank, np.random.default_rng(1)))
    torch.testing.assert_close(rows.mean(0), prior.mean_of(rank))
    if isinstance(prior, RademacherPrior):
        assert set(rows.flatten().tolist()) == {1.0, -1.0}
    else:
        torch.testing.assert_close(rows.T @ rows / 200, prior.second_moment_of(rank))
    if isinstance(prior, BernoulliGaussPrior):
        assert int((rows != 0).sum()) == round(200 * prior.density)


@pytest.mark.parametrize(("prior", "rank"), CASES, ids=str)
def test_dtype_of_the_field_is_kept(prior, rank):
    precision = torch.eye(rank, dtype=torch.float64)
    exact = prior.denoise(precision, torch.ones(3, rank, dtype=torch.float64))
    found = prior.denoise(precision, torch.ones(3, rank))
    assert [each.dtype for each in found] == [torch.float32] * 2
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=1e-5)
    assert isinstance(prior, Prior)


def test_extreme_fields_stay_finite():
    field = torch.tensor([[-1e4], [0.0], [1e4]])
    for prior in (RademacherPrior(0.9), BernoulliGaussPrior(0.01, 1.0, 0.5), GaussianPrior()):
        for scale in (1e-9, 1.0, 1e6):
            mean, covariance = prior.denoise(scale * torch.eye(1, dtype=torch.float64), field)
            assert torch.isfinite(mean).all()
            assert (covariance >= 0).all()


def test_a_component_without_variance_keeps_its_mean():
    prior = GaussianPrior((0.5, 2.0), (1.0, 0.0))
    mean, covariance = prior.denoise(torch.ones(2, 2).double(), torch.ones(3, 2).double())
    torch.testing.assert_close(mean[:, 1], torch.full((3,), 2.0).double())
    torch.testing.assert_close(covariance[1], torch.zeros(2).double())


def test_what_is_learnt_without_data_is_the_prior_itself():
    none = torch.zeros(1, 1).double(), torch.zeros(5, 1).double()
    names = ("mean", "covariance", "density")
    learnt = BernoulliGaussPrior(0.3, 0.5, 1.2).learn(*none, names)
    found = (learnt.density, learnt.mean, learnt.variance)
    np.testing.assert_allclose(found, (0.3, 0.5, 1.2))
    assert RademacherPrior(0.7).learn(*none, names).probability == pytest.approx(0.7)
    gauss = GaussianPrior(0.3, 0.8).learn(*none, names)
    np.testing.assert_allclose([gauss.mean[0], gauss.covariance[0][0]], [0.3, 0.8])
    assert GaussianPrior(0.3, 0.8).learn(*none, ("mean",)).covariance == (0.8,)


@pytest.mark.parametrize(("prior", "rank"), CASES, ids=str)
def test_what_is_learnt_has_the_moments_of_the_posterior(prior, rank):
    """A step of expectation maximisation, under data: the mean over rows of both moments."""
    generator = np.random.default_rng(0)
    precision = torch.from_numpy(0.4 + 0.7 * np.eye(rank))
    field = torch.from_numpy(0.5 + generator.standard_normal((6, rank)))
    mean, covariance = prior.denoise(precision, field)
    square = covariance + torch.einsum("na,nb->nab", mean, mean)
    learnt = prior.learn(precision, field, ("mean", "covariance", "density"))
    if not isinstance(prior, RademacherPrior):
        torch.testing.assert_close(learnt.mean_of(rank), mean.mean(0))
        torch.testing.assert_close(learnt.second_moment_of(rank), square.mean(0))
    else:  # one probability for all components
        assert float(learnt.mean_of(rank)[0]) == pytest.approx(float(mean.mean()))


def test_a_learnt_density_is_the_mean_probability_of_not_being_zero():
    prior, field = BernoulliGaussPrior(0.3, 0.5, 1.2), np.array([[-2.0], [0.1], [3.0]])
    states, log_prior = states_of(prior, 1)
    weights = np.exp(log_prior + field * states[:, 0] - 0.8 * states[:, 0] ** 2 / 2)
    present = weights[:, :-1].sum(1) / weights.sum(1)
    precision = torch.tensor([[0.8]]).double()
    learnt = prior.learn(precision, torch.from_numpy(field), ("density",))
    assert learnt.density == pytest.approx(present.mean(), rel=1e-6)
    assert (learnt.mean, learnt.variance) == (0.5, 1.2)


def test_a_prior_of_a_users_own_denoiser():
    def denoise(precision, field):
        mean = torch.tanh(field)
        return mean, (1 - mean**2)[..., None]

    prior = DenoiserPrior(denoise, mean=[0.0], second_moment=[[1.0]])
    field = torch.linspace(-2, 2, 5)[:, None]
    for ours, theirs in zip(
        prior.denoise(torch.eye(1), field),
        RademacherPrior().denoise(torch.eye(1), field),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="sampler=None"):
        prior.sample(3, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="rank=2 is above 1"):
        prior.mean_of(2)
    drawing = DenoiserPrior(denoise, [0.0], [[1.0]], lambda n, generator: generator.random(n))
    assert drawing.sample(3, 1, np.random.default_rng(0)).shape == (3, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianPrior(float("nan")), "mean=nan must be finite"),
        (lambda: GaussianPrior(covariance=-1.0), "covariance=-1.0 must be symmetric"),
        (lambda: GaussianPrior(covariance=((1.0, 0.5), (0.0, 1.0))), "must be symmetric"),
        (lambda: GaussianPrior((0.0, 1.0), (1.0, 1.0, 1.0)), "as many components"),
        (lambda: RademacherPrior(1.0), "probability=1.0 must be above 0 and below 1"),
        (lambda: BernoulliGaussPrior(0.0), "density=0.0 must be above 0"),
        (lambda: BernoulliGaussPrior(1.5), "density=1.5 must be above 0 and at most 1"),
        (lambda: BernoulliGaussPrior(0.5, 0.0, 0.0), "variance=0.0 must be above 0"),
        (lambda: BernoulliGaussPrior(0.5, float("inf")), "mean=inf must be finite"),
        (lambda: DenoiserPrior(max, [1.0], [[0.5]]), "second_moment=.* must be that"),
        (lambda: DenoiserPrior(max, [1.0], [[1.0, 2.0]]), "must have shapes"),
        (lambda: check_rank(BernoulliGaussPrior(), 2), "rank=2 is above 1"),
        (lambda: check_rank(GaussianPrior(), 0), "rank=0 must be at least 1"),
        (lambda: GaussianPrior((0.0, 1.0)).mean_of(1), "parameters of 2 components"),
        (lambda: GaussianPrior().standardise(torch.ones(1, 1)), "cannot be standardised"),
        (lambda: BernoulliGaussPrior(0.1).standardise(torch.ones(9, 1)), "cannot be standardised"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
