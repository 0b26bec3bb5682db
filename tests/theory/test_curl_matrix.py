"""The reduced matrix against the full Jacobian of the flow."""

import inspect

import numpy as np
import pytest

from neurofb.theory import linearised_eigenvalues, reduced_matrix


def network(num_inputs: int, num_hidden: int, num_outputs: int, seed: int = 0) -> tuple:
    generator = np.random.default_rng(seed)
    w1 = generator.normal(size=(num_hidden, num_inputs))
    w2 = generator.normal(size=(num_outputs, num_hidden))
    d1, d2 = generator.choice([-1.0, 1.0], num_inputs), generator.choice([-1.0, 1.0], num_hidden)
    d1[0] = d2[0] = -1
    root = generator.normal(size=(num_inputs, num_inputs + 2))
    return w1, w2, d1, d2, root @ root.T / num_inputs


def full_jacobian(w1, w2, d1, d2, sigma) -> np.ndarray:
    """Return the Jacobian of the flow of (W1, W2) at zero error, entry by entry."""
    columns = []
    for i in range(w1.size + w2.size):
        unit = np.zeros(w1.size + w2.size)
        unit[i] = 1.0
        t1 = unit[: w1.size].reshape(w1.shape)
        t2 = unit[w1.size :].reshape(w2.shape)
        error = (t2 @ w1 + w2 @ t1) @ sigma
        columns.append(np.concatenate([(-w2.T @ error * d1).ravel(), (-error @ w1.T * d2).ravel()]))
    return np.array(columns).T


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_eigenvalues_of_the_full_jacobian(num_outputs: int):
    w1, w2, d1, d2, sigma = network(4, 7, num_outputs)
    full = np.linalg.eigvals(full_jacobian(w1, w2, d1, d2, sigma))
    assert np.abs(full.imag).max() < 1e-6  # zeros of multiplicity carry √ε
    reduced = linearised_eigenvalues(w1, w2, d1, d2, input_covariance=sigma)
    largest = np.sort(full.real[np.argsort(-np.abs(full))[: 4 * num_outputs]])[::-1]
    np.testing.assert_allclose(reduced, largest, rtol=1e-9, atol=1e-9)


def test_union_over_outputs_is_exact():
    """The flow of the error as one matrix on (output × input), against its blocks."""
    w1, w2, d1, d2, _ = network(5, 9, 3)
    shared, gram = w1.T @ np.diag(d2) @ w1, w2 @ w2.T
    flow = -(np.kron(np.eye(3), shared) + np.kron(gram, np.diag(d1)))
    expected = np.sort(np.linalg.eigvalsh(flow))[::-1]
    np.testing.assert_allclose(linearised_eigenvalues(w1, w2, d1, d2), expected, atol=2e-13)


def test_one_output_as_a_vector_or_a_matrix():
    w1, w2, d1, d2, _ = network(4, 6, 1)
    one = reduced_matrix(w1, w2[0], d1, d2)
    np.testing.assert_allclose(one, (w2 @ w2.T) * np.diag(d1) + w1.T @ np.diag(d2) @ w1)
    np.testing.assert_allclose(reduced_matrix(w1, w2, d1, d2)[0], one)


@pytest.mark.parametrize("seed", range(8))
def test_covariance_changes_no_sign(seed: int):
    """Sylvester: as many unstable directions with Σ as without."""
    w1, w2, d1, d2, sigma = network(6, 8, 1, seed)
    plain = linearised_eigenvalues(w1, w2, d1, d2)
    shaped = linearised_eigenvalues(w1, w2, d1, d2, input_covariance=sigma)
    assert (plain > 0).sum() == (shaped > 0).sum()
    assert not np.allclose(plain, shaped)


def test_no_flips_are_stable():
    w1, w2, _, _, _ = network(6, 3, 1)
    values = linearised_eigenvalues(w1, w2, np.ones(6), np.ones(3))
    assert values[0] == pytest.approx(-(w2 @ w2.T)[0, 0])  # more inputs than hidden neurons


def test_bad_input():
    w1, w2, d1, d2, sigma = network(4, 6, 2)
    with pytest.raises(ValueError, match="d1 has 6 entries and must have 4"):
        inspect.unwrap(reduced_matrix)(w1, w2, d2, d2)
    with pytest.raises(ValueError, match="d2 has 4 entries and must have 6"):
        inspect.unwrap(reduced_matrix)(w1, w2, d1, d1)
    with pytest.raises(ValueError, match=r"w2 of shape \(2, 5\) must be"):
        inspect.unwrap(reduced_matrix)(w1, w2[:, :5], d1, d2)
    with pytest.raises(ValueError, match="w1 must hold finite numbers"):
        linearised_eigenvalues(w1 * np.nan, w2, d1, d2)
    with pytest.raises(ValueError, match="must be symmetric"):
        linearised_eigenvalues(w1, w2, d1, d2, input_covariance=np.triu(sigma))
    with pytest.raises(ValueError, match="must be positive definite"):
        linearised_eigenvalues(w1, w2, d1, d2, input_covariance=-sigma)
