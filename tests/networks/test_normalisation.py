"""The kinds of normalisation against their formulas, and what is particular to centring."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from neurofb.data import ImageSet, ImageSplits
from neurofb.networks import MLPConfig
from neurofb.networks.normalisation import Centre, Normalisation, make_normalisation
from neurofb.training import Cosine, Optimiser, TrainingConfig, train, train_stacked

NORMALISING = [kind for kind in get_args(Normalisation) if kind != "none"]


def written_out(kind: str, a: Tensor, num_groups: int) -> Tensor:
    """Return the plain normalisation, once more."""
    batch = (0, *range(2, a.dim()))
    if kind in ("batch", "centre"):
        centred = a - a.mean(batch, keepdim=True)
        scale = (centred.square().mean(batch, keepdim=True) + 1e-5).sqrt()
        return centred / scale if kind == "batch" else centred
    groups = a.reshape(len(a), 1 if kind == "layer" else num_groups, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return (centred / scale).reshape(a.shape)


@pytest.mark.parametrize("shape", [(7, 12), (7, 12, 3, 5)])
@pytest.mark.parametrize("kind", NORMALISING)
def test_kinds_written_out(kind, shape):
    norm = make_normalisation(kind, 12, ndim=len(shape)).double()
    a = 2 * torch.randn(shape, dtype=torch.float64) + 3
    torch.testing.assert_close(norm(a), written_out(kind, a, num_groups=2))
    per_channel = (12,) + (1,) * (len(shape) - 2)
    with torch.no_grad():
        norm.bias.copy_(torch.arange(12.0))
        if kind != "centre":
            norm.weight.copy_(torch.linspace(-1, 2, 12))
    gain = torch.ones(12) if kind == "centre" else norm.weight
    expected = gain.reshape(per_channel) * written_out(kind, a, 2) + norm.bias.reshape(per_channel)
    torch.testing.assert_close(norm(a), expected)


def test_none_is_the_identity():
    a = torch.randn(3, 4)
    assert make_normalisation("none", 4, ndim=2)(a) is a


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(64, 8), (32, 8), (16, 4), (20, 4), (8, 2), (12, 2), (250, 2), (4, 1), (6, 1), (1, 1)],
)
def test_groups_divide_the_channels_and_hold_four_or_more(channels, groups):
    norm = make_normalisation("group", channels, ndim=2)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 2)])
def test_running_mean_is_that_of_batch_normalisation(shape):
    ours = Centre(3)
    theirs = make_normalisation("batch", 3, ndim=len(shape))
    for _ in range(3):
        a = torch.randn(shape) + 5
        ours(a)
        theirs(a)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    kept = ours.running_mean.clone()
    ours.eval()
    offset = kept.reshape(3, *[1] * (len(shape) - 2))
    torch.testing.assert_close(ours(a), a - offset)
    assert torch.equal(ours.running_mean, kept)
    assert not kept.requires_grad
    ours.reset_parameters()
    assert not ours.running_mean.any()


def test_centre_has_its_mean_in_float32_and_keeps_the_dtype():
    a = torch.full((4000, 2), 1.0) + torch.linspace(0, 0.1, 4000)[:, None]
    centre = Centre(2)
    out = centre(a.bfloat16())
    assert out.dtype == torch.bfloat16
    mean = a.bfloat16().double().mean(0)
    torch.testing.assert_close(centre.running_mean.double(), 0.1 * mean, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("shape", [(400, 2), (40, 2, 5, 3)])
def test_a_large_mean_is_taken_out_of_half_precision_too(shape):
    a = (100 + torch.randn(shape)).bfloat16()
    left = Centre(2)(a).double().movedim(1, -1).flatten(0, -2).mean(0)
    assert left.abs().max() < 0.01  # numbers near 100 are 0.5 apart there


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_normalisation("group", 4, ndim=3), r"ndim=3 must be 2"),
        (lambda: make_normalisation("instance", 4, ndim=2), r"'instance' must be one of none, ba"),
        (lambda: Centre(0), r"channels=0 must be an integer >= 1"),
        (lambda: Centre(2, momentum=0.0), r"momentum=0.0 must be in \(0, 1\]"),
        (lambda: Centre(2)(torch.ones(3, 4)), r"a.shape=\(3, 4\) must be \(image, 2\) or"),
        (lambda: Centre(2)(torch.ones(3, 2, 5)), r"a.shape=\(3, 2, 5\) must be \(image, 2\) or"),
        (lambda: Centre(2)(torch.ones(1, 2)), r"a.shape=\(1, 2\) must hold two values of each"),
    ],
)
def test_what_is_refused(call, message, monkeypatch):
    unchecked = getattr(make_normalisation, "__wrapped__", make_normalisation)
    monkeypatch.setitem(globals(), "make_normalisation", unchecked)
    with pytest.raises(ValueError, match=message):
        call()


def test_one_image_is_enough_for_the_mean_of_a_map_and_in_evaluation():
    assert not Centre(2)(torch.ones(1, 2, 3, 3)).any()
    assert (Centre(2).eval()(torch.ones(1, 2)) == 1).all()


@pytest.mark.parametrize("kind", ["layer", "group", "centre"])
def test_networks_with_it_train_as_a_stack(kind):
    images = ImageSet(images=torch.randn(24, 1, 4, 4), labels=torch.arange(24) % 3)
    data = ImageSplits(
        train=images, validation=images, test=images, classes=("a", "b", "c"), name="made up"
    )
    config = TrainingConfig(
        num_steps=6,
        batch_size=8,
        optimiser=Optimiser(name="SGD", learning_rate=0.3, weight_decay=0.0),
        schedule=Cosine(warmup_steps=0, final=1.0),
        precision="float32",
    )
    settings = MLPConfig(
        image_size=4, in_channels=1, num_classes=3, hidden=(8, 8), normalisation=kind
    )
    stacked, alone = ([settings.build(seed) for seed in (0, 1)] for _ in range(2))
    train_stacked(stacked, data, config, seeds=(0, 1))
    for seed, network in enumerate(alone):
        train(network, data, config, seed=seed)
        start = settings.build(seed).state_dict()
        assert (network.readout.weight - start["readout.weight"]).norm() > 0.03
        for name, value in network.state_dict().items():
            torch.testing.assert_close(
                stacked[seed].state_dict()[name], value, rtol=1e-4, atol=2e-5, msg=name
            )
