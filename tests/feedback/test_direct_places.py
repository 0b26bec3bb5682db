"""Direct feedback: which modules can send an error and which can receive it, and how often."""

import pytest
import torch
from torch import nn

from neurofb import feedback as fb


class Repeats(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.layer, self.source, self.what = nn.Linear(3, 3), nn.Linear(3, 3), what

    def forward(self, x):
        for name in self.what:
            x = torch.tanh((self.layer if name == "l" else self.source)(x))
        return x


@pytest.mark.parametrize(("what", "name"), [("lls", "layer"), ("lss", "source")])
def test_reuse_is_refused_at_attachment(what, name):
    with pytest.raises(ValueError, match=f"layer '{name}' runs 2 times in a forward pass"):
        fb.attach(
            Repeats(what),
            {"layer": fb.Direct(source="source", rank=1)},
            example_input=torch.ones(1, 3),
        )


@pytest.mark.parametrize("what", ["lss", "sl", "lsls"])
def test_reuse_that_comes_later_is_right_or_refused(what):
    net, x = Repeats("ls"), torch.ones(1, 3, requires_grad=True)
    fb.attach(net, {"layer": fb.Direct(source="source", rank=1)}, example_input=torch.ones(1, 3))
    net.what = what
    if what == "lsls":  # two whole passes: each layer call has its own source call
        net(x).sum().backward()
        assert fb.fired(net) == {"layer": 2}
        return
    with pytest.raises(ValueError, match="layer 'layer'"):
        net(x).sum().backward()


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(self.norm(x))))


class Tower(nn.Module):
    """Blocks of tokens and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.readout = nn.Linear(4, 2)

    def forward(self, x):
        self.h = [self.embed(x)]
        for block in self.blocks:
            self.h.append(block(self.h[-1]))
        self.out = self.readout(self.h[-1].mean(1))
        return self.out


ROUTES = {
    "dfa": fb.DirectRandom(),
    "dldfa": fb.Direct(source="readout", rank=2, learning=fb.Fixed()),
}


@pytest.mark.parametrize("name", ROUTES)
def test_blocks_get_the_error_at_their_input_and_past_them_nothing_is_computed(name):
    net = Tower().double()
    tokens = torch.randn(5, 6, 3, dtype=torch.float64)
    fb.attach(net, {"blocks.[012]": ROUTES[name]}, example_input=tokens)
    assert [n for n, _ in fb.feedback_layers(net)] == ["blocks.0", "blocks.1", "blocks.2"]
    asked = []
    for block in net.blocks:
        block.norm.register_forward_pre_hook(lambda m, x: asked.append(x[0].requires_grad))
    loss = net(tokens).square().sum()
    net.out.retain_grad()
    for h in net.h[:-1]:
        h.retain_grad()
    loss.backward()
    e = net.out.grad
    for h, block in zip(net.h[:-1], net.blocks, strict=True):
        pathway = block.pathway
        matrix = pathway.B.T if name == "dfa" else (pathway.Q @ pathway.P).detach()
        torch.testing.assert_close(h.grad, (e @ matrix.T).reshape(h.shape))
    assert asked == [False] * 3  # so autograd computes no gradient at the inputs of the blocks
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_a_sequential_may_be_the_receiver():
    body = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    net = nn.ModuleDict({"below": nn.Linear(3, 4), "body": body, "readout": nn.Linear(4, 2)})
    net.forward = lambda x: net["readout"](net["body"](net["below"](x)))
    x = torch.randn(5, 3)
    expected = net(x)
    fb.attach(net, {"body": fb.DirectRandom()}, example_input=x)
    assert torch.equal(net(x), expected)
    net(x).square().sum().backward()
    assert fb.fired(net) == {"body": 1}
    assert net["below"].weight.grad.norm() > 0


@pytest.mark.parametrize("source", ["norm", "act"])
def test_any_module_may_be_the_source_also_before_an_in_place_one(source):
    """A linear source may be overwritten in place; behind others torch says what is wrong."""

    def make(inplace):
        torch.manual_seed(0)
        net = nn.Sequential()
        for name, module in (
            ("below", nn.Linear(3, 4)),
            ("target", nn.Linear(4, 4)),
            ("lin", nn.Linear(4, 4)),
            ("act0", nn.ReLU(inplace=inplace)),
            ("norm", nn.LayerNorm(4)),
            ("act", nn.Tanh()),
            ("readout", nn.Linear(4, 2)),
        ):
            net.add_module(name, module)
        return net

    found = []
    for inplace in (False, True):
        net = make(inplace)
        routes = {"target": fb.DirectRandom(source="lin"), "lin": fb.DirectRandom(source=source)}
        fb.attach(net, routes, example_input=torch.zeros(2, 3))
        net(torch.linspace(-1, 1, 6).reshape(2, 3)).square().sum().backward()
        found.append([p.grad for p in net.parameters()])
        assert fb.fired(net) == {"target": 1, "lin": 1}
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
