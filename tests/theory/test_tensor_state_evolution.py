"""State evolution of tensors: closed forms, its own iteration, the tables of our notes."""

import numpy as np
import pytest
from scipy.optimize import brentq

from neurofb.tensor_phase import PHASES, phase_diagram
from neurofb.tensors import BernoulliGaussPrior, GaussianPrior, RademacherPrior
from neurofb.theory import StateEvolution, critical_mean, critical_noise
from neurofb.theory.tensor_thresholds import thresholds_by_iteration

ZERO = GaussianPrior()
_STARTS = ("prior", "truth")
MIXED = StateEvolution(
    [RademacherPrior(0.65), GaussianPrior(0.3), BernoulliGaussPrior(0.3, 1.0, 1.0)],
    shape=(200, 150, 100),
)
RANK_TWO = StateEvolution(
    [GaussianPrior(mean) for mean in ((0.5, -0.2), (0.2, 0.6), (0.4, 0.3))],
    shape=(150, 120, 180),
    rank=2,
)


def gaussian(*means: float, **shape) -> StateEvolution:
    return StateEvolution([GaussianPrior(mean) for mean in means], **shape)


def errors(theory: StateEvolution, noises: list[float], start="prior") -> np.ndarray:
    return theory.tensor_error(theory.fixed_point(noises, start))


def test_means_of_zero_have_closed_forms():
    theory = StateEvolution(ZERO)
    noises = np.linspace(0.001, 0.2499, 20)
    expected = (1 + np.sqrt(1 - 4 * noises)) / 2
    found = theory.fixed_point(noises, "truth")[..., 0, 0]
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 3, 1), atol=1e-10)
    assert np.all(theory.fixed_point(noises) == 0)  # no easy phase
    assert np.all(theory.fixed_point(0.2501, "truth") == 0)
    algorithmic, information, spinodal = theory.thresholds()
    assert algorithmic == 0
    assert abs(spinodal - 0.25) < 1e-10

    def free_entropy(noise: float) -> float:
        overlap = (1 + np.sqrt(1 - 4 * noise)) / 2
        precision = overlap**2 / noise
        return 1.5 * (precision - np.log1p(precision)) - overlap**3 / noise

    assert abs(information - brentq(free_entropy, 0.2, 0.2499, xtol=1e-14)) < 1e-10
    assert abs(information - 0.228973) < 1e-6
    at = theory.fixed_point(information, "truth")
    assert abs(at[0, 0, 0] - 0.645007) < 1e-6
    assert abs(theory.free_entropy(information, at)) < 1e-12


# Δ_alg, Δ_IT, Δ_sp of our notes. They found the first and the last of Gaussian priors with a mean
# on a grid of step 0.00249, which is the tolerance there.
NOTES = [
    (gaussian(0, 0, 0), (0, 0.228973, 0.25), 1e-6),
    (StateEvolution(RademacherPrior()), (0, 0.28287, 0.30972), 1e-5),
    (gaussian(0.05, 0.05, 0.05), (0.01, 0.2317, 0.2522), 0.0025),
    (gaussian(0.1, 0.1, 0.1), (0.0403, 0.2399, 0.2596), 0.0025),
    (gaussian(0.2, 0.2, 0.2), (0.1540, 0.2763, 0.2928), 0.0025),
    (gaussian(0.3, 0.3, 0.3), (0.3238, 0.3523, 0.3600), 0.0025),
    (gaussian(0, 0.2, 0.2), (0.1016, 0.2592, 0.2773), 0.0025),
    (gaussian(0, 0.3, 0.3), (0.2190, 0.3027, 0.3172), 0.0025),
]


@pytest.mark.parametrize(("theory", "expected", "step"), NOTES)
def test_thresholds_are_those_of_the_notes_and_of_the_iteration(theory, expected, step):
    found = theory.thresholds()
    assert abs(found.information - expected[1]) < 1e-4
    np.testing.assert_allclose(found, expected, atol=step)
    low, _, high = found
    if low > 0:  # just below it the iteration from the prior arrives, just above it does not
        noises = low + np.array([-1e-3, 1e-3])
        ends = theory.tensor_error(theory.run(noises, num_sweeps=400)[-1])
        good = errors(theory, noises.tolist(), "truth")
        np.testing.assert_allclose(ends[0], good[0], rtol=1e-3)
        assert ends[1] > good[1] + 0.01
    noises = high + np.array([-1e-3, 1e-3])
    ends = theory.tensor_error(theory.run(noises, "truth", num_sweeps=400)[-1])
    stuck = errors(theory, noises.tolist())
    assert ends[0] < stuck[0] - 0.01
    np.testing.assert_allclose(ends[1], stuck[1], rtol=1e-3)


