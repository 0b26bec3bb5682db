"""Critical fractions and the edge of the spectrum against their table, limits and random draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neurofb.theory import (
    critical_hidden_fraction,
    critical_readout_fraction,
    largest_eigenvalue,
    largest_eigenvalue_many_outputs,
    linearised_eigenvalues,
    reduced_matrix,
)

RATIOS = np.array([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 2 / 3, 1, 2, 5, 10])
HIDDEN = [1, 1, 1, 0.5585, 0.1772, 0.0467, 0.0054, 0, 0, 0, 0, 0]
READOUT = [0.2446, 0.1775, 0.1562, 0.1395, 0.1147, 0.0973, 0.0844, 0.0776, 0.0551, 0.0293]
READOUT += [0.0122, 0.0062]


def test_table_of_critical_fractions():
    np.testing.assert_allclose(critical_hidden_fraction(RATIOS), HIDDEN, atol=6e-5)
    np.testing.assert_allclose(critical_readout_fraction(RATIOS), READOUT, atol=6e-5)


def test_against_the_stored_arrays_of_the_authors():
    """Values read off their phase diagrams, with the step of their grid as tolerance."""
    hidden = critical_hidden_fraction(np.array([0.254, 0.3199, 0.4029, 0.5075]))
    np.testing.assert_allclose(hidden, [0.954, 0.446, 0.172, 0.042], atol=2e-3)
    readout = critical_readout_fraction(np.array([0.001, 0.1009, 0.5075, 1.0139]))
    np.testing.assert_allclose(readout, [0.4689, 0.2444, 0.0964, 0.0548], atol=1e-3)


def test_where_the_hidden_fraction_leaves_its_ends():
    below, above = critical_hidden_fraction(np.array([0.25, 0.2501]))
    assert below == 1
    assert 0.99 < above < 1
    below, above = critical_hidden_fraction(np.array([0.6666, 2 / 3]))
    assert 0 < below < 1e-6
    assert above == 0


def test_limits_of_the_readout_fraction():
    small, large = np.array([1e-8]), np.array([1e4])
    np.testing.assert_allclose(critical_readout_fraction(small), 0.5 - 1e-4, atol=1e-7)
    np.testing.assert_allclose(critical_readout_fraction(large), 1 / (16 * large), rtol=1e-3)


@pytest.mark.parametrize("weight_ratio", [0.3, 1.0, 4.0])
def test_the_edge_is_zero_at_the_critical_fractions(weight_ratio: float):
    """Two derivations of one line: the closed maximum, and the zero of the edge."""
    ratio = np.geomspace(0.05, 5, 23)
    scales = {"hidden_variance": weight_ratio}
    hidden = critical_hidden_fraction(ratio, weight_ratio=weight_ratio)
    inside = (hidden > 0) & (hidden < 1)
    assert inside.sum() >= 2
    edge = largest_eigenvalue(ratio[inside], hidden[inside], **scales)
    np.testing.assert_allclose(edge, 0, atol=1e-7)
    readout = critical_readout_fraction(ratio, weight_ratio=weight_ratio)
    inside = (readout > 0) & (readout < 1)
    assert inside.sum() >= 2
    edge = largest_eigenvalue(ratio[inside], 0.0, readout[inside], **scales)
    np.testing.assert_allclose(edge, 0, atol=1e-7)


@pytest.mark.parametrize(
    ("ratio", "hidden", "readout", "expected"),
    [
        (0.3, 0.3, 0.0, -0.2841),
        (0.3, 0.8, 0.0, 0.1908),
        (0.2, 1.0, 0.0, -0.5279),
        (1.0, 0.3, 0.0, 0.8450),
        (0.1, 0.0, 0.4, 3.4303),
        (0.3, 0.3, 0.1, 0.7570),
        (0.4, 0.17, 0.0, -0.012),
        (0.1, 0.0, 0.1, -3.279),
        (0.1, 0.0, 0.24, -0.104),
        (1.0, 0.0, 0.05, -0.028),
        (4.0, 0.0, 0.1, 0.220),
        (0.1, 0.3, 0.1, -2.322),
        (0.2, 0.0, 0.15, -0.349),
    ],
)
def test_known_edges(ratio: float, hidden: float, readout: float, expected: float):
    digits = len(str(expected).split(".")[1])
    assert float(largest_eigenvalue(ratio, hidden, readout)) == pytest.approx(
        expected, abs=0.6 * 10.0**-digits
    )


def test_a_surplus_of_flipped_inputs_is_exactly_one():
    assert largest_eigenvalue(10.0, 0.3) == 1
    assert largest_eigenvalue(10.0, 0.3, readout_norm=2.5) == 2.5


@pytest.mark.parametrize(("s1", "s"), [(1.0, 1.0), (2.0, 0.7)])
@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_edges_of_marchenko_and_pastur(ratio: float, s1: float, s: float):
    """Nothing flipped, all inputs, all hidden neurons: shifted edges of W1ᵀ W1."""
    low, high = (s1 * (1 + sign / np.sqrt(ratio)) ** 2 for sign in (-1, 1))
    scales = {"hidden_variance": s1, "readout_norm": s}
    edge = [largest_eigenvalue(ratio, *flips, **scales) for flips in ((0, 0), (1, 0), (0, 1))]
    np.testing.assert_allclose(edge, [-s - low, s - low, high - s], rtol=1e-9)


def test_strength_goes_from_no_flip_to_a_flip():
    strength = np.linspace(0, 1, 9)
    edge = largest_eigenvalue(0.3, 0.4, 0.1, strength=strength)
    assert np.all(np.diff(edge) > 0)
    assert edge[0] == pytest.approx(float(largest_eigenvalue(0.3)), rel=1e-12)
    assert edge[-1] == largest_eigenvalue(0.3, 0.4, 0.1)
    assert largest_eigenvalue(0.3, 0.0, 1.0, strength=0.5) == -1  # a frozen readout: X = s


def weights(num_inputs: int, num_hidden: int, seed: int, num_outputs: int = 1) -> tuple[Any, Any]:
    """Draw weights of s1 = 1 and s = 1 per output."""
    generator = np.random.default_rng(seed)
    w1 = generator.normal(size=(num_hidden, num_inputs)) / np.sqrt(num_inputs)
    w2 = generator.normal(size=(num_outputs, num_hidden))
    if num_outputs == 1:
        return w1, w2[0] / np.linalg.norm(w2)
    return w1, w2 / np.sqrt(num_hidden)


def signs(num: int, fraction: float, flipped: float = -1.0) -> np.ndarray:
    """Return the diagonal of D with the first neurons flipped."""
    return np.where(np.arange(num) < round(fraction * num), flipped, 1.0)


@pytest.mark.parametrize(
    ("ratio", "hidden", "readout", "strength"),
    [
        (0.3, 0.3, 0.0, 1.0),
        (0.3, 0.8, 0.0, 1.0),
        (0.2, 1.0, 0.0, 1.0),
        (1.0, 0.3, 0.0, 1.0),
        (10.0, 0.3, 0.0, 1.0),
        (0.1, 0.0, 0.4, 1.0),
        (0.3, 0.3, 0.1, 1.0),
        (0.1, 0.3, 0.1, 1.0),
        (1.0, 0.3, 0.1, 0.8),
        (1.0, 0.3, 0.4, 0.3),
    ],
)
def test_random_draws_lie_a_little_below_the_edge(
    ratio: float, hidden: float, readout: float, strength: float
):
    num_inputs = 300
    num_hidden = round(num_inputs / ratio)
    w1, w2 = weights(num_inputs, num_hidden, seed=1)
    flipped = 1 - 2 * strength
    d1, d2 = signs(num_inputs, hidden, flipped), signs(num_hidden, readout, flipped)
    simulated = linearised_eigenvalues(w1, w2, d1, d2)
    theory = float(largest_eigenvalue(ratio, hidden, readout, strength=strength))
    width = simulated[0] - simulated[-1]
    assert -0.03 * width < simulated[0] - theory < 0.01 * width


def test_sign_of_the_edge_decides_in_draws_far_from_the_line():
    for hidden, unstable in ((0.3, False), (0.9, True)):
        w1, w2 = weights(200, 667, seed=2)
        matrix = reduced_matrix(w1, w2, signs(200, hidden), np.ones(667))
        assert (np.linalg.eigvalsh(matrix)[0] < 0) == unstable
        assert (largest_eigenvalue(0.3, hidden) > 0) == unstable


def test_many_outputs():
    assert round(float(largest_eigenvalue_many_outputs(0.2, 0.25, 0.5)), 3) == 0.107
    assert round(float(largest_eigenvalue_many_outputs(0.2, 0.25, 0.0, 0.15)), 3) == 0.401
    few = largest_eigenvalue_many_outputs(0.3, 1e-12, 0.3, 0.1)
    np.testing.assert_allclose(few, largest_eigenvalue(0.3, 0.3, 0.1), atol=1e-5)
    # a draw lies a little below, of the largest sₖ for hidden flips, of the smallest for readout
    w1, w2 = weights(300, 1500, seed=0, num_outputs=375)
    s = np.linalg.eigvalsh(w2 @ w2.T)
    hidden = s[-1] * np.diag(signs(300, 0.5)) + w1.T @ w1
    assert 0.107 - 0.1 < -np.linalg.eigvalsh(hidden)[0] < 0.107 + 0.02
    readout = s[0] * np.eye(300) + w1.T @ (signs(1500, 0.15)[:, None] * w1)
    assert 0.401 - 0.15 < -np.linalg.eigvalsh(readout)[0] < 0.401 + 0.03


def test_numbers_give_numbers():
    assert critical_hidden_fraction(0.3) == pytest.approx(0.5585, abs=1e-4)
    assert critical_hidden_fraction(np.float64(0.3)) == critical_hidden_fraction(0.3)
    assert critical_readout_fraction(1) == pytest.approx(0.0551, abs=1e-4)
    assert largest_eigenvalue(0.3, 0.3, 0).shape == ()


def test_arrays_are_broadcast():
    edge = largest_eigenvalue(np.array([[0.2], [1.0]]), np.array([0.0, 0.3, 1.0]))
    assert edge.shape == (2, 3)
    assert edge[1, 1] == largest_eigenvalue(1.0, 0.3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (critical_hidden_fraction, (0.0,), "ratio=0.0 must be positive and finite"),
        (critical_readout_fraction, (-1.0,), "ratio=-1.0 must be positive and finite"),
        (critical_hidden_fraction, (np.nan,), "ratio=nan must be positive and finite"),
        (largest_eigenvalue, (0.3, 1.5), "hidden_flips=1.5 must be between 0 and 1"),
        (largest_eigenvalue, (0.3, 0.0, -0.1), "readout_flips=-0.1 must be between 0 and 1"),
        (largest_eigenvalue, (0.3, np.nan), "hidden_flips=nan must be between 0 and 1"),
        (largest_eigenvalue_many_outputs, (0.3, 1.0), "output_ratio=1.0 must be below 1"),
    ],
)
def test_bad_input(function: Callable[..., Any], arguments: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_bad_scales():
    with pytest.raises(ValueError, match="strength=2 must be between 0 and 1"):
        largest_eigenvalue(0.3, strength=2)
    with pytest.raises(ValueError, match="readout_norm=0 must be positive and finite"):
        largest_eigenvalue(0.3, readout_norm=0)
