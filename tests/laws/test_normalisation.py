"""What a normalisation does to the error, under backpropagation and under any pathway alike.

δ is the error at the input of the normalisation (the pre-activation a of the layer below it). The
laws are exact for an ε of zero, which torch does not allow in training: here ε is 1e-12.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks.normalisation import make_normalisation

EPS = 1e-12
KINDS = ["batch", "layer", "group", "centre"]
#: pathways of the layers above the one that is looked at
RULES = {
    "bp": fb.Exact(),
    "fa": fb.Random(),
    "ldfa": fb.LowRank(rank=2),
    "dfa": fb.DirectRandom(source="readout"),
}


class Net(nn.Module):
    """Linear maps or convolutions, all normalised but the last: `layer`, `above`, `readout`."""

    def __init__(self, kind: str, maps: bool, eps: float = EPS) -> None:
        super().__init__()
        ndim = 4 if maps else 2
        if maps:
            self.layer: nn.Module = nn.Conv2d(2, 8, 3, stride=2, padding=1)
            self.above: nn.Module = nn.Conv2d(8, 6, 3, padding=1)
        else:
            self.layer, self.above = nn.Linear(5, 8), nn.Linear(8, 6)
        self.norm = make_normalisation(kind, 8, ndim=ndim)
        self.norm_above = make_normalisation(kind, 6, ndim=ndim)
        self.readout = nn.Linear(6, 3)
        for norm in (self.norm, self.norm_above):
            if hasattr(norm, "eps"):
                norm.eps = eps
            for parameter in norm.parameters():  # a gain and a shift like those of a trained one
                nn.init.uniform_(parameter, -0.5, 1.5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.layer(x)))
        h = torch.relu(self.norm_above(self.above(h)))
        return self.readout(h.flatten(2).mean(-1) if h.dim() == 4 else h)


@pytest.fixture(params=[False, True], ids=["units", "maps"], name="maps")
def maps_fixture(request) -> bool:
    return request.param


@pytest.fixture(params=RULES.values(), ids=RULES)
def rule(request) -> fb.PathwaySpec:
    return request.param


@pytest.fixture
def error(maps, rule) -> Callable[..., tuple[Net, Tensor, Tensor]]:
    """Return a function: kind → network after a backward pass, a and δ of its first layer."""

    def run(kind: str, eps: float = EPS) -> tuple[Net, Tensor, Tensor]:
        net = Net(kind, maps, eps)
        x = torch.randn((9, 2, 6, 5) if maps else (9, 5), dtype=torch.float64) + 1
        layers = {"above": rule}
        if not isinstance(rule, fb.DirectRandom):
            layers["readout"] = rule
        fb.attach(net, layers, example_input=x)
        seen = []
        net.layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
        net.layer.register_forward_hook(lambda module, inputs, output: output.retain_grad())
        functional.cross_entropy(net(x), torch.arange(9) % 3).backward()
        (a,) = seen
        assert a.grad.norm() > 1e-4  # or zero would be all there is to see
        return net, a.detach(), a.grad

    return run


def over_batch(x: Tensor) -> Tensor:
    """Return one column a channel: what batch normalisation takes together."""
    return x.movedim(1, -1).flatten(0, -2)


def over_groups(x: Tensor, num_groups: int) -> Tensor:
    """Return one column for each group of channels of each image."""
    return x.reshape(len(x) * num_groups, -1).T


def normalised(a: Tensor) -> Tensor:
    """Return columns of mean zero and mean square one."""
    centred = a - a.mean(0)
    return centred / centred.square().mean(0).sqrt()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return |cosines| between columns."""
    return torch.cosine_similarity(a, b, 0).abs()


def columns(kind: str, x: Tensor) -> Tensor:
    return over_batch(x) if kind in ("batch", "centre") else over_groups(x, _groups(kind))


