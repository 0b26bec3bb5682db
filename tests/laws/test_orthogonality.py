"""Laws of retractions and of the local terms: known values, and gradients against autograd's."""

import math

import pytest
import torch
from torch import Tensor

from neurofb.training.local_losses import (
    cosine_term,
    frobenius_term,
    hoyer_term,
    orthogonality_term,
    subspace_term,
)
from neurofb.training.orthogonality import nearest_orthonormal, orthonormal_factor, tangent

RETRACTIONS = {"retract": orthonormal_factor, "polar": nearest_orthonormal}


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(gaussian(rows, columns, seed=seed)).Q


def autograd(value: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
def test_a_retraction_gives_orthonormal_columns_with_the_same_span(retract):
    a = gaussian(40, 7) * torch.linspace(0.1, 9, 7)
    u = retract(a)
    torch.testing.assert_close(u.T @ u, torch.eye(7, dtype=u.dtype), rtol=0, atol=1e-13)
    torch.testing.assert_close(u @ (u.T @ a), a)


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
@pytest.mark.parametrize("seed", range(5))
def test_what_is_orthonormal_stays(retract, seed: int):
    u = orthonormal(20, 6, seed)  # LAPACK's own Q has columns of either sign
    torch.testing.assert_close(retract(u), u, rtol=0, atol=1e-14)
    torch.testing.assert_close(retract(-u), -u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
def test_float32_is_held_to_rounding(retract):
    u = retract(gaussian(256, 128).float())
    assert (u.T @ u - torch.eye(128)).abs().max() < 1e-5


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
def test_half_precision_is_computed_in_single(retract):
    a = gaussian(20, 6).bfloat16()
    u = retract(a)
    assert u.dtype == torch.bfloat16
    assert torch.equal(u, retract(a.float()).bfloat16())


def test_polar_survives_a_decomposition_that_does_not_converge(monkeypatch):
    """LAPACK's in float32 failed on a 1536 x 768 factor one step away from orthonormal."""
    svd, calls = torch.linalg.svd, []

    def fails(matrix: Tensor, **named: bool) -> object:
        calls.append(matrix.dtype)
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("linalg.svd: The algorithm failed to converge")
        return svd(matrix, **named)

    a = gaussian(12, 4).float()
    expected = nearest_orthonormal(a)
    monkeypatch.setattr(torch.linalg, "svd", fails)
    torch.testing.assert_close(nearest_orthonormal(a), expected)
    assert calls == [torch.float32, torch.float64]


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
def test_both_retractions_agree_with_a_tangent_step_to_first_order(retract):
    u = orthonormal(12, 4)
    direction = tangent(gaussian(12, 4, seed=1), u)
    gaps = [(retract(u + t * direction) - (u + t * direction)).norm() for t in (1e-2, 1e-3)]
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.1)  # so the gap is of second order


def test_polar_is_the_nearest():
    a = gaussian(15, 4)
    nearest = (nearest_orthonormal(a) - a).norm()
    assert nearest < (orthonormal_factor(a) - a).norm()
    sigma = torch.linalg.svdvals(a)
    assert nearest == pytest.approx((sigma - 1).norm().item(), rel=1e-12)


@pytest.mark.parametrize("retract", RETRACTIONS.values(), ids=RETRACTIONS.keys())
def test_dependent_columns_are_completed_and_nan_does_not_raise(retract):
    u = retract(torch.zeros(6, 3, dtype=torch.float64))
    torch.testing.assert_close(u.T @ u, torch.eye(3, dtype=u.dtype))
    assert retract(torch.full((6, 3), math.nan)).isnan().any()
    with pytest.raises(ValueError, match=r"shape \(3, 6\).*no more columns"):
        retract(torch.zeros(3, 6))


def test_tangent_is_a_projection_and_its_part_of_sym_is_zero():
    u, g = orthonormal(12, 4), gaussian(12, 4, seed=2)
    once = tangent(g, u)
    torch.testing.assert_close(tangent(once, u), once)
    inner = u.T @ once
    torch.testing.assert_close(inner + inner.T, torch.zeros_like(inner), rtol=0, atol=1e-14)
    assert (once * (g - once)).sum().abs() < 1e-12  # orthogonal to what it takes away
    assert (g - once).norm() > 0.5


def test_orthogonality_term_of_known_matrices():
    q = orthonormal(10, 4)
    assert orthogonality_term(q)[0] < 1e-25
    assert orthogonality_term(2 * q)[0].item() == pytest.approx(4 * 9)
    u = gaussian(10, 4).requires_grad_()
    value = (u.T @ u - torch.eye(4)).square().sum()
    term, gradient = orthogonality_term(u)
    assert term.item() == pytest.approx(value.item())
    torch.testing.assert_close(gradient, autograd(value, u))
    torch.testing.assert_close(gradient, 4 * u @ (u.T @ u - torch.eye(4)))


def test_alignment_is_zero_where_equal_and_has_autograds_gradient():
    b = orthonormal(16, 5)
    assert frobenius_term(b, b)[0] == 0
    turned = b @ orthonormal(5, 5, seed=3)
    assert subspace_term(turned, b)[0].abs() < 1e-12
    assert frobenius_term(turned, b)[0] > 1
    for term, loss in (
        (frobenius_term, lambda u: (u - b).square().sum()),
        (subspace_term, lambda u: 5 - (u.T @ b).square().sum()),
    ):
        u = gaussian(16, 5, seed=4).requires_grad_()
        value = loss(u)
        torch.testing.assert_close(term(u, b)[0], value.detach())
        torch.testing.assert_close(term(u, b)[1], autograd(value, u))


@pytest.mark.parametrize(("rows", "r", "other"), [(64, 16, 16), (64, 16, 4), (64, 64, 64)])
def test_subspace_term_of_independent_spans(rows: int, r: int, other: int):
    values = [
        subspace_term(orthonormal(rows, r, s), orthonormal(rows, other, 1000 + s))[0].item()
        for s in range(100)
    ]
    expected = min(r, other) - r * other / rows
    assert sum(values) / 100 == pytest.approx(expected, abs=0.1)


def test_subspace_term_is_the_distance_of_projectors():
    u, b = orthonormal(20, 6), orthonormal(20, 6, seed=1)
    apart = (u @ u.T - b @ b.T).square().sum()
    torch.testing.assert_close(2 * subspace_term(u, b)[0], apart)


def test_hoyer_term_of_known_values():
    assert hoyer_term(torch.full((9,), -0.3))[0].item() == pytest.approx(3)
    assert hoyer_term(torch.tensor([0.0, 7.0, 0.0]))[0] == 1
    value, gradient = hoyer_term(torch.tensor([-0.3]))  # a layer of rank 1: constant
    assert value == 1
    assert not gradient.any()
    value, gradient = hoyer_term(torch.zeros(3))
    assert value == 0
    assert not gradient.any()
    s = gaussian(8).requires_grad_()
    torch.testing.assert_close(hoyer_term(s)[1], autograd(s.abs().sum() / s.norm(), s))
    assert (hoyer_term(s)[1] * s.detach()).sum().abs() < 1e-14


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 2, 2)])
def test_cosine_term_draws_activity_against_the_error(shape: tuple[int, ...]):
    a, delta = gaussian(*shape), gaussian(*shape, seed=1)
    assert cosine_term(-2 * delta, delta)[0].abs() < 1e-12
    assert cosine_term(delta, delta)[0].item() == pytest.approx(2)
    a.requires_grad_()
    value = 1 + torch.cosine_similarity(a.flatten(1), delta.flatten(1)).mean()
    term, gradient = cosine_term(a, delta)
    torch.testing.assert_close(term, value.detach())
    torch.testing.assert_close(gradient, autograd(value, a))
    down = a.detach() - 1e-3 * gradient
    assert (down * delta).sum() < (a * delta).sum()  # a step lowers the loss that δ belongs to


def test_a_sample_without_error_or_activity_moves_nothing():
    a, delta = gaussian(3, 4), gaussian(3, 4, seed=1)
    delta[0], a[1] = 0, 0
    _, gradient = cosine_term(a, delta)
    assert not gradient[:2].any()
    assert gradient[2].any()


def test_terms_name_what_does_not_fit():
    with pytest.raises(ValueError, match=r"target has shape \(4, 3\).*\(4, 2\)"):
        frobenius_term(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"target has 5 rows.*4"):
        subspace_term(torch.zeros(4, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"delta has shape"):
        cosine_term(torch.zeros(4, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"gradient has shape"):
        tangent(torch.zeros(4, 2), torch.zeros(5, 2))
