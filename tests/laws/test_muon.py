"""What orthogonalised updates must do, whatever the network: identities, ranges, invariances."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurofb.training import Muon, newton_schulz, polar_factor

A, B, C = 3.4445, -4.7750, 2.0315
WIDE = torch.float64


def scalar_map(x: np.ndarray, num_iterations: int = 5) -> np.ndarray:
    """Return what the iteration does to one singular value of a matrix of norm one."""
    for _ in range(num_iterations):
        x = A * x + B * x**3 + C * x**5
    return x


def orthogonal(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=WIDE))[0]


def with_values(values: list[float], rows: int, columns: int, seed: int = 0) -> Tensor:
    """Return a matrix with these singular values and random singular vectors."""
    middle = torch.zeros(rows, columns, dtype=WIDE)
    middle.diagonal()[: len(values)] = torch.tensor(values, dtype=WIDE)
    return orthogonal(rows, seed) @ middle @ orthogonal(columns, seed + 1)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = WIDE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectral_norm(x: Tensor) -> float:
    return float(torch.linalg.matrix_norm(x, 2))


def test_range_of_the_scalar_map():
    lifted = scalar_map(np.linspace(0.01, 1, 200_001))
    assert (lifted.min(), lifted.max()) == pytest.approx((0.6818, 1.1344), abs=5e-5)
    assert scalar_map(np.array([1e-3, 1e-4])) == pytest.approx([0.4705, 0.0485], abs=5e-5)
    everywhere = scalar_map(np.linspace(0, 1, 1_000_001))  # above 1.1344 only below 0.01
    assert (everywhere.min(), everywhere.max()) == pytest.approx((0, 1.20237), abs=1e-5)
    assert scalar_map(np.array([0.00107])) == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("shape", [(6, 6), (6, 9), (6, 30), (30, 6)])  # the last two by Gram
@pytest.mark.parametrize("num_iterations", [1, 3, 5, 8])
def test_acts_on_singular_values_alone(shape: tuple[int, int], num_iterations: int):
    values = [1.0, 0.5, 0.1, 0.01, 1e-3, 1e-4]
    g = with_values(values, *shape)
    result = newton_schulz(g, num_iterations=num_iterations, dtype=WIDE)
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    expected = scalar_map((s / s.norm()).numpy(), num_iterations)
    # the same vectors: a diagonal between them
    np.testing.assert_allclose(u.mT @ result @ vt.mT, np.diag(expected), atol=1e-11)


@pytest.mark.parametrize("shape", [(64, 64), (32, 200), (200, 32), (5, 16, 40)])
def test_single_precision_is_good_to_six_digits(shape: tuple[int, ...]):
    g = gaussian(*shape)
    exact = newton_schulz(g, dtype=WIDE)
    assert float((newton_schulz(g.float()) - exact).abs().max()) < 3e-6
    assert spectral_norm((newton_schulz(g.float()) - exact).reshape(-1, shape[-1])) < 3e-5
    half = newton_schulz(g.float(), dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert 1e-4 < float((half - exact).abs().max() / exact.abs().max()) < 0.06


@pytest.mark.parametrize("columns", [24, 96])
def test_scale_and_rotation_equivariance(columns: int):
    g = gaussian(24, columns, dtype=torch.float32)
    one, other = orthogonal(24, 3).float(), orthogonal(columns, 4).float()
    result = newton_schulz(g)
    for factor in (1e-4, 7.0, 1e10):
        torch.testing.assert_close(newton_schulz(factor * g), result, atol=2e-6, rtol=0)
    torch.testing.assert_close(newton_schulz(-g), -result, atol=0, rtol=0)
    torch.testing.assert_close(newton_schulz(g.mT), result.mT, atol=2e-6, rtol=0)
    rotated = newton_schulz(one @ g @ other)
    torch.testing.assert_close(rotated, one @ result @ other, atol=5e-6, rtol=0)
    torch.testing.assert_close(polar_factor(-3 * g), -polar_factor(g), atol=1e-5, rtol=0)


def test_rank_one_stays_rank_one():
    g = gaussian(20, 1) @ gaussian(1, 50, seed=1)
    values = torch.linalg.svdvals(newton_schulz(g, dtype=WIDE))
    assert float(values[0]) == pytest.approx(scalar_map(np.ones(1))[0], abs=1e-12)
    assert float(values[0]) == pytest.approx(0.70, abs=0.01)
    assert float(values[1]) < 1e-12
    polar = torch.linalg.svdvals(polar_factor(g))
    np.testing.assert_allclose(polar[:2], [1, 0], atol=1e-12)


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    rank=st.integers(0, 12),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_polar_factor(rows: int, columns: int, rank: int, seed: int):
    rank = min(rows, columns, rank)
    g = gaussian(rows, rank, seed=seed) @ gaussian(rank, columns, seed=seed + 1)
    polar = polar_factor(g)
    singular = torch.linalg.svdvals(g)
    if rank and float(singular[rank - 1] / singular[0]) < 1e-8:
        return
    np.testing.assert_allclose(torch.linalg.svdvals(polar)[:rank], 1, atol=1e-9)
    np.testing.assert_allclose(torch.linalg.svdvals(polar)[rank:], 0, atol=1e-9)
    nuclear = float(singular.sum())
    assert float((g * polar).sum()) == pytest.approx(nuclear, rel=1e-9, abs=1e-300)
    np.testing.assert_allclose(polar @ g.mT, (polar @ g.mT).mT, atol=1e-9)  # symmetric, as G = O P
    if rank:
        cosine = (g * polar).sum() / (g.norm() * polar.norm())
        assert float(cosine) == pytest.approx(nuclear / (float(g.norm()) * math.sqrt(rank)))


def test_raises_the_effective_rank():
    values = np.geomspace(1, 0.01, 32)
    g = with_values(values.tolist(), 64, 32)
    result, polar = newton_schulz(g, dtype=WIDE), polar_factor(g)

    def entropy_rank(x: Tensor) -> float:
        p = torch.linalg.svdvals(x)
        p = p / p.sum()
        return float(torch.exp(-(p * p.log()).sum()))

    def cosine(x: Tensor) -> float:
        return float((x * g).sum() / (x.norm() * g.norm()))

    ranks = [entropy_rank(x) for x in (g, result, polar)]
    p, lifted = values / values.sum(), scalar_map(values / np.linalg.norm(values))
    q = lifted / lifted.sum()
    expected = [*(float(np.exp(-(x * np.log(x)).sum())) for x in (p, q)), 32.0]
    assert ranks == pytest.approx(expected)
    assert ranks == pytest.approx([17.42, 31.50, 32], abs=0.01)
    norm = float(np.linalg.norm(values))
    assert cosine(polar) == pytest.approx(values.sum() / (norm * math.sqrt(32)))
    assert cosine(result) == pytest.approx(lifted @ values / (norm * np.linalg.norm(lifted)))


def test_zero_and_what_is_not_finite():
    zero = torch.zeros(3, 5)
    assert torch.equal(newton_schulz(zero), zero)
    assert torch.equal(polar_factor(zero), zero)
    assert torch.equal(polar_factor(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))
    bad = torch.ones(2, 3, 5)
    bad[0, 1, 1] = torch.inf
    for function in (newton_schulz, polar_factor):
        result = function(bad)
        assert bool(result[0].isnan().any())
        assert bool(result[1].isfinite().all())


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw", "spectral"])
@pytest.mark.parametrize("shape", [(20, 20), (10, 40), (40, 10), (12, 3, 3, 3)])
@pytest.mark.parametrize("exact", [False, True])
def test_a_step_is_bounded_in_spectral_norm(scale: str, shape: tuple[int, ...], exact: bool):
    rows, columns = shape[0], math.prod(shape[1:])
    sizes = {
        "original": max(1, rows / columns) ** 0.5,
        "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        "spectral": (rows / columns) ** 0.5,
    }
    weight = torch.nn.Parameter(gaussian(*shape))
    muon = Muon([weight], lr=0.1, scale=scale, exact=exact)
    for seed in range(4):
        before = weight.detach().clone()
        weight.grad = gaussian(*shape, seed=seed) * 10.0**seed
        muon.step()
        step = spectral_norm((weight.detach() - before).flatten(1)) / (0.1 * sizes[scale])
        assert (step == pytest.approx(1)) if exact else (0.7 < step <= 1.20238)


def test_root_mean_square_of_an_update():
    for rows, columns in ((16, 64), (64, 16)):
        weight = torch.nn.Parameter(torch.zeros(rows, columns, dtype=WIDE))
        weight.grad = gaussian(rows, columns)
        Muon([weight], lr=1.0, scale="match_rms_adamw", exact=True).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2)
        weight = torch.nn.Parameter(torch.zeros(rows, columns, dtype=WIDE))
        weight.grad = gaussian(rows, columns)
        Muon([weight], lr=1.0, exact=True).step()
        expected = math.sqrt(min(rows, columns) / (rows * columns) * max(1, rows / columns))
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(expected)


def test_the_polar_step_goes_downhill_as_fast_as_the_nuclear_norm():
    target, start = gaussian(8, 12), gaussian(8, 12, seed=1)
    weight = torch.nn.Parameter(start.clone())
    (weight * target).sum().backward()  # a linear loss: its gradient is `target`
    Muon([weight], lr=0.01, exact=True, momentum=0.0, nesterov=False).step()
    change = float(((weight.detach() - start) * target).sum())
    assert change == pytest.approx(-0.01 * float(torch.linalg.svdvals(target).sum()))
