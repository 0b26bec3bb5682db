"""A sweep of message passing, written once more in plain numpy with dense tensors."""

import warnings

import numpy as np
import pytest

from neurofb.tensors import (
    BernoulliGaussPrior,
    GaussianPrior,
    RademacherPrior,
    TensorAMP,
    TensorProblem,
)


def dense_product(tensor, factors, axis):
    """Contract with the dense Khatri-Rao tensor of the other factors, component by component."""
    columns = []
    for component in range(factors[0].shape[1]):
        part = np.moveaxis(tensor, axis, 0)
        for b in range(tensor.ndim - 1, -1, -1):
            if b != axis:
                part = part @ factors[b][:, component]
        columns.append(part)
    return np.stack(columns, axis=1)


def gaussian(precision, field, mean, covariance):
    posterior = np.linalg.inv(precision + np.linalg.inv(covariance))
    rows = (field + np.linalg.inv(covariance) @ mean) @ posterior
    return rows, np.broadcast_to(posterior, (len(field), *posterior.shape))


def on_grid(precision, field, values, weights):
    """Posterior of one component by a sum over values."""
    log_weight = np.log(weights) + field * values - precision[0, 0] * values**2 / 2
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ values
    return mean[:, None], (weight @ values**2 - mean**2)[:, None, None]


def reference_sweeps(tensor, factors, denoisers, noise_variance, num_sweeps, sequential, damping):
    """Equation (2) of the notes: X_a_old and what entered each update are kept by hand."""
    order, rank = tensor.ndim, factors[0].shape[1]
    size = np.prod(tensor.shape) ** (1 / order)
    factors = [f.copy() for f in factors]
    mean_covariance = [None] * order
    entered = [None] * order  # per axis: the estimates of all axes that entered its last update
    for _ in range(num_sweeps):
        frozen = ([f.copy() for f in factors], list(mean_covariance), list(entered))
        for a in range(order):
            now, spread, used = (
                ([f.copy() for f in factors], list(mean_covariance), list(entered))
                if sequential
                else frozen
            )
            precision = np.ones((rank, rank)) / noise_variance
            for b in range(order):
                if b != a:
                    precision *= now[b].T @ now[b] / size
            field = dense_product(tensor, now, a) / (noise_variance * size ** ((order - 1) / 2))
            for b in range(order):
                if b == a or spread[b] is None:
                    continue
                response = tensor.shape[b] / size * spread[b]
                for c in range(order):
                    if c not in (a, b):
                        response = response * (now[c].T @ used[b][c] / size)
                for i in range(len(field)):
                    for rho in range(rank):
                        for sigma in range(rank):
                            reaction = used[b][a][i, sigma] * response[rho, sigma]
                            field[i, rho] -= reaction / noise_variance
            mean, covariance = denoisers[a](precision, field)
            new_spread = covariance.mean(0)
            if damping and spread[a] is not None:
                mean = (1 - damping) * mean + damping * now[a]
                new_spread = (1 - damping) * new_spread + damping * spread[a]
            factors[a], mean_covariance[a], entered[a] = mean, new_spread, now
    return factors


GRID = np.linspace(-12, 12, 2401)
NORMAL = np.exp(-((GRID - 0.5) ** 2) / 2)
NORMAL *= 0.4 / NORMAL.sum()
SPARSE = (np.append(GRID, 0.0), np.append(NORMAL, 0.6))
CASES = {
    "order 3, rank 2": (
        (5, 6, 4),
        [
            GaussianPrior((0.5, -0.2), ((1.0, 0.3), (0.3, 0.8))),
            GaussianPrior((0.2, 0.6), (1.0, 2.0)),
            GaussianPrior(0.4, 1.5),
        ],
        [
            lambda A, B: gaussian(A, B, [0.5, -0.2], np.array([[1.0, 0.3], [0.3, 0.8]])),
            lambda A, B: gaussian(A, B, [0.2, 0.6], np.diag([1.0, 2.0])),
            lambda A, B: gaussian(A, B, [0.4, 0.4], 1.5 * np.eye(2)),
        ],
    ),
    "order 4, mixed priors": (
        (4, 3, 5, 3),
        [
            RademacherPrior(0.7),
            GaussianPrior(0.3),
            BernoulliGaussPrior(0.4, 0.5, 1.0),
            GaussianPrior(0.5, 0.7),
        ],
        [
            lambda A, B: on_grid(A, B, np.array([1.0, -1.0]), np.array([0.7, 0.3])),
            lambda A, B: gaussian(A, B, [0.3], np.eye(1)),
            lambda A, B: on_grid(A, B, *SPARSE),
            lambda A, B: gaussian(A, B, [0.5], 0.7 * np.eye(1)),
        ],
    ),
    "order 2": (
        (7, 5),
        [GaussianPrior(0.3), RademacherPrior(0.6)],
        [
            lambda A, B: gaussian(A, B, [0.3], np.eye(1)),
            lambda A, B: on_grid(A, B, np.array([1.0, -1.0]), np.array([0.6, 0.4])),
        ],
    ),
}


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("schedule", ["sequential", "parallel"])
@pytest.mark.parametrize("case", CASES)
def test_sweeps_are_those_of_the_equations(case, schedule, damping):
    shape, priors, denoisers = CASES[case]
    rank = 2 if "rank 2" in case else 1
    problem = TensorProblem(shape, priors, 0.3, rank)
    tensor = problem.sample(seed=1)[0].double()
    generator = np.random.default_rng(0)
    start = [0.5 + 0.3 * generator.standard_normal((n, rank)) for n in shape]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = TensorAMP(
            rank,
            priors=priors,
            noise_variance=0.3,
            schedule=schedule,
            damping=damping,
            settle_scales=False,
            max_sweeps=4,
            start=start,
        ).fit(tensor)
    sequential = schedule == "sequential"
    expected = reference_sweeps(tensor.numpy(), start, denoisers, 0.3, 4, sequential, damping)
    for ours, theirs in zip(found.factors_, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)
        assert np.abs(ours.numpy() - start[0].mean()).max() > 0.01
