"""Which parameters are matrices for an optimiser that treats these apart, and their groups."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.networks import MLPConfig, ResNetConfig, RetinaVVSConfig, VGGConfig, ViTConfig
from neurofb.networks.svd_layers import SVDLinear
from neurofb.training import (
    Muon,
    Optimiser,
    split_params,
)
from neurofb.training.optimisers import set_learning_rates

NETWORKS = {
    "mlp": MLPConfig(image_size=6, in_channels=1, num_classes=3, hidden=(8, 7)),
    "vgg": VGGConfig(image_size=8, in_channels=1, num_classes=3, widths=(4, 6), hidden=5),
    "vit": ViTConfig(image_size=8, in_channels=1, patch=4, dim=8, depth=1, heads=2),
    "resnet": ResNetConfig(image_size=8, in_channels=1, num_classes=3),
    "retina": RetinaVVSConfig(
        image_size=8, num_classes=3, kernel_size=3, retina_width=4, vvs_width=4, hidden=5
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_split_of_every_network(name: str):
    network = NETWORKS[name].build(0)
    matrices, others = split_params(network)
    assert {*matrices}.isdisjoint(others)
    assert {*matrices, *others} == {*network.parameters()}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    modules = {names[id(p)].rpartition(".")[0] for p in matrices}
    plain = {n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert modules == plain - {"readout"}
    assert {"class_token", "positions"} & {*names.values()} <= {names[id(p)] for p in others}
    Muon([{"params": matrices}, {"params": others, "matrix": False}])


def test_the_split_in_odd_cases():
    embedding, tied = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    tied.weight = embedding.weight
    attention = nn.MultiheadAttention(4, 2)
    net = nn.Sequential(embedding, attention, tied, SVDLinear(5, 5, 2), nn.Linear(5, 2))
    matrices, others = split_params(net)
    factors = net[3].U, net[3].V
    assert [*matrices] == [attention.in_proj_weight, attention.out_proj.weight, *factors]
    assert any(p is embedding.weight for p in others)
    assert any(p is net[4].weight for p in others)
    assert any(p is net[4].weight for p in split_params(net, last="3")[0])
    assert any(p is net[3].U for p in split_params(net, last="3")[1])
    assert any(p is net[4].weight for p in split_params(net, last="")[0])
    net[4].requires_grad_(False)
    assert not {net[4].weight} & {*split_params(net)[1]}
    assert split_params(nn.BatchNorm1d(3))[0] == []
    with pytest.raises(ValueError, match=r"last='5' must be one of the layers 1.out_proj, 2, 3, 4"):
        split_params(net, last="5")


def of(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, tuple[set, float]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        group["name"]: ({names[id(p)] for p in group["params"]}, group["base_rate"])
        for group in optimiser.param_groups
    }


def make(learning: Any, seed: int = 0) -> nn.Module:
    network = NETWORKS["mlp"].build(seed)
    return fb.attach(network, {"hidden_2": learning, "readout": learning})


def test_groups_and_rates():
    network = make(fb.Random(learning=fb.KolenPollack()))
    settings: dict[str, Any] = {"name": "Muon", "learning_rate": 0.1, "decay_on": "weights"}
    muon = Optimiser(**settings, weight_decay=0.5, other_learning_rate=1e-3).build(network)
    hidden = {"hidden_1.weight", "hidden_2.weight"}
    vectors = {n for n, p in network.named_parameters() if p.dim() == 1}
    assert of(muon, network) == {
        "weights": (hidden, 0.1),
        "pathways": ({"hidden_2.pathway.B"}, 0.1),
        "other_weights": ({"readout.weight"}, 1e-3),
        "others": (vectors, 1e-3),
        "other_pathways": ({"readout.pathway.B"}, 1e-3),
    }
    decays = {group["name"]: group["weight_decay"] for group in muon.param_groups}
    assert decays == {name: 0.5 * (name != "others") for name in decays}
    set_learning_rates(muon, 0.5)
    assert [group["lr"] for group in muon.param_groups] == [0.05, 0.05, 5e-4, 5e-4, 5e-4]
    network = make(fb.LowRank(rank=2))
    found = of(Optimiser(**settings, pathway_learning_rate=0.2).build(network), network)
    factors = {f"{layer}.pathway.{m}" for layer in ("hidden_2", "readout") for m in "QP"}
    assert found["other_pathways"] == (factors, 0.2)
    assert found["others"][1] == found["weights"][1] == 0.1
    assert "pathways" not in found


def test_factors_of_a_weights_shape_are_no_matrices():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    fb.attach(network, {"1": fb.LowRank(rank=4)})
    matrices, _ = split_params(network)
    assert [*matrices] == [network[0].weight, network[1].weight]


@pytest.mark.parametrize("name", ["Muon", "RankControlled"])
@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_kolen_pollack_stays_exact(name: str, decay: float):
    network = make(fb.Random(learning=fb.KolenPollack())).double()
    own: dict[str, Any] = {
        "Muon": {"ns_dtype": "float64"},
        "RankControlled": {"mode": "truncate", "rank": 2, "momentum": 0.0},
    }
    optimiser = Optimiser(
        name=name,
        learning_rate=0.05,
        other_learning_rate=0.01,
        weight_decay=decay,
        decay_on="weights",
        options=own[name],
    ).build(network)
    layers = dict(fb.feedback_layers(network))

    def gaps() -> dict[str, Tensor]:
        return {n: (m.pathway.B - m.weight).detach().clone() for n, m in layers.items()}

    start, images = gaps(), torch.randn(12, 1, 6, 6, dtype=torch.float64)
    weights = {n: m.weight.detach().clone() for n, m in layers.items()}
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), torch.arange(12) % 3).backward()
        optimiser.step()
    for layer, gap in gaps().items():
        rate = 0.05 if layer == "hidden_2" else 0.01
        assert float((layers[layer].weight.detach() - weights[layer]).abs().max()) > 1e-3
        if decay and name == "RankControlled":
            continue  # its decay is part of what is truncated: no law
        torch.testing.assert_close(gap, (1 - rate * decay) ** 5 * start[layer])
