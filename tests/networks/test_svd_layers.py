"""Factored layers: W = U diag(s) Vᵀ, exactly; cuts, states, counts; networks there and back."""

import copy
import io

import pytest
import torch
from torch import nn

from neurofb.feedback import Random, attach
from neurofb.networks import (
    ConvNetConfig,
    Factorised,
    MLPConfig,
    ResNetConfig,
    SVDConv2d,
    SVDLinear,
    VGGConfig,
    ViTConfig,
    factored_layers,
    factorise,
    fold,
)
from neurofb.networks.unfolding import Unfolding

CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1, "bias": False},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "uneven": {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 3)},
    "dilation": {"kernel_size": (3, 2), "dilation": (2, 3), "padding": (2, 1)},
    "same": {"kernel_size": (5, 3), "padding": "same", "dilation": (1, 2)},
    "valid": {"kernel_size": 2, "padding": "valid", "padding_mode": "reflect"},
    "1x1": {"kernel_size": 1, "stride": 2},
}
UNFOLDINGS = ("separable", "channel")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def close(a, b, tolerance=1e-12):
    assert a.shape == b.shape
    assert float((a - b).detach().norm()) <= tolerance * float(b.detach().norm())


@pytest.mark.parametrize("unfolding", UNFOLDINGS)
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_at_full_rank_a_factored_convolution_is_the_convolution(settings, unfolding):
    dense = nn.Conv2d(4, 6, **settings).double()
    layer = SVDConv2d.from_dense(dense, 1.0, unfolding)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    close(layer(x), dense(x))
    close(layer(x[0]), dense(x[0]))
    close(layer.dense_weight(), dense.weight)
    close(layer.to_dense()(x), dense(x))
    assert layer.rank == min(layer.matrix_shape)
    assert layer.num_dense == sum(p.numel() for p in dense.parameters())


@pytest.mark.parametrize("unfolding", UNFOLDINGS)
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_a_truncated_convolution_is_that_of_its_own_kernel(settings, unfolding):
    layer = SVDConv2d.from_dense(nn.Conv2d(4, 6, **settings).double(), 3, unfolding)
    with torch.no_grad():
        layer.s.mul_(torch.tensor([-1.0, 1.0, 2.0]))  # training may turn a sign
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    close(layer(x), layer.to_dense()(x))
    geometry = layer.geometry
    z = nn.functional.conv2d(x, geometry.first(layer.V), **geometry.first_map)
    assert z.shape == geometry.middle(x.shape, 3)


def test_at_full_rank_a_factored_linear_layer_is_the_layer():
    dense = nn.Linear(7, 5)
    layer = SVDLinear.from_dense(dense, 1.0)
    close(layer.dense_weight(), dense.weight, 1e-6)
    for factor in (layer.U, layer.V):  # orthonormal: the penalty ‖UᵀU − I‖² is zero
        gram = (factor.mT @ factor).detach()
        assert float((gram - torch.eye(5)).square().sum()) < 1e-8
    for shape in [(7,), (3, 7), (2, 3, 7)]:
        x = torch.randn(shape)
        close(layer(x), dense(x), 1e-5)
    close(layer.to_dense()(x), dense(x), 1e-5)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("unfolding", [None, *UNFOLDINGS])
def test_the_distance_to_the_dense_weight_is_that_of_eckart_and_young(unfolding, rank):
    if unfolding is None:
        dense = nn.Linear(9, 7).double()
        layer, matrix = SVDLinear.from_dense(dense, rank), dense.weight
    else:
        dense = nn.Conv2d(4, 7, 3).double()
        layer = SVDConv2d.from_dense(dense, rank, unfolding)
        matrix = layer.to_matrix(dense.weight)
    left = torch.linalg.svdvals(matrix.detach())[rank:].square().sum().sqrt()
    torch.testing.assert_close((layer.dense_weight() - dense.weight).norm(), left)
    full = type(layer).from_dense(dense, 1.0, *([unfolding] if unfolding else []))
    full.truncate(range(rank))  # a cut of the layer is the same
    torch.testing.assert_close((full.dense_weight() - dense.weight).norm(), left)


