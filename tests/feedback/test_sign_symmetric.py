"""Sign-symmetric feedback: signs are the weight's at every moment, magnitudes are its own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb

MAGNITUDES = ["uniform", "batch_random", "fixed_random"]


def attached(magnitude: str, seed: int = 0) -> nn.Module:
    return fb.attach(nn.Linear(30, 40), {"": fb.SignSymmetric(magnitude=magnitude)}, seed=seed)


def map_of(layer: nn.Module) -> Tensor:
    """Return the map of one backward pass in the layout of W, by an identity as the error."""
    h = torch.zeros(40, 30, requires_grad=True)
    layer(h).backward(torch.eye(40))
    return h.grad


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_signs_are_the_weights_at_every_moment(magnitude):
    layer = attached(magnitude)
    for _ in range(3):
        assert torch.equal(map_of(layer).sign(), layer.weight.detach().sign())
        layer.weight.data.normal_().mul_(torch.rand(40, 30) > 0.2)  # and zeros among them
    assert (layer.weight == 0).any()


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_strength_is_that_of_the_weight_at_attachment(magnitude):
    layer = attached(magnitude)
    rms = layer.weight.detach().square().mean().sqrt()
    for _ in range(2):
        assert map_of(layer).square().mean().sqrt() == pytest.approx(float(rms), rel=0.05)
        layer.weight.data.mul_(5)


def test_only_the_batch_random_magnitudes_are_drawn_again():
    spread = {}
    for magnitude in MAGNITUDES:
        layer = attached(magnitude)
        first, second = map_of(layer).abs(), map_of(layer).abs()
        assert torch.equal(first, second) == (magnitude != "batch_random")
        spread[magnitude] = float(first.std() / first.mean())
    assert spread["uniform"] == pytest.approx(0, abs=1e-6)
    for magnitude in ("batch_random", "fixed_random"):  # |U(−b, b)|: 1/√3
        assert spread[magnitude] == pytest.approx(3**-0.5, rel=0.05)


def test_batch_random_draws_are_those_of_seed_and_pass():
    layer = attached("batch_random", seed=3)
    twin = copy.deepcopy(layer)
    other = attached("batch_random", seed=4)
    other.load_state_dict({"weight": layer.weight, "bias": layer.bias}, strict=False)
    state = torch.get_rng_state()
    first, second = map_of(layer), map_of(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(map_of(twin), first)
    assert torch.equal(map_of(twin), second)
    assert not torch.equal(map_of(other), first)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_description_says_that_signs_are_transported(magnitude):
    row = fb.describe(attached(magnitude)).rows[0]
    name = {"uniform": "uSF", "batch_random": "brSF", "fixed_random": "frSF"}[magnitude]
    assert (row.transport, row.error_leaves_by) == ("signs", f"sign-symmetric ({name})")


def test_unknown_magnitude_is_refused():
    spec = fb.SignSymmetric()
    object.__setattr__(spec, "magnitude", "none")  # past the type checks of the test session
    with pytest.raises(ValueError, match="magnitude='none' must be one of uniform, batch_random"):
        spec.__post_init__()
