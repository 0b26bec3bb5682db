"""The users' traps: reuse, in-place and functional activations, ties, fused modules."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neurofb import feedback as fb

PATHWAYS = {
    "random": fb.Random(),
    "oja": fb.LowRank(rank=2),
    "normative": fb.LowRank(rank=2, learning=fb.Normative()),
    "factored_kp": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack()),
    "fixed": fb.LowRank(rank=2, learning=fb.Fixed()),
    "random_kp": fb.Random(learning=fb.KolenPollack()),
    "usf": fb.SignSymmetric(),
    "frsf": fb.SignSymmetric(magnitude="fixed_random"),
    "kp": fb.LowRank(rank=2, learning=fb.KolenPollack()),
    "subspace": fb.LowRank(rank=2, learning=fb.Subspace()),
}


@pytest.fixture(params=PATHWAYS.values(), ids=PATHWAYS.keys())
def spec(request):
    return request.param


def gradients(net, *parameters):
    return [p.grad.clone() for p in parameters]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Linear(3, 4)
        self.shared = nn.Linear(4, 4)

    def forward(self, x):
        return self.shared(torch.tanh(self.shared(torch.tanh(self.below(x)))))


class Unrolled(nn.Module):
    """The same with a copy for each use."""

    def __init__(self, net: Twice) -> None:
        super().__init__()
        self.below, self.first, self.second = (
            copy.deepcopy(m) for m in (net.below, net.shared, net.shared)
        )

    def forward(self, x):
        return self.second(torch.tanh(self.first(torch.tanh(self.below(x)))))


def test_a_module_used_twice_gives_the_sum(spec):
    net, x = Twice().double(), torch.randn(5, 3, dtype=torch.float64)
    fb.attach(net, {"shared": spec}, example_input=x)
    twin = Unrolled(net)
    for n in (net, twin):
        n(x).square().sum().backward()
    assert fb.fired(net) == {"shared": 2}
    torch.testing.assert_close(net.below.weight.grad, twin.below.weight.grad)
    for p, a, b in zip(
        net.shared.parameters(), twin.first.parameters(), twin.second.parameters(), strict=True
    ):
        torch.testing.assert_close(p.grad, a.grad + b.grad)


@pytest.mark.parametrize("unbatched", [False, True])
@pytest.mark.parametrize("kind", ["linear", "tokens", "conv"])
def test_in_place_modules_and_functions_are_the_same(spec, kind, unbatched):
    """In-place ReLU before and behind the layer, as module, as function and out of place."""
    if kind != "conv":
        shape = (5, 3) if kind == "linear" else (2, 5, 3)
        below, layer = nn.Linear(3, 4), nn.Linear(4, 4)
    else:
        below, layer, shape = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), (2, 2, 6, 6)
    x = torch.randn(shape[1:] if unbatched else shape)
    net = nn.ModuleDict({"below": below, "layer": layer})
    fb.attach(net, {"layer": spec})
    found = []
    for act in (nn.ReLU(), nn.ReLU(inplace=True), F.relu_, torch.relu, lambda a: a.clamp_(min=0)):
        net.zero_grad()
        act(layer(act(below(x)))).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(found[0]) >= 4
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b)


def test_overwriting_what_the_backward_pass_needs_is_refused(spec):
    net = fb.attach(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), {"1": spec})
    h = net[0](torch.ones(2, 3))
    out = net[1](h)
    h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_tied_weights(spec):
    """The pathway acts at its own layer; the tied layer keeps backpropagation; gradients add."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net = net.double()
    net[4].weight = net[2].weight
    fb.attach(net, {"4": spec})
    untied = copy.deepcopy(net)
    untied[4].weight = nn.Parameter(untied[2].weight.detach().clone())
    x = torch.randn(5, 4, dtype=torch.float64)
    for n in (net, untied):
        n(x).square().sum().backward()
    torch.testing.assert_close(net[0].weight.grad, untied[0].weight.grad)
    torch.testing.assert_close(net[2].weight.grad, untied[2].weight.grad + untied[4].weight.grad)
    assert net[4].weight is net[2].weight


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below, self.layer = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return F.linear(torch.relu(self.below(x)), self.layer.weight, self.layer.bias)


