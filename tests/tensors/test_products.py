"""Products of a tensor with all factors but one, against einsum, and how they are shared."""

from string import ascii_lowercase

import numpy as np
import pytest
import torch

from neurofb.tensors import SharedProducts, mttkrp
from neurofb.tensors.products import contract, outer_sum

SHAPES = [(4, 5, 6), (3, 4, 5, 6), (5, 7), (2, 3, 4, 3, 2), (1, 4, 3)]


def drawn(shape, rank, seed=0):
    generator = np.random.default_rng(seed)
    tensor = torch.from_numpy(generator.standard_normal(shape))
    return tensor, [torch.from_numpy(generator.standard_normal((n, rank))) for n in shape]


def by_einsum(tensor, factors, axis):
    letters = ascii_lowercase[: tensor.ndim]
    others = [b for b in range(tensor.ndim) if b != axis]
    inputs = ",".join([letters, *(letters[b] + "z" for b in others)])
    return torch.einsum(f"{inputs}->{letters[axis]}z", tensor, *(factors[b] for b in others))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_that_of_einsum(shape, rank):
    tensor, factors = drawn(shape, rank)
    for axis in range(len(shape)):
        torch.testing.assert_close(
            mttkrp(tensor, factors, axis), by_einsum(tensor, factors, axis), rtol=1e-12, atol=1e-12
        )
    torch.testing.assert_close(mttkrp(tensor, factors, -1), mttkrp(tensor, factors, len(shape) - 1))


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_shared_products_are_exact_whatever_is_updated_when(shape, rank):
    tensor, factors = drawn(shape, rank)
    products = SharedProducts(tensor)
    generator = np.random.default_rng(1)
    for axis in [*range(len(shape)), *range(len(shape)), *generator.integers(len(shape), size=12)]:
        found = products(factors, int(axis))
        torch.testing.assert_close(found, by_einsum(tensor, factors, axis), rtol=1e-12, atol=1e-12)
        factors[axis] = 1 + found / found.abs().max()


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_passes_over_the_tensor(shape):
    """Axes in turn: p passes in p - 1 sweeps. Axes at once: 2 a sweep."""
    tensor, factors = drawn(shape, 2)
    order = len(shape)
    in_turn, at_once = SharedProducts(tensor), SharedProducts(tensor)
    for _ in range(order - 1):
        for axis in range(order):
            factors[axis] = in_turn(factors, axis) * 1.0
    for _ in range(3):
        factors = [at_once(factors, axis) for axis in range(order)]
    assert (in_turn.num_passes, at_once.num_passes) == (order, 6)


def test_the_tensor_is_neither_copied_nor_changed():
    tensor, factors = drawn((4, 5, 6), 2)
    before = tensor.clone()
    products = SharedProducts(tensor)
    products(factors, 1)
    assert products.tensor.data_ptr() == tensor.data_ptr()
    assert torch.equal(tensor, before)
    transposed = tensor.permute(2, 0, 1)  # not contiguous: copied once
    moved = [factors[2], factors[0], factors[1]]
    torch.testing.assert_close(mttkrp(transposed, moved, 0), mttkrp(tensor, factors, 2))


def test_contraction_of_each_axis():
    tensor, factors = drawn((3, 4, 5, 2), 2)
    for axis, factor in enumerate(factors):
        expected = torch.tensordot(factor.T, tensor, dims=([1], [axis]))
        torch.testing.assert_close(contract(tensor, factor, axis), expected)


def test_sum_of_outer_products():
    _, factors = drawn((3, 4, 5), 2)
    expected = torch.einsum("ar,br,cr->abc", *factors)
    torch.testing.assert_close(outer_sum(factors), expected)
    into = torch.ones(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(outer_sum(factors, scale=0.5, into=into), 1 + expected / 2)


@pytest.mark.parametrize(
    ("shape", "sides", "axis", "message"),
    [
        ((3, 4, 5), (3, 4, 6), 0, r"do not fit a tensor \(3, 4, 5\)"),
        ((3, 4, 5), (3, 4), 0, r"do not fit a tensor \(3, 4, 5\)"),
        ((3, 4, 5), (3, 4, 5), 3, "axis=3 of a tensor of order 3"),
        ((3,), (3,), 0, "axis=0 of a tensor of order 1"),
    ],
)
def test_factors_that_do_not_fit_are_named(shape, sides, axis, message):
    with pytest.raises(ValueError, match=message):
        mttkrp(torch.ones(shape), [torch.ones(n, 1) for n in sides], axis)
