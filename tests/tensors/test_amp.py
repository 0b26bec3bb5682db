"""Message passing against state evolution, its invariances, and what it does without a signal."""

import warnings

import numpy as np
import pytest
import torch

from neurofb.tensors import (
    BernoulliGaussPrior,
    DenoiserPrior,
    GaussianPrior,
    RademacherPrior,
    TensorAMP,
    TensorProblem,
    mode_overlaps,
    start_factors,
    tensor_error,
)
from neurofb.tensors.amp_sweeps import Sweeps, SweepSettings
from neurofb.tensors.onsager import onsager_term
from neurofb.tensors.products import outer_sum


def gaussian_overlap(mean, noise_variance, ratios=(1.0, 1.0, 1.0), start=None):
    """State evolution of Gaussian axes of variance 1: M = 1 + mean² - 1 / (precision + 1)."""
    mean = np.broadcast_to(np.asarray(mean, float), len(ratios))
    overlap = mean**2 + 1e-6 if start is None else np.full(len(ratios), start)
    for _ in range(20000):
        others = np.array([np.prod(np.delete(overlap, a)) for a in range(len(ratios))])
        overlap = 1 + mean**2 - 1 / (1 + others / (noise_variance * np.array(ratios)))
    return overlap


def diagonals(factors, truth):
    return np.array([float(overlap[0, 0]) for overlap in mode_overlaps(factors, truth)])


def quietly(amp, *arguments):
    """Fit where it is no matter whether sweeps are enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return amp.fit(*arguments)


def fitted(shape, priors, noise_variance, seed=0, **settings):
    problem = TensorProblem(shape, priors, noise_variance, settings.get("rank", 1))
    tensor, factors, _ = problem.sample(seed, standardise=True)
    amp = TensorAMP(priors=priors, noise_variance=noise_variance, **settings)
    return amp.fit(tensor, factors), factors


@pytest.mark.parametrize("noise_variance", [pytest.param(0.05, marks=pytest.mark.slow), 0.1])
def test_overlaps_follow_state_evolution_in_the_easy_phase(noise_variance):
    """Within 3 % at 220³ (median of three seeds, of each axis)."""
    overlaps = []
    for seed in range(3):
        amp, factors = fitted((220,) * 3, GaussianPrior(0.2), noise_variance, seed)
        assert amp.converged_
        overlaps.append(diagonals(amp.factors_, factors))
    expected = gaussian_overlap(0.2, noise_variance)
    np.testing.assert_allclose(np.median(overlaps, axis=0), expected, rtol=0.03)


def test_hard_phase_the_prior_start_is_stuck_and_the_true_start_stays():
    prior = GaussianPrior(0.2)
    tensor, factors, _ = TensorProblem((220,) * 3, prior, 0.22).sample(0, standardise=True)
    stuck = quietly(TensorAMP(priors=prior, noise_variance=0.22), tensor)
    informed = TensorAMP(priors=prior, noise_variance=0.22, start=factors).fit(tensor)
    expected = gaussian_overlap(0.2, 0.22, start=1.0)
    assert tensor_error(stuck.factors_, factors) > 0.95
    found = diagonals(informed.factors_, factors)
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=0.05)
    assert gaussian_overlap(0.2, 0.22)[0] < 0.1  # theory says the same of the prior start


def test_shapes_and_means_may_differ_between_axes():
    priors = [GaussianPrior(0.0), GaussianPrior(0.4), GaussianPrior(0.3)]
    shape, noise_variance = (100, 200, 500), 0.1
    amp, factors = fitted(shape, priors, noise_variance)
    ratios = np.array(shape) / np.prod(shape) ** (1 / 3)
    expected = gaussian_overlap([0.0, 0.4, 0.3], noise_variance, ratios)
    np.testing.assert_allclose(diagonals(amp.factors_, factors), expected, rtol=0.04)


@pytest.mark.parametrize(
    ("shape", "mean", "noise_variance"),
    [
        ((400, 300), 0.4, 0.5),
        ((60, 50, 40), 0.6, 0.1),
        ((30,) * 4, 0.8, 0.1),
        ((13,) * 5, 1.0, 0.1),
    ],
)
def test_error_follows_state_evolution_for_every_order(shape, mean, noise_variance):
    errors = []
    for seed in range(3):
        amp, factors = fitted(shape, GaussianPrior(mean), noise_variance, seed)
        errors.append(tensor_error(amp.factors_, factors))
    ratios = np.array(shape) / np.prod(shape) ** (1 / len(shape))
    overlap = gaussian_overlap(mean, noise_variance, ratios)
    expected = 1 - np.prod(overlap) / (1 + mean**2) ** len(shape)
    assert np.median(errors) == pytest.approx(expected, rel=0.25)


def test_matrix_of_zero_mean_has_the_spectral_transition():
    """Order 2: the overlap leaves zero below Δ = 1, at which the signal's singular value shows."""
    found = []
    for seed in range(3):
        below, factors = fitted((400, 300), GaussianPrior(0.0), 0.3, seed)
        found.append(np.abs(diagonals(below.factors_, factors)))
    expected = gaussian_overlap(0.0, 0.3, np.array([400, 300]) / 120000**0.5, start=1.0)
    np.testing.assert_allclose(np.median(found, axis=0), expected, rtol=0.05)
    with pytest.warns(RuntimeWarning, match="found nothing"):
        above, factors = fitted((400, 300), GaussianPrior(0.0), 1.5)
    assert np.abs(diagonals(above.factors_, factors)).max() < 1e-3


