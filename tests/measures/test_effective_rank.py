import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurofb.measures import effective_rank
from neurofb.measures.effective_rank import spectrum_rank

KINDS = ("entropy", "entropy2", "participation", "stable", "numerical")
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
    assert float(effective_rank(with_spectrum([0.3] * rank), kind)) == pytest.approx(rank, abs=1e-6)


def test_participation_is_that_of_the_covariance_of_centred_rows():
    x = np.random.default_rng(0).normal(size=(50, 6)) * [3, 2, 1, 1, 0.5, 0.1] + 5
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    rank = effective_rank(x, "participation", center=True)
    assert float(rank) == pytest.approx(expected)
    assert float(effective_rank(x, "participation")) == pytest.approx(1, abs=0.5)


@given(
    s=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    scale=st.floats(1e-12, 1e12),
    seed=st.integers(0, 100),
)
def test_laws_of_any_spectrum(s, scale, seed):
    x = with_spectrum(s, seed=seed)
    wider = torch.nn.functional.pad(x, (1, 2, 0, 3))
    turned = with_spectrum(s, seed=seed + 1)
    for kind in KINDS:
        value = float(effective_rank(x, kind))
        assert 1 - 1e-9 <= value <= len(s) + 1e-6
        for same in (scale * x, -x, x.T, wider, turned):
            assert float(effective_rank(same, kind)) == pytest.approx(value, rel=1e-6)


@every_kind
def test_by_hand_from_the_singular_values_of_numpy(kind):
    x = np.random.default_rng(1).normal(size=(4, 7, 5)) * [4, 2, 1, 1, 0.1]
    expected = []
    for matrix in x:
        s = np.linalg.svd(matrix, compute_uv=False)
        power = s**2
        p = (s if kind == "entropy" else power) / (s if kind == "entropy" else power).sum()
        expected.append(
            {
                "participation": power.sum() ** 2 / (power**2).sum(),
                "stable": power.sum() / power.max(),
                "numerical": np.linalg.matrix_rank(matrix),
            }.get(kind, np.exp(-(p * np.log(p)).sum()))
        )
    np.testing.assert_allclose(effective_rank(x, kind), expected, rtol=1e-12)


@every_kind
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 4, 3), (5,)])
def test_zeros_have_rank_zero(kind, shape):
    rank = effective_rank(torch.zeros(shape), kind, center=True, row_normalise=True)
    assert torch.equal(rank, torch.zeros(shape[:-2], dtype=torch.float64))
    assert not spectrum_rank(torch.zeros(2), kind).any()


@every_kind
def test_a_zero_matrix_does_not_disturb_the_others_of_its_batch(kind):
    x = torch.stack(
        [torch.eye(3), torch.zeros(3, 3), 1e30 * torch.ones(3, 3), 1e-30 * torch.eye(3)]
    )
    assert effective_rank(x, kind).tolist() == pytest.approx([3, 0, 1, 3])


@every_kind
@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("row_normalise", [False, True])
def test_float32_squares_neither_vanish_nor_overflow(kind, scale, row_normalise):
    x = torch.diag(torch.tensor([1.0, 1.0, 0.0])) * scale
    assert float(effective_rank(x, kind, row_normalise=row_normalise)) == pytest.approx(2)


def test_extreme_float64_is_no_matter():
    x = torch.eye(3, dtype=torch.float64) * 1e300
    for kind in KINDS:
        assert float(effective_rank(x, kind)) == pytest.approx(3)
        assert float(effective_rank(x / 1e300 * 1e-300, kind, row_normalise=True)) == pytest.approx(
            3
        )


def test_single_precision_is_not_summed_in_single_precision():
    x = torch.ones(3, 1) @ torch.ones(1, 400_000)
    assert float(effective_rank(x, "stable")) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(20_000, 70), (70, 20_000), (300, 200), (2, 90, 130)])
def test_participation_of_single_precision_is_good_to_six_digits(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 1e-3
    expected = spectrum_rank(torch.linalg.svdvals(x.double()), "participation")
    rank = effective_rank(x, "participation")
    torch.testing.assert_close(rank, expected, rtol=1e-6, atol=0)
    exact = effective_rank(x.double(), "participation")
    torch.testing.assert_close(exact, expected, rtol=1e-12, atol=0)
    assert rank.dtype == torch.float64


def test_less_precise_products_allowed_by_the_user_are_not_taken():
    x = torch.rand(300, 200, generator=torch.Generator().manual_seed(0))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rank = effective_rank(x, "participation")
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(
        rank, effective_rank(x.double(), "participation"), rtol=1e-12, atol=0
    )


@every_kind
def test_leading_dims_are_a_batch_and_gradients_are_ignored(kind):
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    rank = effective_rank(x, kind, center=True, row_normalise=True)
    assert not rank.requires_grad
    one_by_one = [
        float(effective_rank(m, kind, center=True, row_normalise=True)) for m in x.reshape(6, 5, 4)
    ]
    assert rank.shape == (2, 3)
    assert rank.flatten().tolist() == pytest.approx(one_by_one)
    assert effective_rank(torch.ones(4), kind).shape == ()
    assert effective_rank(torch.ones(0, 4, 3), kind).shape == (0,)


@every_kind
def test_numpy_in_numpy_out(kind):
    x = np.random.default_rng(0).normal(size=(3, 6, 4))[:, ::-1]
    x.setflags(write=False)
    rank = effective_rank(x, kind)
    assert isinstance(rank, np.ndarray)
    assert rank.dtype == np.float64
    np.testing.assert_array_equal(rank, effective_rank(torch.from_numpy(x.copy()), kind).numpy())
    single = effective_rank(x[0], kind)
    assert isinstance(single, np.ndarray)
    assert single.shape == ()


def test_rounding_of_its_own_precision_is_not_counted():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(512, 10, generator=generator)
    error = torch.softmax(logits, 1) - torch.eye(10)[torch.arange(512) % 10]
    assert float(effective_rank(error, "numerical")) == 9
    assert float(effective_rank(error.double(), "numerical")) == 10  # that rounding is in it
    half = torch.eye(4, dtype=torch.bfloat16)
    assert float(effective_rank(half, "numerical")) == 4


def test_every_row_counts_the_same_if_normalised():
    x = torch.diag(torch.tensor([100.0, 1.0, 0.01]))
    assert float(effective_rank(x, "participation")) == pytest.approx(1, abs=1e-3)
    assert float(effective_rank(x, "participation", row_normalise=True)) == pytest.approx(3)


def test_what_is_refused():
    unchecked = getattr(effective_rank, "__wrapped__", effective_rank)
    match = "kind='nuclear' must be one of entropy, entropy2, participation"
    with pytest.raises(ValueError, match=match):
        getattr(spectrum_rank, "__wrapped__", spectrum_rank)(torch.ones(2), "nuclear")
    with pytest.raises(ValueError, match=match):
        unchecked(torch.ones(2), "nuclear")
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            unchecked(torch.tensor([[bad]]))
    for shape in ((0, 3), (3, 0), ()):
        with pytest.raises(ValueError, match="must have at least one row and one column"):
            unchecked(torch.zeros(shape))
    for bad in (torch.eye(3, dtype=torch.int64), np.eye(3, dtype=bool), torch.ones(2) * 1j):
        with pytest.raises(ValueError, match=r"x of [\w.]+ must hold real floating-point"):
            unchecked(bad)
