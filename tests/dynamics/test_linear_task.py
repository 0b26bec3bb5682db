"""Sufficient statistics: equal to those of data, and distributed as those of data."""

import numpy as np
import pytest
import torch

from neurofb.dynamics import LinearTask, authors_protocol, random_task, task_from_data


def test_statistics_are_those_of_the_data():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=rng, dtype=torch.float64)
    y = torch.randn(30, 3, generator=rng, dtype=torch.float64)
    task = task_from_data(x, y)
    torch.testing.assert_close(task.output_input[0], y.mT @ x / 30)
    torch.testing.assert_close(task.output_covariance[0], y.mT @ y / 30)
    w = torch.randn(1, 3, 4, generator=rng, dtype=torch.float64)
    error = y - x @ w[0].mT
    torch.testing.assert_close(task.error_moment(w)[0], error.mT @ error / 30)
    torch.testing.assert_close(task.mean_squared_error(w)[0], error.square().mean())


def test_fewer_samples_than_inputs():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    y = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    task = task_from_data(x, y)
    torch.testing.assert_close(task.output_input[0], y.mT @ x / 3)
    assert task.mean_squared_error(task.teacher).item() == pytest.approx(0, abs=1e-20)


def test_modes():
    task = random_task(12, 8, 3, num_samples=50, seeds=(0, 1))
    u, s, v = task.modes()
    assert s.shape == (2, 3)
    assert (s.diff(dim=1) < 0).all()
    torch.testing.assert_close((u * s[:, None]) @ v.mT, task.output_input)


def test_start_of_the_authors_protocol():
    """Mean squared output about n d / m = 64."""
    task = random_task()
    loss = task.mean_squared_error(torch.zeros_like(task.teacher))
    assert loss.numpy() == pytest.approx(64, abs=3)


@pytest.mark.parametrize("num_samples", [3, 10])  # below and above the number of inputs
def test_covariance_is_distributed_as_that_of_samples(num_samples):
    """Mean I, variances of a Wishart matrix over N: 2/N on the diagonal and 1/N off it."""
    covariance = random_task(4, 1, 1, num_samples=num_samples, seeds=range(4000)).input_covariance
    mean, variance = covariance.mean(0).numpy(), covariance.var(0).numpy()
    np.testing.assert_allclose(mean, np.eye(4), atol=5 * (2 / num_samples / 4000) ** 0.5)
    expected = (np.ones((4, 4)) + np.eye(4)) / num_samples
    np.testing.assert_allclose(variance, expected, rtol=0.2)
    rank = torch.linalg.matrix_rank(covariance[0]).item()
    assert rank == min(4, num_samples)


def test_a_seed_is_the_same_among_others():
    both, alone = random_task(6, 5, 2, seeds=(1, 2)), random_task(6, 5, 2, seeds=(2,))
    assert torch.equal(both.teacher[1:], alone.teacher)
    assert torch.equal(both.input_covariance[1:], alone.input_covariance)
    assert not torch.equal(both.teacher[0], both.teacher[1])


def test_protocol():
    assert authors_protocol(2).rule == "LDFA normative"
    assert authors_protocol(2).weight_decay == 1e-5
    full = authors_protocol(64)
    assert (full.rank, full.learning_rate, full.feedback_rate) == (64, 4e-3, 1.3e-3)
    assert authors_protocol(4, rule="FA").rank is None
    for rank in (0, 65):
        with pytest.raises(ValueError, match=f"rank={rank} must be 1 to num_outputs=64"):
            authors_protocol(rank)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: random_task(num_modes=0), "num_modes=0 must be 1 to 64"),
        (lambda: random_task(5, 4, 5), "num_modes=5 must be 1 to 4"),
        (lambda: random_task(0, 4, 1), "num_inputs=0"),
        (lambda: random_task(num_samples=0), "num_samples=0"),
        (lambda: random_task(seeds=()), "at least one seed"),
        (lambda: random_task(seeds=(-1,)), r"seeds=\(-1,\)"),
        (lambda: random_task(6, 5, 2, seeds=(1, 1)), r"seeds=\(1, 1\) must be different"),
        (lambda: task_from_data(torch.ones(2, 1), torch.zeros(2, 1)), "zero modes"),
        (lambda: task_from_data(torch.ones(2, 1), torch.ones(3, 1)), "not 2 and 3"),
        (lambda: LinearTask(torch.ones(1, 2, 2), torch.ones(1, 3, 3), (0,)), "input_covariance"),
        (lambda: LinearTask(torch.ones(2, 2, 2), torch.ones(2, 2, 2), (0,)), "teacher of shape"),
        (lambda: LinearTask(torch.ones(1, 1, 1) / 0, torch.ones(1, 1, 1), (0,)), "finite"),
        (lambda: one_task(residual=torch.ones(1, 3, 3)), "residual of shape"),
        (lambda: one_task(residual=torch.ones(1, 2, 2) / 0), "residual must hold finite"),
        (lambda: one_task(torch.tensor([[[1.0, 1], [0, 1]]])), "symmetric"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_arrays_are_data_and_what_is_no_number_is_not():
    x = np.random.default_rng(0).standard_normal((5, 2))
    task = task_from_data(x, x[:, :1])
    np.testing.assert_allclose(task.teacher[0], [[1, 0]], atol=1e-12)
    assert torch.equal(
        task.teacher, task_from_data(torch.tensor(x), torch.tensor(x[:, :1])).teacher
    )
    gap = np.where(x == x[2], np.nan, x)
    for arguments, name in (((gap, x), "inputs"), ((x, gap), "targets")):
        with pytest.raises(ValueError, match=f"{name} of torch.float64 must hold finite"):
            task_from_data(*arguments)
    with pytest.raises(ValueError, match=r"inputs of torch.int64 must hold"):
        task_from_data(np.eye(2, dtype=int), x[:2])
    unchecked = getattr(random_task, "__wrapped__", random_task)  # without the tests' type checks
    with pytest.raises(ValueError, match=r"seeds=3 must be a list of seeds"):
        unchecked(seeds=3)


def one_task(covariance=torch.eye(2)[None], residual=None):
    return LinearTask(torch.ones(1, 2, 2), covariance, (0,), residual)