def test_the_parallel_schedule_oscillates_unless_damped():
    """The scale of the factors is multiplied by -(p - 1): a guard of the default."""
    shape, prior, noise_variance = (60,) * 3, GaussianPrior(0.5), 0.05
    sequential, factors = fitted(shape, prior, noise_variance)
    with pytest.warns(RuntimeWarning, match="needs damping above 0.33"):
        fitted(shape, prior, noise_variance, schedule="parallel", max_sweeps=60)
    damped, _ = fitted(shape, prior, noise_variance, schedule="parallel", damping=0.6)
    slower, _ = fitted(shape, prior, noise_variance, damping=0.2)
    for other in (damped, slower):
        assert other.converged_
        assert other.num_sweeps_ > sequential.num_sweeps_
        for ours, theirs in zip(other.factors_, sequential.factors_, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    assert tensor_error(sequential.factors_, factors) < 0.2


@pytest.mark.parametrize(
    ("shape", "priors", "noise_variance", "settings"),
    [
        ((100,) * 3, GaussianPrior(0.4), 0.05, {}),
        ((20, 15, 25), GaussianPrior(0.8), 0.2, {"schedule": "parallel", "damping": 0.6}),
        ((8, 10, 9, 11), GaussianPrior(1.0), 0.5, {}),
        ((60, 50), GaussianPrior(0.5, 2.0), 0.1, {"damping": 0.1}),
        ((40, 50, 30), GaussianPrior((0.9, -0.3)), 0.1, {"rank": 2}),
        (
            (60, 50, 40),
            [RademacherPrior(0.65), GaussianPrior(0.5), BernoulliGaussPrior(0.3, 1.0, 1.0)],
            0.02,
            {},
        ),
    ],
)
def test_settled_scales_are_those_that_sweeps_come_to(shape, priors, noise_variance, settings):
    """The fixed point is that of plain sweeps, in less than half as many."""
    tensor = TensorProblem(shape, priors, noise_variance, settings.get("rank", 1)).sample(
        0, standardise=True, dtype=torch.float64
    )[0]
    settings = {"priors": priors, "noise_variance": noise_variance, "tolerance": 1e-8, **settings}
    plain = TensorAMP(settle_scales=False, max_sweeps=3000, **settings).fit(tensor)
    settled = TensorAMP(**settings).fit(tensor)
    assert settled.num_sweeps_ < 0.6 * plain.num_sweeps_
    for ours, theirs in zip(settled.factors_, plain.factors_, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for ours, theirs in zip(settled.covariances_, plain.covariances_, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_permuted_axes_give_permuted_factors():
    priors = [GaussianPrior(0.5), RademacherPrior(0.7), BernoulliGaussPrior(0.5, 1.0, 0.5)]
    problem = TensorProblem((40, 50, 60), priors, 0.05)
    tensor = problem.sample(0, standardise=True, dtype=torch.float64).tensor
    settings = {"noise_variance": 0.05, "tolerance": 1e-11, "max_sweeps": 400, "start_noise": 0}
    found = TensorAMP(priors=priors, **settings).fit(tensor)
    order = (2, 0, 1)
    moved = TensorAMP(priors=[priors[a] for a in order], **settings).fit(tensor.permute(order))
    for place, axis in enumerate(order):
        torch.testing.assert_close(moved.factors_[place], found.factors_[axis])
        torch.testing.assert_close(moved.covariances_[place], found.covariances_[axis])


def test_a_component_that_is_nothing_changes_nothing():
    prior, null = GaussianPrior(0.5), GaussianPrior((0.5, 0.0), (1.0, 0.0))
    tensor = TensorProblem((40, 50, 60), prior, 0.1).sample(0, dtype=torch.float64).tensor
    settings = {"noise_variance": 0.1, "start_noise": 0, "max_sweeps": 7}
    one = quietly(TensorAMP(1, priors=prior, **settings), tensor)
    two = quietly(TensorAMP(2, priors=null, **settings), tensor)
    for ours, theirs in zip(two.factors_, one.factors_, strict=True):
        torch.testing.assert_close(ours[:, :1], theirs)
        assert ours[:, 1].abs().max() == 0


def test_two_components_are_told_apart_by_their_means():
    priors = [GaussianPrior((0.5, -0.2)), GaussianPrior((0.2, 0.6)), GaussianPrior((0.4, 0.3))]
    amp, factors = fitted((150, 120, 180), priors, 0.1, rank=2)
    found = [float(overlap[0, 0]) for overlap in mode_overlaps(amp.factors_, factors)]
    np.testing.assert_allclose(found, (1.161, 0.978, 1.063), rtol=0.03)  # state evolution
    assert amp.trace_["overlap"].sizes["component"] == 2
    assert tensor_error(amp.factors_, factors) == pytest.approx(0.197, rel=0.1)


def test_noise_alone_gives_the_prior_mean():
    prior = GaussianPrior(0.2)
    noise = TensorProblem((100,) * 3, prior, 4.0).noise_only(0)
    amp = TensorAMP(priors=prior, noise_variance=4.0).fit(noise)
    means = [torch.full((100, 1), 0.2)] * 3
    assert tensor_error(amp.factors_, means) < 0.06  # the estimated tensor is that of the means
    truth = TensorProblem((100,) * 3, prior, 4.0).sample(0).factors
    assert tensor_error(amp.factors_, truth) == pytest.approx(1.0, abs=0.05)
    for factor, covariance in zip(amp.factors_, amp.covariances_, strict=True):
        assert float(factor.mean()) == pytest.approx(0.2, abs=0.01)
        assert float(covariance) == pytest.approx(1.0, abs=0.01)


def test_without_noise_the_truth_is_found():
    amp, factors = fitted((40, 30, 20), GaussianPrior(1.0), 1e-7, max_sweeps=30, tolerance=0.01)
    assert tensor_error(amp.factors_, factors) < 1e-6
    assert amp.residual_variance_ == pytest.approx(1e-7, rel=0.3)


@pytest.mark.parametrize("sequential", [True, False])
def test_the_residual_is_that_of_the_dense_tensor_before_convergence(sequential):
    """Of the estimates in turn as they are, of those at once as they entered the last sweep."""
    priors, shape = [GaussianPrior((0.8, 0.3)), GaussianPrior(0.5), GaussianPrior(0.4)], (5, 6, 7)
    tensor = TensorProblem(shape, priors, 0.3, 2).sample(0, dtype=torch.float64).tensor
    start, square = start_factors(shape, priors, 2, noise=1.0), float(tensor.square().mean())
    runs = []
    for number in (2, 3):
        settings = SweepSettings(sequential=sequential, settle_scales=False, max_sweeps=number)
        runs.append(Sweeps(tensor, square, list(start), list(priors), 0.3, settings).run())
    at = runs[1] if sequential else runs[0]
    found = outer_sum(at.factors, scale=1 / 210 ** (1 / 3))
    second = torch.ones(2, 2).double()
    mean = torch.ones(2, 2).double()
    for factor, covariance in zip(at.factors, at.covariances, strict=True):
        mean *= factor.T @ factor
        second *= factor.T @ factor + len(factor) * covariance
    spread = float((second - mean).sum()) / 210 ** (2 / 3)
    expected = (float((tensor - found).square().sum()) + spread) / 210
    assert runs[1].residual == pytest.approx(expected, rel=1e-10)
    assert abs(runs[1].change[-1]) > 0.01


def test_posterior_variances_are_calibrated():
    """Mean squared errors of rows are the variances that are reported, for each kind of prior."""
    priors = [RademacherPrior(0.65), GaussianPrior(0.4), BernoulliGaussPrior(0.3, 1.0, 1.0)]
    amp, factors = fitted((200, 150, 120), priors, 0.1)
    for estimate, truth, covariance in zip(amp.factors_, factors, amp.covariances_, strict=True):
        error = float((estimate - truth).square().mean())
        assert error == pytest.approx(float(covariance.mean()), rel=0.35)


def test_a_users_denoiser_does_what_ours_does():
    ours = GaussianPrior(0.5)
    theirs = DenoiserPrior(ours.denoise, mean=[0.5], second_moment=[[1.25]])
    tensor = TensorProblem((30, 40, 50), ours, 0.1).sample(0).tensor
    found = [TensorAMP(priors=prior, noise_variance=0.1).fit(tensor) for prior in (ours, theirs)]
    for first, second in zip(found[0].factors_, found[1].factors_, strict=True):
        torch.testing.assert_close(first, second)


def test_several_starts_keep_the_one_that_leaves_least():
    """Two axes of zero mean: whether a start escapes is chance, close to where escape ends."""
    priors = [GaussianPrior(0.0), GaussianPrior(0.0), GaussianPrior(0.5)]
    tensor, factors, _ = TensorProblem((60,) * 3, priors, 0.15).sample(5, standardise=True)
    settings = {"priors": priors, "noise_variance": 0.15, "max_sweeps": 12}
    one = quietly(TensorAMP(**settings), tensor)
    many = quietly(TensorAMP(num_starts=4, **settings), tensor, factors)
    assert many.residual_variance_ < one.residual_variance_
    assert many.trace_["residual_variance"].values[-1] == many.residual_variance_


def test_where_it_starts_is_the_prior_mean_with_noise():
    priors = [GaussianPrior((0.5, 1.0), (4.0, 0.0)), GaussianPrior(0.0)]
    first, second = start_factors((4000, 3), priors, rank=2, noise=0.5, seed=1)
    np.testing.assert_allclose(first.std(0), (1.0, 0.0), atol=0.05)
    np.testing.assert_allclose(first.mean(0), (0.5, 1.0), atol=0.05)
    again = start_factors((10, 3), priors, rank=2, noise=0.5, seed=1)
    assert torch.equal(again[1], second)
    assert torch.equal(again[0], first[:10])
    alike = start_factors((5, 5), GaussianPrior(0.0), noise=1.0)
    assert not torch.equal(*alike)


def test_settling_changes_the_scales_of_all_that_is_remembered():
    """The tensor and what is taken off a field, in the field's new scale, stay as they are."""
    problem = TensorProblem((12, 10, 14), GaussianPrior(0.8), 0.1)
    tensor, factors, _ = problem.sample(0, dtype=torch.float64)
    settings = SweepSettings(settle_scales=False, max_sweeps=3)
    sweeps = Sweeps(tensor, 0.1, list(factors), [GaussianPrior(0.8)] * 3, 0.1, settings).run()

    def remembered():
        terms = [onsager_term(sweeps.factors, sweeps._memories, axis) for axis in range(3)]
        pairs = zip(sweeps.covariances, sweeps.factors, strict=True)
        spreads = [float(covariance) / float(f.square().mean()) for covariance, f in pairs]
        return outer_sum(sweeps.factors), terms, spreads

    before, old = remembered(), sweeps.factors
    sweeps._settle([1.05 * old[0], old[1] / 1.02, old[2]])
    scales = [float((new / was).mean()) for new, was in zip(sweeps.factors, old, strict=True)]
    assert min(abs(scale - 1) for scale in scales) > 1e-3
    after = remembered()
    torch.testing.assert_close(after[0], before[0])
    for ours, theirs, scale in zip(after[1], before[1], scales, strict=True):
        torch.testing.assert_close(ours * scale, theirs)
    np.testing.assert_allclose(after[2], before[2])
