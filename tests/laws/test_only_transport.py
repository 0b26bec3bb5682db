"""Only the weight's transport is replaced: every other derivative is exact.

The gradient is composed by hand from dense Jacobians of what lies above and below the layer, and
from the pathway's own matrix in the place of Wᵀ.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from neurofb import feedback as fb


class Attention(nn.Module):
    """Softmax attention over tokens, out of plain products."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.mT / x.shape[-1] ** 0.5, -1) @ x


def _convolutional() -> tuple[nn.Module, nn.Module, nn.Module, tuple[int, ...]]:
    below = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2)
    )
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    above = nn.Sequential(
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(6),
        nn.Linear(6, 3),
    )
    return below, layer, above, (3, 2, 8, 8)


def _tokens() -> tuple[nn.Module, nn.Module, nn.Module, tuple[int, ...]]:
    below = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh())
    above = nn.Sequential(
        Attention(), nn.LayerNorm(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(16, 3)
    )
    return below, nn.Linear(5, 4), above, (2, 4, 3)


def _direct_map(spec: fb.Direct | fb.DirectRandom, pathway: nn.Module, e: Tensor) -> Tensor:
    if isinstance(spec, fb.Direct):
        return e @ pathway.P.detach().T @ pathway.Q.detach().T
    target = torch.nn.functional.one_hot(torch.arange(len(e)) % 3, 3).to(e)
    sent = {"error": e, "sign": e.sign() / len(e), "target": target / len(e)}[spec.signal]
    return sent @ pathway.B.detach()


@pytest.mark.parametrize("make", [_convolutional, _tokens])
def test_everything_but_the_transport_is_exact(make, spec, attached, dense, effective_weight):
    below, layer, above, shape = make()
    x = torch.randn(shape, dtype=torch.float64)
    target = torch.randn(shape[0], 3, dtype=torch.float64)
    network = nn.ModuleDict({"below": below, "layer": layer, "readout": above[-1]}).double()
    above.double()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.layer, self.readout = below, layer, above[-1]
            self.above = above

        def forward(self, x: Tensor) -> Tensor:
            return self.above(self.layer(self.below(x)))

    del network
    whole = Whole().train()

    def loss(y: Tensor) -> Tensor:
        return ((y - target) ** 2).sum()

    # by hand, before any pathway
    h = below(x).detach().requires_grad_()
    a = layer(h).detach().requires_grad_()
    (delta,) = torch.autograd.grad(loss(above(a)), a)
    error_source = 2 * (above(a.detach()) - target)  # at the readout's output
    jac_above = jacobian(lambda a: above(a).flatten(), a.detach()).flatten(1)
    torch.testing.assert_close(
        (jac_above.T @ error_source.detach().flatten()).reshape(a.shape), delta
    )
    weight = below[0].weight.detach()

    def of_weight(w: Tensor) -> Tensor:
        return torch.func.functional_call(below, {"0.weight": w}, (x,)).flatten()

    jac_below = jacobian(of_weight, weight).flatten(1)

    attached(whole, spec, x)
    loss(whole(x)).backward()
    if isinstance(spec, fb.Direct | fb.DirectRandom):
        g = _direct_map(spec, layer.pathway, error_source.detach()).flatten()
    else:
        copy = (
            nn.Linear(5, 4)
            if isinstance(layer, nn.Linear)
            else nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        )
        copy = copy.double()
        copy.weight.data = effective_weight(layer)
        g = dense(copy, tuple(h.shape)).T @ delta.flatten()
    expected = (jac_below.T @ g).reshape(weight.shape)
    torch.testing.assert_close(below[0].weight.grad, expected, rtol=1e-9, atol=1e-11)
