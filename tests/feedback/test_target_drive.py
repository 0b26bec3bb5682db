"""Oja's rule on the readout, driven by one-hot targets; and Oja alone, without Kolen-Pollack."""

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb

LABELS = torch.tensor([0, 2, 2, 1, 2, 0, 3])


def attached(learning: object, rank: int = 2, **settings: object) -> nn.Module:
    spec = fb.LowRank(rank=rank, learning=learning, **settings)  # pyright: ignore
    return fb.attach(nn.Linear(5, 4).double(), {"": spec})


def backward(layer: nn.Module, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    layer(h).backward(scale * torch.randn(7, 4, generator=generator, dtype=torch.float64))
    return h.grad


def test_p_sees_the_targets_and_not_the_error_and_q_the_error():
    for learning in (fb.Oja(drive="target"), fb.Subspace(drive="target")):
        found = []
        for scale in (1.0, 3.0):
            layer = attached(learning)
            fb.present_targets(layer, LABELS)
            backward(layer, scale)
            found.append([p.grad for p in fb.pathway_parameters(layer)])
        assert torch.equal(found[0][-1], found[1][-1])
        assert found[0][-1].norm() > 0
        if len(found[0]) == 2:
            torch.testing.assert_close(3 * found[0][0], found[1][0])


def test_p_ends_at_the_frequent_classes():
    """Raw second moment of one-hot targets: diagonal, the frequencies of the classes."""
    layer = attached(fb.Oja(normalise=False, drive="target"))
    optimiser = torch.optim.SGD([layer.pathway.P], lr=1.0)
    labels = torch.tensor([2, 2, 2, 0, 0, 2, 1])
    for _ in range(120):
        optimiser.zero_grad()
        fb.present_targets(layer, labels)
        backward(layer)
        optimiser.step()
    p = layer.pathway.P.detach()
    expected = torch.diag(torch.tensor([1.0, 0, 1, 0], dtype=torch.float64))
    torch.testing.assert_close(p.T @ p, expected, rtol=0, atol=1e-6)


def test_a_direct_pathway_from_the_output_takes_targets_too():
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4))
    spec = fb.Direct(source="4", rank=2, learning=fb.Oja(drive="target"))
    fb.attach(net, {"2": spec}, example_input=torch.ones(1, 5))
    fb.present_targets(net, LABELS)
    net(torch.randn(7, 5)).square().sum().backward()
    assert net[2].pathway.P.grad.norm() > 0


def test_missing_and_unfitting_targets_are_named():
    layer = attached(fb.Oja(drive="target"))
    with pytest.raises(ValueError, match=r"layer '': .*present_targets\(network, labels\)"):
        backward(layer)
    fb.present_targets(layer, LABELS[:3])
    with pytest.raises(ValueError, match=r"layer '': .*\(3,\).*\(7, 4\)"):
        backward(layer)
    tokens = attached(fb.Subspace(drive="target"))
    fb.present_targets(tokens, LABELS[:2])
    h = torch.ones(2, 3, 5, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"layer '': .*\(2, 3, 4\)"):
        tokens(h).sum().backward()


def test_error_driven_rules_need_no_targets():
    assert not any(attached(rule).pathway.needs_targets for rule in (fb.Oja(), fb.Subspace()))


@pytest.mark.parametrize("rule", [fb.Oja, fb.Subspace])
def test_unknown_drive_is_refused(rule):
    wrong = rule()
    object.__setattr__(wrong, "drive", "label")  # past the type checks of the test session
    with pytest.raises(ValueError, match="drive='label' must be 'error' or 'target'"):
        wrong.__post_init__()


@pytest.mark.parametrize("side", ["Q", "P"])
def test_subspace_and_kolen_pollack_are_the_halves_of_oja(side):
    """The same gradients as under Oja, of the channel factor and (kernel in Q) of the other."""
    made = {}
    for rule in (fb.Oja(), fb.Subspace(), fb.KolenPollack()):
        torch.manual_seed(1)
        layer = nn.Conv2d(4, 6, 3, groups=2).double()
        fb.attach(layer, {"": fb.LowRank(rank=2, learning=rule, spatial_factor=side)})
        h = torch.randn(3, 4, 5, 5, dtype=torch.float64).relu().requires_grad_()
        layer(h).square().sum().backward()
        made[rule.rule] = {name: p.grad for name, p in layer.pathway.named_parameters()}
    channel = {"Q": "P", "P": "Q"}[side]
    assert made["subspace"].keys() == {channel}
    assert torch.equal(made["subspace"][channel], made["oja"][channel])
    assert made["kolen_pollack"].keys() == {"Q"}
    if side == "Q":
        assert torch.equal(made["kolen_pollack"]["Q"], made["oja"]["Q"])
