"""Eigenvalues of a field's Jacobian, work around a loop, the rise of a loss."""

import math

import numpy as np
import pytest
import torch

from neurofb.measures import circulation, field_eigenvalues, largest_real_eigenvalue, loss_rise


def linear_field(p, seed=0):
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(p, p, generator=draw, dtype=torch.float64) / p**0.5
    return matrix, lambda x: matrix @ x


@pytest.mark.parametrize("derivative", ["autograd", "difference"])
def test_arnoldi_finds_what_all_eigenvalues_say(derivative, monkeypatch):
    matrix, field = linear_field(60)
    theta = torch.zeros(60, dtype=torch.float64)
    arguments = {"num_eigenvalues": 3, "derivative": derivative}
    whole = largest_real_eigenvalue(field, theta, **arguments)
    expected = sorted(np.linalg.eigvals(matrix.numpy()).real)[::-1][:3]
    np.testing.assert_allclose(whole.eigenvalue_real, expected, atol=1e-7)
    assert 0.5 < float(whole.complex_share) < 1
    monkeypatch.setattr(field_eigenvalues, "DENSE", 10)
    found = largest_real_eigenvalue(field, theta, **arguments)
    np.testing.assert_allclose(found.eigenvalue_real, whole.eigenvalue_real, atol=1e-6)
    assert np.isnan(found.complex_share)
    assert largest_real_eigenvalue(field, theta, **arguments).identical(found)


def test_eigenvalues_that_are_not_found_are_missing(monkeypatch):
    monkeypatch.setattr(field_eigenvalues, "DENSE", 10)
    _, field = linear_field(300)
    theta = torch.zeros(300, dtype=torch.float64)
    found = largest_real_eigenvalue(field, theta, num_eigenvalues=2, max_iterations=1)
    assert found.eigenvalue_real.shape == (2,)
    assert np.isnan(found.eigenvalue_real.values[-1])


def test_the_unstable_directions_of_a_strict_minimum_are_the_flipped_ones():
    draw = torch.Generator().manual_seed(3)
    root = torch.randn(12, 12, generator=draw, dtype=torch.float64)
    hessian = root @ root.T
    signs = torch.ones(12, dtype=torch.float64)
    signs[:5] = -1
    found = largest_real_eigenvalue(
        lambda x: -signs * (hessian @ x), torch.zeros(12).double(), num_eigenvalues=12
    )
    assert int((found.eigenvalue_real > 0).sum()) == 5
    assert float(found.complex_share) == 0


def test_circulation_is_that_of_stokes():
    matrix, field = linear_field(6)
    theta = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    curl = (matrix - matrix.T) / 2
    plane = torch.randn(6, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    u, w = torch.linalg.qr(plane).Q.T
    for radius in (0.5, 2):
        expected = 2 * math.pi * radius**2 * float(w @ curl @ u)
        assert abs(expected) > 0.01
        assert circulation(field, theta, radius, seed=7) == pytest.approx(expected, rel=1e-9)
    work = [circulation(field, theta, 1, seed=seed, num_points=8) for seed in range(2000)]
    mean_square = 4 * math.pi**2 * float(curl.square().sum()) / (6 * 5)
    assert np.mean(np.square(work)) == pytest.approx(mean_square, rel=0.1)


def test_a_gradient_does_no_work_around_a_loop():
    theta = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    quartic = lambda x: -4 * x.square().sum() * x  # noqa: E731  of L = |x|⁴
    assert abs(circulation(quartic, theta, 0.3, num_points=64)) < 1e-12


def test_the_rise_of_a_loss():
    losses = torch.tensor([[5.0, 1.0, 3.0, 2.0], [1.0, 2.0, float("nan"), float("nan")]])
    assert loss_rise(losses).tolist() == [3, 2]
    assert loss_rise(torch.tensor([4.0, 2.0, 1.0])) == 1
    assert loss_rise(torch.tensor([4.0, float("inf")])) == math.inf
    assert loss_rise([[4, 2, 3], [1, 2, 8]]).tolist() == [1.5, 8]
    assert loss_rise(losses.numpy()).tolist() == [3, 2]
    nan = float("nan")
    unknown = loss_rise([[nan, nan, nan], [nan, 2, 3], [2, nan, 3], [2, 3, nan]])
    np.testing.assert_array_equal(unknown, [nan, nan, nan, 1.5])


def test_what_is_refused():
    theta = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="radius=0 must be positive"):
        circulation(torch.sin, theta, 0)
    with pytest.raises(ValueError, match="num_points=2 must be at least 3"):
        circulation(torch.sin, theta, 1, num_points=2)
    with pytest.raises(ValueError, match="at least 2"):
        circulation(torch.sin, theta[:1], 1)
    with pytest.raises(ValueError, match="losses must be positive"):
        loss_rise(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="at least one step"):
        loss_rise(torch.ones(2, 0))