@pytest.mark.parametrize("means", [(0.4, 0.4, 0.4), (0, 0.5, 0.5), (1.0, 0.6, 0.4)])
def test_large_means_leave_no_transition(means):
    theory = gaussian(*means)
    assert np.all(np.isnan(theory.thresholds()))
    noises = np.geomspace(0.01, 3, 400)
    prior, truth = (theory.fixed_point(noises, start)[..., 0, 0] for start in ("prior", "truth"))
    np.testing.assert_allclose(prior, truth, rtol=1e-10)
    assert np.abs(np.diff(prior, axis=0)).max() < 0.05  # no jump


@pytest.mark.parametrize("order", [3, 4, 6])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_folds_of_equal_gaussian_priors_have_closed_forms(order: int, share: float):
    mean = share * critical_mean(order).item()
    square = mean**2
    folds = np.roots([square + 1, 2 * square + 2 - order, square])
    noises = (square + folds / (1 + folds)) ** (order - 1) / folds
    found = gaussian(*[mean] * order).thresholds()
    np.testing.assert_allclose([found.algorithmic, found.spinodal], np.sort(noises), rtol=1e-10)
    both = [gaussian(*[mean] * order).fixed_point(found.information, s) for s in _STARTS]
    entropies = [gaussian(*[mean] * order).free_entropy(found.information, each) for each in both]
    assert both[0][0, 0, 0] < both[1][0, 0, 0] - 0.01
    assert abs(entropies[0] - entropies[1]) < 1e-12


@pytest.mark.parametrize("order", [3, 4])
def test_bistability_ends_at_the_critical_mean(order: int):
    """The slope of log Δ over log t touches 0: s = A F′ / F reaches 1 / (p - 1) at the most."""
    precision = np.geomspace(0.01, 100, 100_001)

    def largest_rise(mean: float) -> float:
        overlap = mean**2 + precision / (1 + precision)
        return float((precision / (1 + precision) ** 2 / overlap).max())

    last = critical_mean(order).item()
    assert abs(largest_rise(last) - 1 / (order - 1)) < 1e-6
    for mean, finite in ((0.99 * last, True), (1.001 * last, False)):
        assert np.isfinite(gaussian(*[mean] * order).thresholds().information) == finite
    assert critical_mean(order, 4.0) == pytest.approx(2 * last)


def test_the_hard_phase_is_widest_for_a_cube():
    """The table of our notes, on their grid; and the law itself, which needs none."""
    ratios = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 10]
    notes = [[0.181, 0.166, 0.157, 0.154, 0.154, 0.155, 0.157, 0.169, 0.197]]
    notes += [[0.222, 0.254, 0.271, 0.275, 0.276, 0.274, 0.271, 0.259, 0.240]]
    notes += [[0.229, 0.267, 0.286, 0.292, 0.293, 0.291, 0.287, 0.272, 0.249]]
    found = phase_diagram([0.2], [0.1], ratios)
    for name, values in zip(("algorithmic", "information", "spinodal"), notes, strict=True):
        np.testing.assert_allclose(found[name].values.ravel(), values, atol=1.5e-3)
    width = found.hard_width.values.ravel()
    assert np.all(np.diff(width)[:4] > 0)
    assert np.all(np.diff(width)[4:] < 0)
    near = phase_diagram([0.2], [0.1], [0.98, 1.0, 1.02]).hard_width.values.ravel()
    assert near.argmax() == 1