def test_the_unfolding_puts_columns_and_channels_where_the_paper_does():
    kernel = torch.arange(120.0).reshape(2, 3, 4, 5)
    separable = Unfolding(kernel_shape=(2, 3, 4, 5)).matrix(kernel)
    channel = Unfolding(kind="channel", kernel_shape=(2, 3, 4, 5)).matrix(kernel)
    for n in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    assert separable[n * 5 + x, c * 4 + y] == kernel[n, c, y, x]
                    assert channel[n, c * 20 + y * 5 + x] == kernel[n, c, y, x]


@pytest.mark.parametrize("make", [lambda: SVDLinear(6, 5, 4), lambda: SVDConv2d(3, 4, 3, 4)])
def test_a_cut_keeps_the_objects_and_the_next_step_runs(make):
    layer = make()
    x = torch.randn(2, 6) if isinstance(layer, SVDLinear) else torch.randn(2, 3, 5, 5)
    before = {name: (id(p), p.detach().clone()) for name, p in layer.named_parameters()}
    alive = layer(x).square().sum()  # a graph of before the cut that stays alive
    alive.backward()
    layer.truncate(torch.tensor([3, 1]))
    for name, (number, old) in before.items():
        own = layer.get_parameter(name)
        assert id(own) == number
        expected = old if name == "bias" else old[..., [3, 1]]
        assert torch.equal(own, expected)
        assert (own.grad is None) == (name != "bias")
    layer(x).square().sum().backward()
    assert layer.U.grad.shape == layer.U.shape
    torch.optim.Adam(layer.parameters()).step()
    assert torch.isfinite(layer(x)).all()


@pytest.mark.parametrize("keep", [[], [0, 0], [4], [-1]])
def test_a_cut_that_cannot_be_is_refused(keep):
    layer = SVDLinear(6, 5, 4)
    with pytest.raises(ValueError, match=r"keep=.* at least one of the components 0 to 3"):
        layer.truncate(keep)
    assert layer.rank == 4


def test_a_state_of_another_rank_is_taken():
    made = torch.Generator().manual_seed(1)
    small, large = SVDLinear(6, 5, 2, generator=made), SVDLinear(6, 5, 4, generator=made)
    for source, target in [(small, SVDLinear(6, 5, 4)), (large, SVDLinear(6, 5, 2))]:
        numbers = [id(p) for p in target.parameters()]
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True))
        assert [id(p) for p in target.parameters()] == numbers
        x = torch.randn(3, 6)
        assert torch.equal(target(x), source(x))
        target(x).sum().backward()
    with pytest.raises(RuntimeError, match="size mismatch"):
        SVDLinear(6, 5, 4).load_state_dict(SVDLinear(7, 5, 4).state_dict())


