from types import ModuleType

import pytest
import torch
from torch import nn

from neurofb.feedback import FactoredKolenPollack, LowRank, attach
from neurofb.training import Optimiser
from neurofb.training.optimisers import set_learning_rates


def groups(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        group["name"]: {names[id(parameter)] for parameter in group["params"]}
        for group in optimiser.param_groups
    }


def test_decay_acts_where_it_is_told(tiny: ModuleType):
    network = tiny.tiny_network(pathway=False)
    every = {name for name, _ in network.named_parameters()}
    kernels = {f"{layer}.weight" for layer in ("retina_1", "retina_2", "vvs_1", "vvs_2")}
    weights = {name for name in every if name.endswith("weight")}
    for decay_on, expected in (("conv", kernels), ("weights", weights), ("all", every)):
        optimiser = Optimiser(weight_decay=0.1, decay_on=decay_on).build(network)
        found = groups(optimiser, network)
        assert found["weights"] == expected
        assert found.get("no_decay", set()) == every - expected
        decays = {group["name"]: group["weight_decay"] for group in optimiser.param_groups}
        assert decays["weights"] == 0.1
        assert decays.get("no_decay", 0.0) == 0.0


def test_pathways_have_a_group_of_their_own(tiny: ModuleType):
    network = tiny.tiny_network(pathway=False)
    attach(network, {"vvs_1": LowRank(rank=1, learning=FactoredKolenPollack())})
    feedback = {"vvs_1.pathway.Q", "vvs_1.pathway.P"}
    same = Optimiser(learning_rate=0.1, weight_decay=0.5).build(network)
    assert groups(same, network)["pathways"] == feedback
    assert not groups(same, network)["weights"] & feedback
    assert same.param_groups[-1]["base_rate"] == 0.1
    assert same.param_groups[-1]["weight_decay"] == 0.5
    own = Optimiser(
        learning_rate=0.1, weight_decay=0.5, pathway_learning_rate=0.2, pathway_weight_decay=0.0
    ).build(network)
    set_learning_rates(own, 0.5)
    rates = {group["name"]: group["lr"] for group in own.param_groups}
    assert rates == {"weights": 0.05, "no_decay": 0.05, "pathways": 0.1}
    assert own.param_groups[-1]["weight_decay"] == 0.0


ALL = [name for name in dir(torch.optim) if isinstance(getattr(torch.optim, name), type)]
REFUSED = {"LBFGS", "Optimizer", "SparseAdam"}


@pytest.mark.parametrize("name", sorted({*ALL} - REFUSED))
def test_any_optimiser_of_torch_makes_a_step(tiny: ModuleType, name: str):
    network = tiny.tiny_network(pathway=False)
    before = network.readout.weight.detach().clone()
    optimiser = Optimiser(name=name, learning_rate=0.1).build(network)
    network(torch.ones(1, 1, 8, 8)).sum().backward()
    optimiser.step()
    assert not torch.equal(before, network.readout.weight)


@pytest.mark.parametrize("name", sorted({*ALL} & REFUSED))
def test_the_others_are_refused_by_name(tiny: ModuleType, name: str):
    with pytest.raises(ValueError, match=name):
        Optimiser(name=name).build(tiny.tiny_network(pathway=False))


def test_options_reach_the_class_and_fused_can_be_turned_off(tiny: ModuleType):
    network = tiny.tiny_network(pathway=False)
    options: dict[str, float | tuple[float, ...]] = {"betas": (0.8, 0.9), "eps": 1e-7}
    group = Optimiser(options=options).build(network).param_groups[0]
    assert (group["betas"], group["eps"], group["fused"]) == ((0.8, 0.9), 1e-7, True)
    assert not Optimiser(options={"fused": False}).build(network).param_groups[0]["fused"]


def test_frozen_parameters_are_left_out(tiny: ModuleType):
    network = tiny.tiny_network(pathway=False)
    network.retina_1.requires_grad_(False)
    found = groups(Optimiser().build(network), network)
    assert not {"retina_1.weight", "retina_1.bias"} & set().union(*found.values())
    with pytest.raises(ValueError, match=r"nothing to train"):
        Optimiser().build(network.requires_grad_(False))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "Adem"},
            r"name='Adem' is no optimiser of torch.optim or ours; try AdamW, SGD, Muon",
        ),
        ({"name": "Optimizer"}, r"name='Optimizer' is no optimiser"),
        ({"name": "lr_scheduler"}, r"name='lr_scheduler' is no optimiser"),
        ({"name": "LBFGS"}, r"name='LBFGS' cannot be used here: it needs a closure"),
        ({"options": {"bettas": 0.9}}, r"options\['bettas'\] is no option of AdamW; it has params"),
        ({"options": {"lr": 0.1}}, r"options\['lr'\] is no option"),
        (
            {"name": "Muon", "options": {"scale": "big"}},
            r"^Muon with .*: scale='big' must be one of",
        ),
        ({"name": "Muon", "options": {"momentum": "a"}}, r"^Muon with options=\{'momentum': 'a'\}"),
        ({"name": "Muon", "options": {"betas": (0.9,)}}, r"betas=\(0.9,\) must be two numbers"),
        (
            {"name": "RankControlled", "options": {"mode": "truncate"}},
            r"rank=None must be an integer >= 1 for mode='truncate'",
        ),
        ({"learning_rate": -1.0}, r"learning_rate=-1.0 must be a finite number >= 0"),
        ({"pathway_weight_decay": float("nan")}, r"pathway_weight_decay=nan must be a finite"),
        ({"name": "Rprop", "weight_decay": 0.1}, r"weight_decay=0.1: Rprop has no weight decay"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Optimiser(**settings)


def test_values_that_the_class_refuses_are_an_error_of_ours(tiny: ModuleType):
    with pytest.raises(ValueError, match=r"AdamW with options=\{'eps': -1.0\}: Invalid epsilon"):
        Optimiser(options={"eps": -1.0}).build(tiny.tiny_network(pathway=False))