@pytest.mark.parametrize(
    ("theory", "noises", "expected"),
    [
        (gaussian(0.2, 0.2, 0.2), [0.05, 0.1, 0.14], [0.133, 0.266, 0.374]),
        (gaussian(0, 0.4, 0.3, shape=(100, 200, 500)), [0.1, 0.2, 0.3], [0.275, 0.525, 0.767]),
        (
            gaussian(0, 0.4, 0.3, shape=(60, 150, 400)),
            [0.05, 0.1, 0.2, 0.25, 0.3, 0.35, 0.5],
            [0.151, 0.29, 0.544, 0.663, 0.784, 0.996, 0.999],
        ),
        (RANK_TWO, [0.05, 0.1, 0.2], [0.099, 0.197, 0.390]),
        (gaussian(*[0.5] * 4, shape=(40, 50, 60, 30)), [0.05, 0.1, 0.2], [0.085, 0.171, 0.346]),
        (MIXED, [0.01, 0.02, 0.05, 0.08, 0.1], [0.020, 0.040, 0.103, 0.191, 0.265]),
    ],
)
def test_errors_of_the_notes(theory, noises, expected):
    np.testing.assert_allclose(errors(theory, noises), expected, atol=8e-4)


def test_overlaps_of_the_notes():
    found = gaussian(0, 0.4, 0.3, shape=(100, 200, 500)).fixed_point(0.1)[:, 0, 0]
    np.testing.assert_allclose(found, [0.954, 1.063, 0.904], atol=6e-4)
    found = RANK_TWO.fixed_point(0.1)[:, 0, 0]
    np.testing.assert_allclose(found, [1.161, 0.978, 1.063], atol=6e-4)
    found = errors(gaussian(0.2, 0.2, 0.2), [0.17, 0.22, 0.27], "truth")
    np.testing.assert_allclose(found, [0.455, 0.596, 0.755], atol=6e-4)


@pytest.mark.parametrize("theory", [gaussian(0.2, 0.3, 0.1), MIXED, RANK_TWO])
def test_free_entropy_is_stationary_where_state_evolution_rests(theory):
    noise, generator = 0.09, np.random.default_rng(0)
    overlaps = theory.fixed_point(noise)
    for _ in range(3):
        change = 1e-4 * generator.standard_normal(overlaps.shape)
        change = change + change.swapaxes(-1, -2)
        low, high = (theory.free_entropy(noise, overlaps + s * change) for s in (-1, 1))
        away = overlaps * 0.8
        low_away, high_away = (theory.free_entropy(noise, away + s * change) for s in (-1, 1))
        assert abs(high - low) < 1e-3 * abs(high_away - low_away)


@pytest.mark.parametrize("theory", [gaussian(0.2, 0.3, 0.1), MIXED, RANK_TWO])
@pytest.mark.parametrize("start", ["prior", "truth"])
def test_the_iteration_ends_at_the_fixed_point_in_either_order(theory, start):
    for schedule in ("sequential", "parallel"):
        trajectory = theory.run([0.05, 0.4], start, num_sweeps=200, schedule=schedule)
        assert trajectory.shape == (201, 2, 3, theory.rank, theory.rank)
        np.testing.assert_allclose(trajectory[-1], theory.fixed_point([0.05, 0.4], start), 1e-8)
    from_overlaps = theory.fixed_point([0.05, 0.4], trajectory[3])
    np.testing.assert_allclose(from_overlaps, trajectory[-1], rtol=1e-8)