def test_the_start_follows_from_the_generator_and_ranks_are_checked():
    one, other = (
        SVDLinear(6, 5, 0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(one.U, other.U)
    assert one.rank == 2
    dense = nn.Linear(3, 2)
    state = torch.get_rng_state()
    twin = copy.deepcopy(one)
    SVDLinear.from_dense(dense, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert twin.U is not one.U
    for rank in (0, 6, 1.5, -0.1, 0.0, True):
        with pytest.raises(ValueError, match="must be an integer from 1 to 5, or a share"):
            SVDLinear(6, 5, rank)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        {"kernel_size": 4, "padding": "same"},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_a_convolution_that_has_no_such_factors_is_refused_by_name(settings):
    network = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(4, 6, **settings))
    with pytest.raises(ValueError, match=r"layer '1': layer=Conv2d.*cannot be factored"):
        factorise(network, 2)
    assert type(network[0]) is nn.Linear  # nothing was changed


NETWORKS = {
    "mlp": MLPConfig(image_size=12, in_channels=1, hidden=(8, 6)),
    "conv_net": ConvNetConfig(image_size=12, in_channels=1),
    "vgg": VGGConfig(image_size=12, in_channels=1, widths=(4, 4), layers_per_block=1, hidden=4),
    "resnet": ResNetConfig(image_size=12, in_channels=1),
    "resnet, projected shortcuts": ResNetConfig(image_size=12, in_channels=1, depth=18),
    "vit": ViTConfig(image_size=12, in_channels=1, dim=8, depth=2, heads=2),
}


@pytest.mark.parametrize("name", ["mlp", "conv_net", "vgg", "resnet", "vit"])
@pytest.mark.parametrize("unfolding", UNFOLDINGS)
def test_every_network_computes_the_same_at_full_rank_and_comes_back(name, unfolding):
    network = NETWORKS[name].build(0).double().eval()
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    expected = network(x)
    names = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    settings = Factorised(rank=1.0, unfolding=unfolding)
    assert settings.apply(network) is network
    assert list(factored_layers(network)) == names
    close(network(x), expected, 1e-10)
    fold(network)
    assert not factored_layers(network)
    close(network(x), expected, 1e-10)


def test_ranks_of_a_network_and_the_number_of_its_parameters():
    settings = MLPConfig(image_size=28, in_channels=1, hidden=(256, 256), normalisation="none")
    dense = settings.build(0)
    assert sum(p.numel() for p in dense.parameters()) == 269_322
    network = factorise(settings.build(0), 0.5)
    assert {n: m.rank for n, m in factored_layers(network).items()} == {
        "hidden_1": 128,
        "hidden_2": 128,
        "readout": 10,
    }
    assert sum(p.numel() for p in network.parameters()) == 202_104
    assert sum(layer.num_dense for layer in factored_layers(network).values()) == 269_322
    for name, layer in factored_layers(network).items():
        m, n = layer.matrix_shape
        own = sum(p.numel() for p in layer.parameters())
        assert own == layer.rank * (m + n + 1) + m, name
    cut = factorise(settings.build(0), 200, layers=("hidden_*", "readout"))
    assert [layer.rank for layer in factored_layers(cut).values()] == [200, 200, 10]


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("unfolding", UNFOLDINGS)
def test_folding_a_truncated_network_changes_no_logit(dense, unfolding):
    network = ConvNetConfig(image_size=12, in_channels=1).build(0).double().eval()
    factorise(network, 0.2, unfolding=unfolding, last_rank=3)
    x = torch.randn(3, 1, 12, 12, dtype=torch.float64)
    expected, size = network(x), sum(p.numel() for p in network.parameters())
    fold(network, dense=dense)
    close(network(x), expected, 1e-10)
    plain = [type(m) for m in network.modules() if isinstance(m, nn.Sequential)]
    assert bool(plain) == (not dense)
    assert (sum(p.numel() for p in network.parameters()) > size) == dense


def test_what_cannot_be_factorised_is_named():
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"layers: 'x\*' matches no linear layer .*: 0$"):
        factorise(network, 1, layers=("x*",))
    with pytest.raises(ValueError, match="those are: none"):
        factorise(network[0], 1)
    with pytest.raises(ValueError, match="network is itself a factored layer"):
        fold(SVDLinear(3, 2, 1))
    for carrier, other in (("0", "2"), ("2", "0")):
        carries = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
        attach(carries, {carrier: Random()})
        message = rf"layer '{carrier}' carries a pathway .*neurofb\.feedback\.detach\(network\)"
        with pytest.raises(ValueError, match=message):
            factorise(carries, 1)
        assert type(carries.get_submodule(other)) is nn.Linear
    for name, value in [("rank", 0), ("last_rank", 1.5), ("rank", True)]:
        with pytest.raises(ValueError, match=f"{name}={value} must be"):
            Factorised(**{name: value})
    with pytest.raises(ValueError, match=r"layers=\(\) must be a tuple"):
        Factorised(layers=())


def test_a_layer_that_stands_twice_is_factored_once():
    shared = nn.Linear(4, 4)
    network = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.Linear(4, 2))})
    factorise(network, 2)
    assert network["a"] is network["b"][0]
    assert isinstance(network["a"], SVDLinear)


@pytest.mark.parametrize("frozen", [False, True])
def test_bias_mode_and_what_learns_are_taken_over(frozen):
    dense = nn.Linear(4, 3).eval()
    dense.weight.requires_grad_(not frozen)
    layer = SVDLinear.from_dense(dense, 2)
    assert torch.equal(layer.bias, dense.bias)
    assert not layer.training
    assert layer.U.requires_grad is layer.s.requires_grad is not frozen
    assert layer.bias.requires_grad
    assert layer.to_dense().weight.requires_grad is not frozen


def test_autocast_and_bfloat16():
    layer, conv = SVDLinear(6, 5, 3), SVDConv2d(3, 4, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 6)).dtype == torch.bfloat16
        assert conv(torch.randn(2, 3, 5, 5)).dtype == torch.bfloat16
