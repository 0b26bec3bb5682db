"""The three starts of a random matrix: the weight's size, and what is particular to each."""

import pytest
import torch
from scipy import stats
from torch import nn

from neurofb import feedback as fb
from neurofb.feedback.random_start import RandomStart, draw_like

LAYERS = {
    "wide": lambda: nn.Linear(12, 5),
    "tall": lambda: nn.Linear(5, 12),
    "square": lambda: nn.Linear(8, 8),
    "kernel": lambda: nn.Conv2d(3, 8, 3),
    "grouped": lambda: nn.Conv2d(8, 12, (3, 1), groups=4),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4),
}


def start_of(layer: nn.Module, start: RandomStart, seed: int = 0) -> torch.Tensor:
    fb.attach(layer, {"": fb.Random(start=start)}, seed=seed)
    return layer.pathway.B


def test_the_default_starts_as_it_always_has():
    weight = torch.tensor([[1.0, -2.0, 0.5], [0.25, 4.0, -1.0]])
    draw = torch.rand(2, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    bound = 3**0.5 * float(weight.double().square().mean().sqrt())
    drawn = draw_like(weight, "uniform", torch.Generator().manual_seed(7))
    assert torch.equal(drawn, (draw * 2 * bound - bound).float())
    layer, same = nn.Linear(3, 2), nn.Linear(3, 2)
    same.load_state_dict(layer.state_dict())
    fb.attach(same, {"": fb.Random()})
    assert torch.equal(start_of(layer, "uniform"), same.pathway.B)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_an_orthogonal_start_has_one_singular_value_and_the_weights_size(make):
    layer = make().double()
    b = start_of(layer, "orthogonal")
    weight = layer.weight.detach()
    assert b.shape == weight.shape
    groups = getattr(layer, "groups", 1)
    for block in b.reshape(groups, weight.shape[0] // groups, -1):
        values = torch.linalg.svdvals(block)
        assert values.min() > 0.999999 * values.max()
    torch.testing.assert_close(b.norm(), weight.norm(), rtol=1e-12, atol=0.0)


def test_an_orthogonal_start_is_uniform_over_the_rotations():
    generator = torch.Generator().manual_seed(0)
    weight = torch.ones(2, 2)
    angles = []
    for _ in range(400):
        b = draw_like(weight, "orthogonal", generator)
        angles.append(float(torch.atan2(b[1, 0], b[0, 0])))
    assert stats.kstest(angles, stats.uniform(-torch.pi, 2 * torch.pi).cdf).pvalue > 0.01
    turned = stats.kstest([abs(angle) for angle in angles], stats.uniform(0, torch.pi).cdf)
    assert turned.pvalue > 0.01


@pytest.mark.parametrize(
    ("start", "law"),
    [("normal", stats.norm), ("uniform", stats.uniform(-(3**0.5), 2 * 3**0.5))],
)
def test_laws_of_the_entries(start, law):
    layer = nn.Conv2d(40, 30, 3)
    b = start_of(layer, start)
    size = layer.weight.detach().square().mean().sqrt()
    assert stats.kstest((b / size).flatten().numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("start", ["normal", "orthogonal"])
def test_it_follows_from_the_seed_and_is_no_copy_of_the_weight(start):
    layers = [nn.Linear(30, 20) for _ in range(3)]
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())
    one, same, other = (
        start_of(layer, start, seed) for layer, seed in zip(layers, (1, 1, 2), strict=True)
    )
    assert torch.equal(one, same)
    weight = layers[0].weight.detach()
    for b in (other, weight):
        assert abs(torch.cosine_similarity(one.flatten(), b.flatten(), 0)) < 0.15


@pytest.mark.parametrize("learning", [fb.Fixed(), fb.KolenPollack()])
def test_the_error_goes_back_through_it(learning):
    layer = nn.Linear(6, 4).double()
    fb.attach(layer, {"": fb.Random(learning=learning, start="orthogonal")})
    h = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    layer(h).sum().backward()
    torch.testing.assert_close(h.grad, torch.ones(3, 4).double() @ layer.pathway.B.detach())


def test_describe_names_it_and_another_is_refused():
    layer = nn.Linear(6, 4)
    fb.attach(layer, {"": fb.Random(start="normal")})
    assert layer.pathway.rule == "random (FA) normal"
    changed = fb.Random()
    object.__setattr__(changed, "start", "svd")
    with pytest.raises(ValueError, match=r"start='svd' must be one of uniform, normal, orthogonal"):
        changed.__post_init__()
