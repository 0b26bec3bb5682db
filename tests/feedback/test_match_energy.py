"""`match_energy`: the map has the Frobenius norm of W, whatever its rank."""

import copy

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (6,)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, 2, 1, groups=2), (4, 5, 5)),
}


def error(layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    h = torch.zeros((3, *shape), dtype=dtype, requires_grad=True)
    out = layer(h)
    generator = torch.Generator().manual_seed(0)
    out.backward(torch.randn(out.shape, generator=generator, dtype=torch.float64).to(dtype))
    return h.grad


@pytest.fixture(params=LAYERS)
def case(request) -> tuple[nn.Module, tuple[int, ...]]:
    make, shape = LAYERS[request.param]
    return make().double(), shape


@pytest.mark.parametrize("side", ["Q", "P"])
@pytest.mark.parametrize("rank", [1, 2])
def test_direction_is_unchanged_and_the_norm_is_that_of_w(case, rank, side):
    layer, shape = case
    plain = copy.deepcopy(layer)
    settings = {"rank": rank, "spatial_factor": side, "learning": fb.Fixed()}
    fb.attach(layer, {"": fb.LowRank(**settings, match_energy=True)})
    fb.attach(plain, {"": fb.LowRank(**settings)})
    for scale in (1.0, 4.0):
        layer.weight.data.mul_(scale)
        found, unscaled = error(layer, shape), error(plain, shape)
        factor = (found * unscaled).sum() / unscaled.square().sum()
        torch.testing.assert_close(found, factor * unscaled, rtol=1e-12, atol=1e-12)
        # the norm of the dense kernel, written without `join`
        q, p = plain.pathway.Q, plain.pathway.P
        if layer.weight.dim() == 2:
            kernel = q @ p
        else:
            q, p = q.reshape(2, rank, *q.shape[1:]), p.reshape(2, -1, *p.shape[1:])
            pattern = "grckl,gormn->gockl" if side == "Q" else "grckl,gormn->gocmn"
            kernel = torch.einsum(pattern, q, p)
        expected = layer.weight.detach().norm() / kernel.norm()
        assert float(factor) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("side", ["Q", "P"])
def test_full_rank_with_svd_start_has_factor_one(case, side):
    layer, shape = case
    plain = copy.deepcopy(layer)
    spec = fb.LowRank(
        rank=100, clip_rank=True, start="svd", spatial_factor=side, learning=fb.Fixed(),
        match_energy=True,
    )  # fmt: skip
    fb.attach(layer, {"": spec})
    torch.testing.assert_close(error(layer, shape), error(plain, shape), rtol=1e-12, atol=1e-12)


def test_learning_signals_stay_unscaled(case):
    layer, shape = case
    layer.weight.data.mul_(3)
    plain = copy.deepcopy(layer)
    for side in ("Q", "P"):
        nets = [copy.deepcopy(layer), copy.deepcopy(plain)]
        for net, match in zip(nets, (True, False), strict=True):
            oja = fb.Oja(normalise=False)
            spec = fb.LowRank(rank=2, learning=oja, spatial_factor=side, match_energy=match)
            fb.attach(net, {"": spec})
            h = torch.ones((3, *shape), dtype=torch.float64, requires_grad=True)
            net(h).square().sum().backward()
        for a, b in zip(*(fb.pathway_parameters(net) for net in nets), strict=True):
            assert torch.equal(a.grad, b.grad)
            assert a.grad.norm() > 0


def test_zero_factors_send_zero_and_a_zero_weight_too():
    for name in ("Q", "weight"):
        layer = fb.attach(nn.Linear(4, 3).double(), {"": fb.LowRank(rank=2, match_energy=True)})
        tensor = layer.pathway.Q if name == "Q" else layer.weight
        tensor.data.zero_()
        assert torch.equal(error(layer, (4,)), torch.zeros(3, 4, dtype=torch.float64))


def test_description_says_that_the_norm_is_read():
    for learning, transport in ((fb.Oja(), "norm"), (fb.Normative(), "yes")):
        spec = fb.LowRank(rank=1, learning=learning, match_energy=True)
        row = fb.describe(fb.attach(nn.Linear(3, 2), {"": spec})).rows[0]
        assert row.transport == transport
        assert row.error_leaves_by == f"low_rank r=1 [{learning.rule}] norm of W"


def test_nothing_of_w_but_its_norm_is_read(case):
    layer, shape = case
    other = copy.deepcopy(layer)
    flat = layer.weight.detach().flatten()
    other.weight.data = -flat[torch.randperm(len(flat))].reshape(layer.weight.shape)
    for net in (layer, other):
        fb.attach(net, {"": fb.LowRank(rank=2, match_energy=True)}, seed=1)
    torch.testing.assert_close(error(layer, shape), error(other, shape), rtol=1e-12, atol=1e-12)