def _groups(kind: str) -> int:
    return {"layer": 1, "group": 2}[kind]


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_the_error_has_no_mean_and_nothing_along_the_normalised_activity(kind, error):
    _, a, delta = error(kind)
    delta, a = columns(kind, delta), columns(kind, a)
    with_error = delta.norm(dim=0) > 1e-6  # units or images may rest
    assert with_error.sum() >= 4
    delta, a = delta[:, with_error], a[:, with_error]
    assert cosine(delta, torch.ones_like(delta)).max() < 1e-9
    assert cosine(delta, normalised(a)).max() < 1e-8


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_with_the_usual_epsilon_it_holds_nearly(kind, error):
    """δ = J (g − …) leaves the share ε / (variance + ε) of the normalised activity in it."""
    _, a, delta = error(kind, eps=1e-2)
    delta, a = columns(kind, delta), columns(kind, a)
    along = (delta * normalised(a)).sum(0)
    assert (delta.sum(0).abs() < 1e-9).all()
    assert along.abs().max() > 1e-6  # so the laws above do depend on ε
    _, smaller, other = error(kind, eps=1e-5)
    along_less = (columns(kind, other) * normalised(columns(kind, smaller))).sum(0)
    assert along_less.abs().max() < 1e-2 * along.abs().max()


def test_centring_takes_out_the_mean_only(error):
    _, a, delta = error("centre")
    delta, a = over_batch(delta), over_batch(a)
    assert cosine(delta, torch.ones_like(delta)).max() < 1e-9
    assert cosine(delta, normalised(a)).max() > 1e-2


def test_without_normalisation_both_are_there(error):
    _, a, delta = error("none")
    for of in (over_batch, lambda x: over_groups(x, 1)):
        assert cosine(of(delta), torch.ones_like(of(delta))).max() > 1e-2
        assert cosine(of(delta), normalised(of(a))).max() > 1e-2


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "none"])
def test_the_gradient_is_orthogonal_to_the_weight(kind, error):
    """The scale of what is normalised together does not count: a row of W, or rows and biases."""
    net, _, _ = error(kind)
    layer = net.layer
    weight, gradient = layer.weight.detach().flatten(1), layer.weight.grad.flatten(1)
    together = weight.shape[0] if kind in ("batch", "none") else _groups(kind)
    if kind in ("layer", "group"):  # the bias is scaled along, its mean over the rows is not seen
        weight = torch.cat([weight, layer.bias.detach()[:, None]], 1)
        gradient = torch.cat([gradient, layer.bias.grad[:, None]], 1)
    along = (weight * gradient).reshape(together, -1).sum(1)
    size = weight.reshape(together, -1).norm(dim=1) * gradient.reshape(together, -1).norm(dim=1)
    if kind == "none":
        assert (along.abs() > 1e-2 * size).any()
    else:
        assert (along.abs() <= 1e-8 * size + 1e-14).all()


@pytest.mark.parametrize("kind", ["batch", "centre"])
def test_a_bias_below_is_not_taught(kind, error):
    """Which is why convolutions have none there."""
    net, _, delta = error(kind)
    assert net.layer.bias.grad.abs().max() < 1e-12
    assert over_batch(delta).abs().sum(0).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_weights_transport_is_replaced(kind, maps):
    """Feedback alignment is autograd's own gradient of a network that agrees in all values.

    In a = W·stop(h) + B·h − stop(B·h) the second and third terms cancel, the error reaches W
    unchanged, and h through Bᵀ. Everything else, both normalisations too, is autograd's.
    """
    net, x = Net(kind, maps), torch.randn((9, 2, 6, 5) if maps else (9, 5), dtype=torch.float64)
    labels = torch.arange(9) % 3
    fb.attach(net, {"above": fb.Random(), "readout": fb.Random(start="orthogonal")})
    functional.cross_entropy(net(x), labels).backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters()}

    def replaced(layer: nn.Module, h: Tensor) -> Tensor:
        w, b, feedback = layer.weight, layer.bias, layer.pathway.B
        if isinstance(layer, nn.Conv2d):
            back = functional.conv2d(h, feedback, padding=1)
            return functional.conv2d(h.detach(), w, b, padding=1) + back - back.detach()
        back = h @ feedback.T
        return h.detach() @ w.T + b + back - back.detach()

    net.zero_grad()
    h = torch.relu(net.norm(net.layer(x)))
    h = torch.relu(net.norm_above(replaced(net.above, h)))
    logits = replaced(net.readout, h.flatten(2).mean(-1) if maps else h)
    functional.cross_entropy(logits, labels).backward()
    assert len(found) == (8 if kind == "centre" else 10)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-7, atol=1e-11, msg=name)
