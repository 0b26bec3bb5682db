"""What holds for every network, in small; a new one is one line in `SMALL`."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb.feedback import LowRank, attach
from neurofb.feedback.trace import trace
from neurofb.networks import (
    ConvNetConfig,
    MLPConfig,
    ResNetConfig,
    RetinaVVSConfig,
    VGGConfig,
    ViTConfig,
)

SMALL = {
    "mlp": MLPConfig(hidden=(8, 6), dropout=0.2),
    "mlp, layer norm": MLPConfig(hidden=(8, 6), normalisation="layer"),
    "mlp, no norm": MLPConfig(hidden=(8,), normalisation="none"),
    "mlp, group norm": MLPConfig(hidden=(8,), normalisation="group", initialisation="he_normal"),
    "mlp, tanh": MLPConfig(hidden=(8,), normalisation="none", activation="tanh"),
    "mlp, linear": MLPConfig(hidden=(8,), normalisation="none", activation="linear"),
    "mlp, centred": MLPConfig(hidden=(8,), normalisation="centre"),
    "vgg": VGGConfig(widths=(2, 3, 4, 5), hidden=6),
    "vgg, layer norm": VGGConfig(widths=(2, 4), hidden=6, normalisation="layer"),
    "conv_net": ConvNetConfig(channels=(2, 4, 4), strides=(2, 1, 2)),
    "conv_net, no norm": ConvNetConfig(channels=(2, 4), strides=(2, 3), normalisation="none"),
    "conv_net, group norm": ConvNetConfig(channels=(2, 4), strides=(1, 2), normalisation="group"),
    "conv_net, centred": ConvNetConfig(channels=(2, 4), strides=(1, 2), normalisation="centre"),
    "resnet, depth 8": ResNetConfig(depth=8),
    "resnet, no norm": ResNetConfig(depth=8, normalisation="none"),
    "resnet, group norm, shortcuts projected": ResNetConfig(depth=18, normalisation="group"),
    "resnet, shortcuts without parameters": ResNetConfig(depth=20),
    "resnet, shortcuts projected": ResNetConfig(depth=18),
    "retina_vvs": RetinaVVSConfig(kernel_size=3, retina_width=3, bottleneck=2, hidden=5),
    "vit": ViTConfig(dim=8, depth=2, heads=2),
    "vit, separate q k v": ViTConfig(dim=8, depth=2, heads=2, fused_qkv=False, dropout=0.0),
}
LINEAR = (nn.Linear, nn.Conv2d)


@pytest.fixture(params=SMALL, name="config")
def config_fixture(request):
    return dataclasses.replace(SMALL[request.param], image_size=28, in_channels=1)


def images(config, num=2):
    return torch.randn(num, config.in_channels, config.image_size, config.image_size)


@pytest.mark.parametrize(("image_size", "in_channels"), [(28, 1), (32, 3)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SMALL)
def test_shape_of_the_logits(name, image_size, in_channels, training):
    config = dataclasses.replace(
        SMALL[name], image_size=image_size, in_channels=in_channels, num_classes=7
    )
    logits = config.build(seed=0).train(training)(images(config, 3))
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()


def test_weights_follow_from_the_seed_alone(config):
    state = torch.get_rng_state()
    one, other, third = config.build(seed=3), config.build(seed=3), config.build(seed=4)
    assert torch.equal(state, torch.get_rng_state())
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        assert torch.isfinite(value).all(), name
    for name, module in one.named_modules():
        if isinstance(module, LINEAR):
            assert not torch.equal(module.weight, third.get_submodule(name).weight), name


def test_evaluation_draws_nothing(config):
    network, batch = config.build(seed=0).eval(), images(config)
    state = torch.get_rng_state()
    first = network(batch)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(network(batch), first)


def test_every_linear_map_is_a_module_that_runs_once(config):
    network = config.build(seed=0)
    calls = trace(network, images(config))
    linear = [name for name, module in network.named_modules() if isinstance(module, LINEAR)]
    assert [calls[name].count for name in linear] == [1] * len(linear)
    functions = []

    class Count(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (functional.linear, torch.conv2d, torch.matmul, torch.Tensor.matmul):
                functions.append(func)
            return func(*args, **(kwargs or {}))

    with Count():
        network(images(config))
    assert len(functions) == len(linear)


def test_layers_run_in_the_order_of_their_names(config):
    network = config.build(seed=0)
    calls = trace(network, images(config))
    linear = [name for name, module in network.named_modules() if isinstance(module, LINEAR)]
    assert linear[-1] == "readout"
    positions = [calls[name].position for name in linear if "shortcut" not in name]
    assert positions == sorted(positions)


def test_pathways_on_every_layer_leave_the_forward_pass_as_it_was(config):
    network, batch = config.build(seed=0).eval(), images(config)
    plain = network(batch)
    attach(network, {"*": LowRank(rank=1, clip_rank=True)}, example_input=batch)
    assert torch.equal(network(batch), plain)
    functional.cross_entropy(network(batch), torch.tensor([0, 1])).backward()
    for name, parameter in network.named_parameters():
        if ".pathway." not in f".{name}":
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_every_parameter_is_taught(config):
    network = config.build(seed=0)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    functional.cross_entropy(network(images(config, 4)), torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        if name.endswith("attention.k.bias"):  # softmax does not see it
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        assert parameter.is_leaf


def test_double_precision(config):
    network = config.build(seed=0).double().eval()
    assert network(images(config).double()).dtype == torch.float64