def test_axes_at_once_see_what_the_others_were():
    theory, start = gaussian(0.2, 0.2, 0.2), np.full((3, 1, 1), 0.5)

    def seen(others: float) -> float:
        return 1.04 - 1 / (1 + others / 0.1)

    first = seen(0.25)
    second = seen(0.5 * first)
    for schedule, expected in (
        ("parallel", [first, first, first]),
        ("sequential", [first, second, seen(first * second)]),
    ):
        found = theory.run(0.1, start, num_sweeps=1, schedule=schedule)[-1, :, 0, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_more_noise_is_never_better():
    noises = np.geomspace(1e-3, 2, 300)
    for theory in (gaussian(0, 0.3, 0.2, ratios=(0.5, 1, 2)), gaussian(0.1, 0.1, 0.1), RANK_TWO):
        for start in ("prior", "truth"):
            found = errors(theory, noises.tolist(), start)
            assert np.all(np.diff(found) > -1e-9)
            assert np.all((found >= 0) & (found <= 1 + 1e-12))
        assert errors(theory, [1e-6]).item() < 1e-4


def test_a_matrix_has_the_transition_of_baik_ben_arous_and_peche():
    theory = StateEvolution([ZERO, ZERO], ratios=(0.25, 4.0))
    noises = np.array([0.2, 0.6, 0.99, 1.01])
    below = noises[:3]
    found = theory.fixed_point(noises)[..., 0, 0]
    np.testing.assert_allclose(found[:3, 0], (1 - below**2) / (1 + 0.25 * below), rtol=1e-9)
    np.testing.assert_allclose(found[:3, 1], (1 - below**2) / (1 + 4 * below), rtol=1e-9)
    assert np.all(found[3] == 0)
    assert np.all(np.isnan(theory.thresholds()))  # nothing is bistable
    assert critical_noise(2, 3, 0.25, 4).item() == pytest.approx(6)
    wide = StateEvolution([GaussianPrior(0, 2), GaussianPrior(0, 3)], ratios=(1, 16))
    assert wide.curve.noise_at_no_signal == pytest.approx(6)


def test_two_axes_of_zero_mean_leave_it_at_the_critical_noise():
    """The start breaks the symmetry at Δ_c, first by little; it jumps at a lower noise."""
    theory = gaussian(0, 0, 0.5)
    assert critical_noise(1, 1, other_means=0.5).item() == 0.25
    overlaps = theory.fixed_point([0.24, 0.2465, 0.2499, 0.2501])[:, 0, 0, 0]
    assert overlaps[0] > 0.7
    assert 0.01 < overlaps[1] < 0.05
    assert 0 < overlaps[2] < 1e-3
    assert overlaps[3] == 0
    iterated = theory.run([0.24, 0.2465, 0.2501], num_sweeps=1500)[-1, :, 0, 0, 0]
    np.testing.assert_allclose(iterated, overlaps[[0, 1, 3]], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(theory.thresholds(), [0.24601, 0.32914, 0.34238], atol=1e-5)


def test_the_critical_noise_of_a_tensor_falls_with_the_sides_of_its_two_axes():
    theory = gaussian(0, 0, 0.5, ratios=(4, 1, 0.25))  # n₁ n₂ = 4: half of a cube's
    assert theory.curve.noise_at_no_signal == pytest.approx(0.125)
    assert critical_noise(1, 1, 4, 1, 0.5).item() == pytest.approx(0.125)
    left, stayed = theory.run([0.12, 0.13], num_sweeps=300)[-1, :, 0, 0, 0]
    assert left > 0.01
    assert stayed < 1e-9


PAIR = StateEvolution(GaussianPrior((0.3, 0.0), (1.0, 0.0)), rank=2)


def test_a_component_that_is_zero_changes_nothing():
    lone, pair = gaussian(0.3, 0.3, 0.3), PAIR
    for start in ("prior", "truth"):
        found, expected = (t.fixed_point([0.1, 0.34], start) for t in (pair, lone))
        np.testing.assert_allclose(found[..., :1, :1], expected, rtol=1e-7)
        assert np.all(found[..., 1, :] == 0)
    assert np.all(np.isnan(RANK_TWO.thresholds()))


@pytest.mark.slow
def test_thresholds_by_iteration_are_the_folds_of_the_curve():
    expected = gaussian(0.3, 0.3, 0.3).thresholds()
    np.testing.assert_allclose(PAIR.thresholds(), expected, rtol=1e-4)
    found = thresholds_by_iteration(gaussian(0, 0, 0))
    np.testing.assert_allclose(found, StateEvolution(ZERO).thresholds(), rtol=1e-4)


def test_permuting_axes_permutes_overlaps():
    means, sides = np.array([0.0, 0.4, 0.3]), np.array([60, 150, 400])
    order = [2, 0, 1]
    found = gaussian(*means, shape=sides.tolist()).fixed_point(0.2)
    permuted = gaussian(*means[order], shape=sides[order].tolist()).fixed_point(0.2)
    np.testing.assert_allclose(permuted, found[order], rtol=1e-12)


def test_only_ratios_of_sides_and_of_scales_matter():
    small, large = (gaussian(0.2, 0.1, 0.3, shape=s) for s in ((2, 3, 4), (200, 300, 400)))
    np.testing.assert_array_equal(small.fixed_point(0.1), large.fixed_point(0.1))
    scaled = StateEvolution([GaussianPrior(0.4, 4.0), GaussianPrior(0.1), GaussianPrior(0.3)])
    plain = gaussian(0.2, 0.1, 0.3)
    np.testing.assert_allclose(scaled.thresholds(), 4 * np.array(plain.thresholds()), rtol=1e-9)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="2 priors do not fit a tensor of 3 axes"):
        gaussian(0.1, 0.2, ratios=(1, 1, 1))
    with pytest.raises(ValueError, match=r"ratios=.*positive"):
        gaussian(0.1, 0.2, ratios=(1, -1))
    with pytest.raises(ValueError, match="give one of both"):
        gaussian(0.1, 0.2, ratios=(1, 1), shape=(1, 1))
    with pytest.raises(ValueError, match="rank=0"):
        StateEvolution(ZERO, rank=0)
    with pytest.raises(ValueError, match="a factor that is zero"):
        StateEvolution(GaussianPrior(0.0, 0.0))
    with pytest.raises(ValueError, match=r"noise_variance=.*positive"):
        StateEvolution(ZERO).fixed_point(0.0)
    with pytest.raises(ValueError, match="does not fit overlaps of shape"):
        StateEvolution(ZERO).run(0.1, np.zeros((2, 1, 1)))
    with pytest.raises(ValueError, match="start: an overlap is not finite"):
        StateEvolution(ZERO).run(0.1, np.full((3, 1, 1), np.nan))
    with pytest.raises(ValueError, match="num_sweeps=-1"):
        StateEvolution(ZERO).run(0.1, num_sweeps=-1)
    with pytest.warns(UserWarning, match="still moves after 3 sweeps"):
        RANK_TWO.fixed_point(0.1, max_sweeps=3)


def test_phase_diagram_is_labelled():
    noises = [0.05, 0.15, 0.25, 0.29, 0.4]
    found = phase_diagram([0.0, 0.2, 0.5], noises)
    assert found.error_prior.dims == ("shape_ratio", "prior_mean", "noise_variance")
    names = np.array(PHASES)[found.phase.values[0]].tolist()
    assert names[0] == ["hard"] * 2 + ["impossible"] * 3
    assert names[1] == ["easy", "easy", "hard", "impossible", "impossible"]
    assert names[2] == ["smooth"] * 5
    assert found.phase.attrs["flag_meanings"].split() == list(PHASES)
    assert all("units" in v.attrs and "long_name" in v.attrs for v in found.variables.values())
    gap = found.free_entropy_gap.values[0, 1]
    assert abs(gap[0]) < 1e-12
    assert gap[2] > 0 > gap[3]
    assert found.hard_width.values[0, 2] == 0
    one_without = phase_diagram([0.2], noises, pattern=(0, 1, 1))
    assert one_without.information.item() == pytest.approx(0.2592, abs=1e-4)
    matrix = phase_diagram([0.0], [0.9, 1.1], pattern=(1, 1))
    assert np.array(PHASES)[matrix.phase.values.ravel()].tolist() == ["easy", "impossible"]


def test_phases_scale_with_the_variance():
    plain, scaled = (phase_diagram([0.2 * s], [0.2 * s**6], variance=s**2) for s in (1, 2))
    assert scaled.information.item() == pytest.approx(64 * plain.information.item())
    assert scaled.error_truth.item() == pytest.approx(plain.error_truth.item())
    assert scaled.phase.item() == PHASES.index("hard")


def test_phase_diagram_names_bad_input():
    with pytest.raises(ValueError, match=r"prior_means=\[\]"):
        phase_diagram([], [0.1])
    with pytest.raises(ValueError, match=r"shape_ratio=-1"):
        phase_diagram([0.1], [0.1], [-1.0])
    with pytest.raises(ValueError, match=r"pattern=\[1\]"):
        phase_diagram([0.1], [0.1], pattern=[1])
    with pytest.raises(ValueError, match="variance=0"):
        phase_diagram([0.1], [0.1], variance=0)
