"""Parameters, operations and memory of factored layers, against counts of networks that run."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neurofb.measures import factor_cost
from neurofb.networks import (
    ConvNetConfig,
    Factorised,
    MLPConfig,
    SVDConv2d,
    SVDLinear,
    VGGConfig,
    ViTConfig,
    factored_layers,
)

MLP = MLPConfig(image_size=28, in_channels=1, hidden=(256, 256), normalisation="none")
NETWORKS = {
    "mlp": MLPConfig(image_size=12, in_channels=1, hidden=(20, 16)),
    "conv_net": ConvNetConfig(image_size=13, in_channels=2),
    "vgg": VGGConfig(image_size=12, in_channels=1, widths=(4, 6), layers_per_block=1, hidden=5),
}


def test_the_numbers_of_the_mlp_of_the_paper():
    cost = factor_cost(MLP, Factorised(rank=0.5))
    assert cost["rank"].values.tolist() == [128, 128, 10]
    assert cost.break_even_rank.values == pytest.approx([192.8, 127.75, 9.588], abs=0.01)
    assert cost.parameters_factored.sum() == 202_104
    assert cost.parameters_dense.sum() == 269_322
    linear = 128 * (784 + 256) + 128, 128 * 512 + 128, 10 * 266 + 10
    assert cost.macs_factored.values.tolist() == list(linear)
    assert cost.activations_factored.values.tolist() == [784 + 128, 256 + 128, 256 + 10]
    assert cost.other_parameters == 0
    low = factor_cost(MLP, Factorised(rank=0.1, last_rank=10))
    assert low.parameters_factored.sum() == 25 * 1041 + 256 + 25 * 513 + 256 + 10 * 267 + 10
    assert low.parameters_factored.sum() == 42_042


@pytest.mark.parametrize("rows", [192, 193])
def test_at_the_break_even_rank_the_factors_begin_to_cost_more(rows):
    cost = factor_cost(MLP, Factorised(rank=rows, layers=("hidden_1",))).isel(layer=0)
    assert (rows < float(cost.break_even_rank)) == bool(
        cost.parameters_factored < cost.parameters_dense
    )


@pytest.mark.parametrize("unfolding", ["separable", "channel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_that_torch_counts(name, unfolding):
    settings, how = NETWORKS[name], Factorised(rank=0.4, unfolding=unfolding)
    cost = factor_cost(settings, how)
    network = how.apply(settings.build(0))
    x = torch.randn(1, settings.in_channels, settings.image_size, settings.image_size)
    layers = factored_layers(network)
    assert list(cost.layer.values) == list(layers)
    seen = {}

    def note(module, inputs, output):
        seen[module] = inputs[0], output

    for layer in layers.values():
        layer.register_forward_hook(note)
    network.eval()(x)
    for number, (key, layer) in enumerate(layers.items()):
        own = cost.sel(layer=key)
        assert own.parameters_factored == sum(p.numel() for p in layer.parameters())
        assert own.parameters_dense == layer.num_dense
        h = seen[layer][0].detach().requires_grad_(number > 0)
        rest = layer.rank if isinstance(layer, SVDLinear) else 0
        with FlopCounterMode(display=False) as counter:
            out = layer(h)
        assert counter.get_total_flops() == 2 * (own.macs_factored - rest)
        with FlopCounterMode(display=False) as counter:
            layer(h).backward(torch.ones_like(out))
        assert counter.get_total_flops() == 2 * (own.training_macs_factored - 3 * rest)
        dense = layer.to_dense()
        with FlopCounterMode(display=False) as counter:
            dense(h).backward(torch.ones_like(out))
        assert counter.get_total_flops() == 2 * own.training_macs_dense
        middle = layer.rank
        if isinstance(layer, SVDConv2d):
            middle = math.prod(layer.geometry.middle(h.shape, layer.rank))
        assert own.activations_factored == h.numel() + middle
        assert own.activations_dense == h.numel()


def test_tokens_other_parameters_and_layers_that_stay_dense():
    settings = ViTConfig(image_size=12, in_channels=1, dim=8, depth=1, heads=2)
    network = settings.build(0)
    cost = factor_cost(settings, Factorised(rank=2, layers=("blocks.*.mlp.*",)))
    chosen = [name for name in cost.layer.values if ".mlp." in name]
    assert len(chosen) == 2
    assert cost["rank"].sel(layer=chosen).values.tolist() == [2, 2]
    rest = cost.drop_sel(layer=chosen)
    assert rest["rank"].isnull().all()
    for name in ("parameters", "macs", "training_macs", "activations"):
        assert (rest[f"{name}_dense"] == rest[f"{name}_factored"]).all()
    tokens = 1 + (12 // 4) ** 2
    expand = cost.sel(layer="blocks.0.mlp.expand")
    assert expand.macs_dense == tokens * 8 * 16
    assert expand.macs_factored == tokens * 2 * (8 + 16 + 1)
    other = sum(
        p.numel()
        for module in network.modules()
        if not isinstance(module, nn.Linear | nn.Conv2d)
        for p in module.parameters(recurse=False)
    )
    assert cost.other_parameters == other > 0


def test_everything_is_labelled_and_a_pattern_that_fits_nothing_is_refused():
    cost = factor_cost(MLP, Factorised())
    for found in (*cost.data_vars.values(), cost.layer):
        assert found.attrs["units"] == "1"
        assert found.attrs["long_name"]
    with pytest.raises(ValueError, match="layers: 'conv' matches no linear layer"):
        factor_cost(MLP, Factorised(layers=("conv",)))
