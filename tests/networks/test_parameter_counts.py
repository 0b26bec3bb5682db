"""Numbers of parameters: those of the papers, and formulas."""

import itertools

import pytest
import torch

from neurofb.networks import MLP, VGG, MLPConfig, ResNet, ResNetConfig, VGGConfig, ViT, ViTConfig


def count(make, config) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make(config).parameters())


@pytest.mark.parametrize(
    ("depth", "exact", "millions"),
    [
        (8, 75_290, "0.08"),
        (20, 269_722, "0.27"),
        (32, 464_154, "0.46"),
        (56, 853_018, "0.85"),
        (18, 11_173_962, "11.17"),
    ],
)
def test_resnet(depth, exact, millions):
    number = count(ResNet, ResNetConfig(depth=depth))
    assert number == exact
    assert f"{number / 1e6:.2f}" == millions


@pytest.mark.parametrize("depth", [8, 18, 20, 32, 56])
def test_depth_counts_the_weight_layers(depth):
    with torch.device("meta"):
        names = [name for name, p in ResNet(ResNetConfig(depth=depth)).named_parameters()]
    weights = [n for n in names if n.endswith("weight") and "norm" not in n and "shortcut" not in n]
    assert len(weights) == depth


@pytest.mark.parametrize(
    "config", [VGGConfig(), VGGConfig(widths=(8, 16), layers_per_block=3, in_channels=1, hidden=5)]
)
def test_vgg(config):
    channels = [
        config.in_channels,
        *(w for w in config.widths for _ in range(config.layers_per_block)),
    ]
    kernels = sum(9 * a * b for a, b in itertools.pairwise(channels))
    head = config.hidden * (channels[-1] + 1) + config.num_classes * (config.hidden + 1)
    assert count(VGG, config) == kernels + 2 * sum(channels[1:]) + head


def test_vgg_of_the_paper():
    config = VGGConfig()
    with torch.device("meta"):
        network = VGG(config)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert (network.hidden.in_features, network.hidden.out_features) == (512, 256)
    assert network.dropout.p == 0.4


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "config",
    [ViTConfig(), ViTConfig(image_size=28, in_channels=1, patch=7, dim=24, heads=3, depth=2)],
)
def test_vit(config, fused):
    d, hidden = config.dim, int(config.dim * config.mlp_ratio)
    embedding = d * (config.in_channels * config.patch**2 + 1)
    tokens = d * (2 + (config.image_size // config.patch) ** 2)
    block = 4 * d * (d + 1) + hidden * (d + 1) + d * (hidden + 1) + 4 * d
    head = 2 * d + config.num_classes * (d + 1)
    config = ViTConfig(**{**vars(config), "fused_qkv": fused})
    assert count(ViT, config) == embedding + tokens + config.depth * block + head


def test_mlp():
    assert count(MLP, MLPConfig(normalisation="none")) == 3073 * 512 + 2 * 513 * 512 + 513 * 10
    with_gains = count(MLP, MLPConfig())
    assert with_gains == count(MLP, MLPConfig(normalisation="layer"))
    assert with_gains - count(MLP, MLPConfig(normalisation="none")) == 2 * 3 * 512
    assert count(MLP, MLPConfig(hidden=())) == 3073 * 10
