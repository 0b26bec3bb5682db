"""Factored Kolen-Pollack is positive feedback; its norms are held, and it says so once."""

import copy
import warnings

import pytest
import torch
from torch import nn

from neurofb import feedback as fb


def run(net: nn.Module, steps: int, rate: float) -> list[float]:
    """Return ‖Q‖‖P‖ as used by each of the backward passes."""
    h = torch.ones(4, 6, requires_grad=True)
    pathway, norms = net.pathway, []
    for _ in range(steps):
        net.zero_grad()
        (net(h) * torch.tensor([-1.0, -2.0, -3.0])).sum().backward()
        norms.append(float((pathway.Q.norm() * pathway.P.norm()).detach()))
        for p in fb.pathway_parameters(net):
            p.data.sub_(rate * p.grad)
    return norms


def attached(limit: float, **settings) -> nn.Module:
    rule = fb.FactoredKolenPollack(norm_limit=limit)
    return fb.attach(nn.Linear(6, 3), {"": fb.LowRank(rank=2, learning=rule, **settings)})


def test_norm_is_held_and_the_warning_comes_once():
    net = attached(5.0)
    pathway = net.pathway
    limit = 5 * max(float(net.weight.detach().norm()), float(pathway.start_norm))
    with pytest.warns(
        RuntimeWarning, match="layer '': factored Kolen-Pollack .* norm_limit=5.0"
    ) as w:
        norms = run(net, 350, 0.05)
    assert len(w) == 1
    assert max(norms) <= limit * (1 + 1e-5)
    assert norms[-1] == pytest.approx(limit, rel=1e-4)
    assert int(pathway.held) > 300


def test_both_matrices_are_scaled_alike_and_keep_their_direction():
    net = attached(1.0)
    q, p = (m.detach().clone() for m in (net.pathway.Q, net.pathway.P))
    net.pathway.Q.data.mul_(8)
    run(net, 1, 0.0)
    factor = (net.pathway.Q.norm() / (8 * q).norm()).detach()
    assert 0 < factor < 1
    torch.testing.assert_close(net.pathway.Q.detach(), 8 * q * factor)
    torch.testing.assert_close(net.pathway.P.detach(), p * factor)
    assert int(net.pathway.held) == 1


def test_nothing_is_held_or_said_below_the_limit():
    net = attached(1e6)
    before = copy.deepcopy(net.pathway.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(net, 120, 0.0)
    assert int(net.pathway.held) == 0
    assert torch.equal(net.pathway.Q, before["Q"])


@pytest.mark.parametrize("start", ["random", "svd"])
def test_the_start_itself_is_never_held(start):
    """Full rank and a large layer, or a weight that starts at zero."""
    rule = fb.LowRank(rank=150, start=start, learning=fb.FactoredKolenPollack(norm_limit=1.5))
    layer = nn.Linear(150, 150)
    if start == "random":
        layer.weight.data.zero_()
    fb.attach(layer, {"": rule})
    before = layer.pathway.Q.detach().clone()
    layer(torch.ones(2, 150, requires_grad=True)).sum().backward()
    assert torch.equal(layer.pathway.Q, before)
    assert before.norm() > 0


def test_direct_pathways_are_held_at_their_start():
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    rule = fb.FactoredKolenPollack(norm_limit=2.0)
    direct = fb.Direct(source="1", rank=2, learning=rule)
    fb.attach(net, {"0": direct}, example_input=torch.ones(1, 4))
    pathway = net[0].pathway
    start = float(pathway.start_norm)
    assert start == pytest.approx(float((pathway.Q.norm() * pathway.P.norm()).detach()))
    pathway.P.data.mul_(10)
    net(torch.ones(2, 4, requires_grad=True)).sum().backward()
    assert float((pathway.Q.norm() * pathway.P.norm()).detach()) == pytest.approx(
        2 * start, rel=1e-5
    )