def test_a_weight_used_by_a_function_is_refused_or_seen(spec):
    x = torch.randn(5, 3)
    with pytest.raises(
        ValueError, match=r"layer 'layer' never runs .*used by a function or a fused"
    ):
        fb.attach(Functional(), {"layer": spec}, example_input=x)
    net = fb.attach(Functional(), {"layer": spec})
    net(x).sum().backward()
    assert fb.fired(net) == {"layer": 0}


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer(spec, norm_first):
    block = nn.TransformerEncoderLayer(
        4, 2, 6, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    net = nn.Sequential(nn.Linear(3, 4), block, nn.Linear(4, 2))
    x = torch.randn(2, 5, 3)
    plain = copy.deepcopy(net)
    fb.attach(net, {"1.linear*": spec, "2": spec}, example_input=x)
    assert torch.equal(net(x), plain(x))
    for n in (net, plain):
        n(x).square().sum().backward()
    assert fb.fired(net) == {"1.linear1": 1, "1.linear2": 1, "2": 1}
    assert torch.equal(net[2].weight.grad, plain[2].weight.grad)
    assert not torch.allclose(
        block.self_attn.in_proj_weight.grad, plain[1].self_attn.in_proj_weight.grad
    )
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), plain.eval()(x))


def test_keyword_calls_are_traced(spec):
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(input=x)

    net = fb.attach(Keyword(), {"layer": spec}, example_input=torch.zeros(2, 3))
    net(torch.ones(2, 3, requires_grad=True)).sum().backward()
    assert fb.fired(net) == {"layer": 1}


def test_residual_connections(spec):
    """The error of the skip goes by exactly; only the layer's own branch is rerouted."""
    net = nn.ModuleDict({"below": nn.Linear(3, 4), "layer": nn.Linear(4, 4)}).double()
    fb.attach(net, {"layer": spec})
    x = torch.randn(5, 3, dtype=torch.float64)
    h = net["below"](x)
    loss = (h + net["layer"](h)).square().sum()
    (g,) = torch.autograd.grad(loss, h, retain_graph=True)
    h2 = h.detach().requires_grad_()
    branch = net["layer"](h2)
    delta = 2 * (h2 + branch).detach()
    (through,) = torch.autograd.grad(branch, h2, delta)
    torch.testing.assert_close(g, delta + through)


def test_frozen_weights_and_matrices(spec):
    net = fb.attach(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), {"1": spec})
    for p in net[1].parameters():
        p.requires_grad_(False)
    net(torch.ones(2, 3)).square().sum().backward()
    assert net[0].weight.grad.norm() > 0
    assert all(p.grad is None for p in net[1].parameters())


def test_second_derivatives_are_refused(spec):
    net = fb.attach(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), {"1": spec})
    loss = net(torch.ones(2, 3)).square().sum()
    (g,) = torch.autograd.grad(loss, net[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.square().sum().backward()


def test_a_single_sample_gives_finite_pseudo_gradients():
    """A batch of one has no variance; in bfloat16 its rounding must not be divided by zero."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        layer = fb.attach(nn.Linear(8, 6).to(dtype), {"": fb.LowRank(rank=2)})
        h = torch.ones(1, 8, dtype=dtype, requires_grad=True)
        layer(h).backward(torch.randn(1, 6).to(dtype) * 1e-3)
        assert layer.pathway.P.grad.abs().max() < 2, dtype
        layer.pathway.P.grad = None
        same = torch.full((64, 8), 0.1, dtype=dtype, requires_grad=True)
        layer(same).backward(torch.full((64, 6), 0.3, dtype=dtype))
        assert layer.pathway.P.grad.abs().max() < 2, dtype
        layer(same).backward(torch.zeros(64, 6, dtype=dtype))
        assert layer.pathway.P.grad.isfinite().all()


def test_empty_batches(spec):
    net = fb.attach(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), {"1": spec})
    net(torch.ones(0, 3)).sum().backward()
    assert torch.equal(net[0].weight.grad, torch.zeros(4, 3))
