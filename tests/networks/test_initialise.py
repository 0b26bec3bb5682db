import math

import pytest
import torch
from torch import nn

from neurofb.networks.initialise import build_from_seed
from neurofb.networks.normalisation import Centre


def linear_and_convolution(initialisation):
    def make():
        return nn.Sequential(nn.Linear(400, 300), nn.Conv2d(20, 80, 5))

    linear, convolution = build_from_seed(make, seed=0, initialisation=initialisation)
    return linear, convolution


@pytest.mark.parametrize(
    ("initialisation", "linear_std", "convolution_std"),
    [
        ("torch", (3 * 400) ** -0.5, (3 * 500) ** -0.5),
        ("glorot", (2 / 700) ** 0.5, (2 / (25 * 100)) ** 0.5),
        ("he", (3 * 400) ** -0.5, (2 / (25 * 80)) ** 0.5),
        ("he_normal", (2 / 400) ** 0.5, (2 / 500) ** 0.5),
        ("truncated_normal", 0.02, 0.02),
    ],
)
def test_spread_of_the_weights(initialisation, linear_std, convolution_std):
    linear, convolution = linear_and_convolution(initialisation)
    assert linear.weight.std().item() == pytest.approx(linear_std, rel=0.02)
    assert convolution.weight.std().item() == pytest.approx(convolution_std, rel=0.02)
    assert abs(linear.weight.mean().item()) < 0.02 * linear_std
    uniform = {"torch": (True, True), "glorot": (True, True), "he": (True, False)}
    for layer, std, bounded in zip(
        (linear, convolution),
        (linear_std, convolution_std),
        uniform.get(initialisation, (False, False)),
        strict=True,
    ):
        assert (layer.weight.abs().max().item() <= math.sqrt(3) * std * 1.001) == bounded
    assert linear.bias.any() == (initialisation in ("torch", "he"))
    assert convolution.bias.any() == (initialisation == "torch")


def test_same_spread_as_torch():
    ours, _ = linear_and_convolution("torch")
    theirs = nn.Linear(400, 300)
    for one, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert one.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.02)
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)


def test_normalisation_starts_as_the_identity():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.batch, self.layer = nn.BatchNorm2d(4), nn.LayerNorm(6)
            self.group, self.centre = nn.GroupNorm(2, 4), Centre(4)
            self.token = nn.Parameter(torch.empty(50, 60))

    network = build_from_seed(Tokens, seed=0)
    for norm in (network.batch, network.layer, network.group):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    assert (network.batch.running_mean == 0).all()
    assert (network.batch.running_var == 1).all()
    assert network.batch.num_batches_tracked == 0
    assert (network.centre.bias == 0).all()
    assert (network.centre.running_mean == 0).all()
    assert network.token.std().item() == pytest.approx(0.02, rel=0.05)


def test_an_unknown_initialisation_is_refused():
    unchecked = getattr(build_from_seed, "__wrapped__", build_from_seed)
    with pytest.raises(ValueError, match=r"initialisation='xavier' must be one of torch, glorot"):
        unchecked(lambda: nn.Linear(2, 2), seed=0, initialisation="xavier")
