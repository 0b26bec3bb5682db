import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurofb.measures import effective_rank
from neurofb.measures.effective_rank import spectrum_rank

KINDS = ("entropy", "participation", "stable")
every_kind = pytest.mark.parametrize("kind", KINDS)


def with_spectrum(s: list[float], rows: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(n: int) -> torch.Tensor:
        q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
        return q[:, : len(s)]

    return orthonormal(rows) * torch.tensor(s, dtype=torch.float64) @ orthonormal(6).T


@every_kind
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_equal_singular_values_count(kind, rank):
    assert effective_rank(with_spectrum([0.3] * rank), kind) == pytest.approx(rank, abs=1e-6)


def test_known_values():
    x = with_spectrum([4.0, 2.0, 1.0, 1.0])
    # p = 1/2, 1/4, 1/8, 1/8: entropy 1.75 bit
    assert effective_rank(x, "entropy") == pytest.approx(2**1.75)
    assert effective_rank(x, "participation") == pytest.approx(22**2 / (256 + 16 + 2))
    assert effective_rank(x, "stable") == pytest.approx(22 / 16)


def test_participation_is_that_of_the_covariance_of_centred_rows():
    x = np.random.default_rng(0).normal(size=(50, 6)) * [3, 2, 1, 1, 0.5, 0.1]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    centred = torch.from_numpy(x - x.mean(0))
    assert effective_rank(centred, "participation") == pytest.approx(expected)


@given(
    s=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    scale=st.floats(1e-12, 1e12),
    seed=st.integers(0, 100),
)
def test_laws_of_any_spectrum(s, scale, seed):
    for kind in KINDS:
        x = with_spectrum(s, seed=seed)
        value = effective_rank(x, kind)
        assert 1 - 1e-9 <= value <= len(s) + 1e-6
        assert effective_rank(scale * x, kind) == pytest.approx(value, rel=1e-6)
        assert effective_rank(x.T, kind) == pytest.approx(value, rel=1e-9)
        turned = effective_rank(with_spectrum(s, seed=seed + 1), kind)
        assert turned == pytest.approx(value, rel=1e-6)
    x = with_spectrum(s, seed=seed)
    assert effective_rank(x, "stable") <= effective_rank(x, "participation") + 1e-9


@every_kind
def test_zero_matrix_has_rank_zero(kind):
    assert effective_rank(torch.zeros(4, 3), kind) == 0.0
    assert spectrum_rank(torch.zeros(2), kind) == 0.0


@every_kind
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_squares_neither_vanish_nor_overflow(kind, scale):
    x = torch.diag(torch.tensor([1.0, 1.0, 0.0])) * scale
    assert effective_rank(x, kind) == pytest.approx(2)


def test_single_precision_is_not_summed_in_single_precision():
    x = torch.ones(3, 1) @ torch.ones(1, 400_000)
    assert effective_rank(x, "stable") == pytest.approx(1, abs=1e-12)


def test_leading_dims_are_rows_and_gradients_are_ignored():
    x = torch.randn(2, 3, 4, requires_grad=True)
    assert effective_rank(x) == effective_rank(x.reshape(6, 4))
    assert math.isfinite(effective_rank(torch.ones(4)))


def test_what_is_refused():
    unchecked = getattr(effective_rank, "__wrapped__", effective_rank)
    with pytest.raises(ValueError, match="kind='nuclear' must be one of entropy, participation"):
        getattr(spectrum_rank, "__wrapped__", spectrum_rank)(torch.ones(2), "nuclear")
    with pytest.raises(ValueError, match="NaN or infinity"):
        unchecked(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match=r"shape \(0, 3\) is empty"):
        unchecked(torch.zeros(0, 3))
