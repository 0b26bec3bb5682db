"""What is particular to each network: refusals, and the forward pass written out once more."""

import copy
import dataclasses
from typing import get_args

import pytest
import torch
from torch.nn import functional

from neurofb.networks import ConvNetConfig, MLPConfig, ResNetConfig, VGGConfig, ViTConfig
from neurofb.networks.normalisation import Normalisation
from neurofb.networks.resnet import ResidualBlock
from neurofb.networks.vit import TransformerBlock

VIT = ViTConfig(image_size=8, in_channels=1, dim=12, depth=2, heads=3, dropout=0.0, drop_path=0.0)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (MLPConfig(), {"hidden": (8, 0)}, r"hidden=\(8, 0\) must hold integers >= 1"),
        (
            MLPConfig(),
            {"normalisation": "local"},
            r"'local' must be one of none, batch, layer, group",
        ),
        (MLPConfig(), {"initialisation": "he_uniform"}, r"'he_uniform' must be one of torch, glo"),
        (MLPConfig(), {"activation": "gelu"}, "'gelu' must be one of relu, tanh, linear"),
        (MLPConfig(), {"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
        (MLPConfig(), {"num_classes": 1}, r"num_classes=1 must be an integer >= 2"),
        (VGGConfig(), {"widths": ()}, r"widths=\(\) must name at least one block"),
        (VGGConfig(), {"widths": (4, -1)}, r"widths=\(4, -1\) must hold integers >= 1"),
        (VGGConfig(), {"layers_per_block": 0}, r"layers_per_block=0 must be an integer >= 1"),
        (VGGConfig(), {"hidden": 0}, r"hidden=0 must be an integer >= 1"),
        (VGGConfig(), {"image_size": 7}, r"image_size=7 must be at least 8 for 4 blocks"),
        (
            VGGConfig(),
            {"normalisation": "mean"},
            r"normalisation='mean' must be one of none, batch",
        ),
        (ConvNetConfig(), {"channels": (4, 0)}, r"channels=\(4, 0\) must hold integers >= 1"),
        (ConvNetConfig(), {"channels": (), "strides": ()}, r"channels=\(\) must name at least one"),
        (ConvNetConfig(), {"strides": (2, 1)}, r"strides=\(2, 1\) must have as many entries as"),
        (ConvNetConfig(), {"strides": (0,) * 5}, r"strides=\(0, .*\) must hold integers >= 1"),
        (ConvNetConfig(), {"kernel_size": 4}, r"kernel_size=4 must be odd"),
        (ConvNetConfig(), {"normalisation": "mean"}, r"normalisation='mean' must be one of none"),
        (ConvNetConfig(), {"initialisation": "he_"}, r"initialisation='he_' must be one of torch"),
        (ResNetConfig(), {"depth": 34}, r"depth=34 must be one of 8, 18, 20, 32, 56"),
        (ResNetConfig(), {"normalisation": "mean"}, r"normalisation='mean' must be one of none"),
        (ResNetConfig(), {"in_channels": 0}, r"in_channels=0 must be an integer >= 1"),
        (ViTConfig(), {"patch": 5}, r"patch=5 must divide image_size=32"),
        (ViTConfig(), {"heads": 7}, r"heads=7 must divide dim=384"),
        (ViTConfig(), {"depth": 0}, r"depth=0 must be an integer >= 1"),
        (ViTConfig(), {"mlp_ratio": 0.0}, r"mlp_ratio=0.0 must give at least one hidden unit"),
        (ViTConfig(), {"mlp_ratio": float("nan")}, r"mlp_ratio=nan must give at least one"),
        (ViTConfig(), {"drop_path": -0.1}, r"drop_path=-0.1 must be in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_named(config, settings, message):
    changed = copy.copy(config)
    for name, value in settings.items():  # past the tests' type checks
        object.__setattr__(changed, name, value)
    with pytest.raises(ValueError, match=message):
        changed.__post_init__()


def test_vgg_halves_the_maps_between_blocks_only():
    network = VGGConfig(image_size=28, widths=(2, 3, 4), hidden=5).build(seed=0).eval()
    sizes = []
    for name in ("conv_1_1", "conv_1_2", "conv_2_1", "conv_3_2"):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: sizes.append(output.shape[-1])
        )
    network(torch.zeros(1, 3, 28, 28))
    assert sizes == [28, 28, 14, 7]


def test_conv_net_written_out():
    config = ConvNetConfig(image_size=9, in_channels=2, channels=(3, 4), strides=(2, 1))
    network, h = config.build(seed=0), torch.randn(5, 2, 9, 9)
    logits = network(h)
    for i, (stride, size) in enumerate(((2, 5), (1, 5)), start=1):
        a = functional.conv2d(
            h, network.get_parameter(f"conv_{i}.weight"), stride=stride, padding=1
        )
        mean, variance = a.mean((0, 2, 3), keepdim=True), a.var((0, 2, 3), False, keepdim=True)
        h = torch.relu((a - mean) / (variance + 1e-5).sqrt())
        assert h.shape[-1] == size
    readout = network.readout
    torch.testing.assert_close(logits, h.mean((2, 3)) @ readout.weight.T + readout.bias)


@pytest.mark.parametrize("make", [VGGConfig, ConvNetConfig, ResNetConfig])
@pytest.mark.parametrize("kind", get_args(Normalisation))
def test_convolutions_have_biases_only_without_normalisation(make, kind):
    with torch.device("meta"):
        network = make(normalisation=kind).build(seed=0)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) >= 5
    assert {layer.bias is not None for layer in convolutions} == {kind == "none"}
    shifts = [n for n, _ in network.named_parameters() if "norm" in n and n.endswith("bias")]
    assert len(shifts) == (0 if kind == "none" else len(convolutions))


def test_a_residual_block_of_zero_kernels_is_its_shortcut():
    block = ResidualBlock(3, 5, stride=2, projects=False).eval()
    for kernel in (block.conv_1.weight, block.conv_2.weight):
        torch.nn.init.zeros_(kernel)
    h = torch.rand(2, 3, 7, 7)
    out = block(h)
    torch.testing.assert_close(out[:, :3], h[:, :, [0, 2, 4, 6]][..., [0, 2, 4, 6]])
    assert not out[:, 3:].any()


@pytest.mark.parametrize(("depth", "projections"), [(18, [2, 4, 6]), (20, [])])
def test_where_shortcuts_are_projections(depth, projections):
    with torch.device("meta"):
        blocks = ResNetConfig(depth=depth).build(seed=0).blocks
    assert [i for i, block in enumerate(blocks) if block.projects] == projections


def test_vit_written_out():
    network = VIT.build(seed=0).eval()
    images = torch.randn(2, 1, 8, 8)
    embedding = network.patch_embedding
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).reshape(2, 4, 16)
    tokens = patches @ embedding.weight.reshape(12, 16).T + embedding.bias
    tokens = torch.cat([network.class_token.repeat(2, 1, 1), tokens], 1) + network.positions
    for block in network.blocks:
        h = functional.layer_norm(tokens, (12,), eps=1e-6)
        q, k, v = block.attention.qkv(h).reshape(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
        weights = (torch.einsum("bhid,bhjd->bhij", q, k) / 2).softmax(-1)
        h = torch.einsum("bhij,bhjd->bihd", weights, v).reshape(2, 5, 12)
        tokens = tokens + block.attention.projection(h)
        h = functional.layer_norm(tokens, (12,), eps=1e-6)
        tokens = tokens + block.mlp.contract(functional.gelu(block.mlp.expand(h)))
    logits = network.readout(functional.layer_norm(tokens, (12,), eps=1e-6)[:, 0])
    torch.testing.assert_close(network(images), logits)


def test_fused_and_separate_maps_are_the_same_attention():
    fused = VIT.build(seed=0)
    separate = dataclasses.replace(VIT, fused_qkv=False).build(seed=1)
    state = fused.state_dict()
    for name in [name for name in state if ".qkv." in name]:
        for one, part in zip("qkv", state.pop(name).chunk(3), strict=True):
            state[name.replace("qkv", one)] = part
    separate.load_state_dict(state)
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(separate(images), fused(images))


def test_drop_path_leaves_out_whole_branches_and_keeps_the_mean():
    block = TransformerBlock(VIT, drop_path=0.25)
    ones = torch.ones(4000, 3, 12)
    kept = block._sometimes(ones)
    assert {round(value, 4) for value in kept.unique().tolist()} == {0.0, 1.3333}
    assert (kept == kept[:, :1, :1]).all()
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)
    assert block.eval()._sometimes(ones) is ones


def test_drop_path_rises_over_the_blocks():
    network = dataclasses.replace(VIT, depth=5, drop_path=0.2).build(seed=0)
    rates = [block.drop_path for block in network.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


def test_activations_of_an_mlp():
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    settings = {"image_size": 4, "in_channels": 1, "hidden": (5, 6), "normalisation": "none"}
    functions = {"relu": torch.relu, "tanh": torch.tanh, "linear": lambda a: a}
    for name, function in functions.items():
        net = MLPConfig(**settings, activation=name).build(seed=0).double()
        first, second, last = net.hidden_1, net.hidden_2, net.readout
        expected = last(function(second(function(first(x.flatten(1))))))
        assert torch.equal(net(x), expected), name
