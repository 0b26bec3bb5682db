"""SVD-space pathways as settings: runs of factored networks, tables, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.build import build, load_network, num_parameters, pathways_of
from neurofb.config import Measurement, change, from_json, replace, to_json
from neurofb.feedback.stacked import why_not_stacked
from neurofb.networks import ConvNetConfig, Factorised, SVDLinear, factored_layers, factorise
from neurofb.recipes import call_recipe
from neurofb.run import run

MLP = replace(
    call_recipe(f"{Path(__file__).parents[1] / 'tiny_recipes.py'}::mlp"),
    factorised=Factorised(rank=0.5),
    measurement=Measurement(layers=()),
)
SPECS = {
    "ssa_fa": fb.SVDSpace(),
    "ssa_dfa": fb.SVDSpaceDirect(match_energy=True),
    "fa": fb.Random(),
    "svd_bp": fb.Exact(),
}


def settings(spec, **parts):
    layers = ("hidden_2", "readout")
    return replace(MLP, feedback=spec, feedback_layers=layers, **parts)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_factored_run_trains_and_is_opened_again(spec, tmp_path):
    config = settings(spec)
    assert from_json(to_json(config)) == config
    tree = run(config, tmp_path / "run", progress=False)
    network = load_network(tmp_path / "run")
    ranks = {name: layer.rank for name, layer in factored_layers(network).items()}
    assert ranks == {"hidden_1": 4, "hidden_2": 4, "readout": 8}
    count = sum(r * (m + n + 1) for r, m, n in [(4, 8, 144), (4, 8, 8), (8, 10, 8)])
    norms = num_parameters(config.network.build(0)) - 144 * 8 - 8 * 8 - 8 * 10
    assert int(tree["num_parameters"]) == num_parameters(network) == count + norms
    assert set(fb.fired(network).values()) == {config.training.num_steps}
    again = run(config, progress=False)
    assert float(again["test_loss"]) == float(tree["test_loss"])
    fresh = build(config, config.data.load())
    for name, layer in factored_layers(network).items():
        assert not torch.equal(layer.U, fresh.get_submodule(name).U), name


@pytest.mark.parametrize("unfolding", ["separable", "channel"])
@pytest.mark.parametrize("spatial", [None, "flat", "broadcast"])
def test_a_convolutional_run_trains(unfolding, spatial):
    spec = fb.SVDSpace() if spatial is None else fb.SVDSpaceDirect(spatial=spatial)
    network = ConvNetConfig(image_size=12, in_channels=1, channels=(4, 6, 6), strides=(2, 1, 2))
    config = replace(
        settings(spec, network=network),
        feedback_layers=("conv_2", "conv_3", "readout"),
        factorised=Factorised(rank=0.5, unfolding=unfolding),
    )
    tree = run(config, progress=False)
    assert np.isfinite(float(tree["test_loss"]))


def test_the_factors_are_a_setting_like_the_others():
    plain = replace(MLP, factorised=None, feedback_layers=(), feedback=fb.Exact())
    config = change(plain, {"factorised": '{"rank": 3, "layers": ["hidden_*"]}'})
    assert config.factorised == Factorised(rank=3, layers=("hidden_*",))
    assert change(config, {"factorised.rank": "0.25"}).factorised.rank == 0.25
    with pytest.raises(ValueError, match=r"factorised.*rank=0 must be an integer >= 1"):
        change(config, {"factorised.rank": "0"})
    with pytest.raises(ValueError, match=r"layers: 'conv' matches no linear layer"):
        build(change(config, {"factorised.layers": '["conv"]'}), config.data.load())
    assert change(config, {"factorised": "null"}).factorised is None


def test_a_pattern_means_factored_layers_too():
    network = factorise(MLP.network.build(0), 0.5)
    assert list(pathways_of(replace(MLP, feedback_layers=("*",)), network)) == [
        "hidden_1",
        "hidden_2",
        "readout",
    ]


def test_the_table_names_rule_ranks_and_matrices():
    network = factorise(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), 2)
    direct = fb.SVDSpaceDirect(source="2")
    fb.attach(network, {"2": direct}, example_input=torch.zeros(2, 6))
    table = str(fb.describe(network))
    assert "svd_space_direct r=2 q=2 (SSA-DFA)  2       no" in table
    assert "2.pathway.B_U" in table
    fb.detach(network)
    fb.attach(network, {"2": fb.SVDSpace()})
    table = str(fb.describe(network))
    assert "svd_space r=3 (SSA-FA)" in table
    network[2].truncate([0, 1])
    network[2].pathway.truncate([0, 1])
    assert "svd_space r=2 (SSA-FA)" in str(fb.describe(network))
    assert not fb.pathway_parameters(network)
    assert "lies on a factored layer" in why_not_stacked(network)


def test_direct_feedback_follows_the_layer_before():
    network = factorise(nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)), 0.5)
    x = torch.zeros(2, 9)

    def pathway(**parts):
        fb.attach(network, {"2": fb.SVDSpaceDirect(source="2", **parts)}, example_input=x)
        found = network[2].pathway
        fb.detach(network)
        return found

    assert (pathway().follows, pathway().B_U.shape) == ("0", (8, 4))
    assert pathway(rank=0.25).B_U.shape == (8, 2)
    assert pathway(rank=8).B_U.shape == (8, 8)
    plain = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    fb.attach(plain, {"2": fb.SVDSpaceDirect(source="2")}, example_input=x)
    assert (plain[2].pathway.follows, plain[2].pathway.B_U.shape) == (None, (8, 3))


def test_what_is_refused_is_named():
    network = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.zeros(2, 9)
    with pytest.raises(ValueError, match="layer '2' is a Linear, but the rule 'svd_space' needs"):
        fb.attach(network, {"2": fb.SVDSpace()})
    with pytest.raises(ValueError, match="layer '2': rank=9 must be an integer from 1 to 8"):
        fb.attach(network, {"2": fb.SVDSpaceDirect(source="2", rank=9)}, example_input=x)
    with pytest.raises(ValueError, match="source='0' is not downstream"):
        fb.attach(network, {"2": fb.SVDSpaceDirect(source="0")}, example_input=x)
    with pytest.raises(ValueError, match="source='2' is not downstream"):  # others still not
        fb.attach(network, {"2": fb.DirectRandom(source="2")}, example_input=x)
    with pytest.raises(ValueError, match="needs example_input"):
        fb.attach(network, {"2": fb.SVDSpaceDirect(source="2")})
    for rank in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"rank={rank}"):
            fb.SVDSpaceDirect(rank=rank)
    layer = fb.attach(SVDLinear(5, 4, 3), {"": fb.SVDSpace()})
    with pytest.raises(ValueError, match=r"factor of shape \(4, 2\), but B_U .* is \(4, 3\)"):
        layer.pathway.copy_from_layer(SVDLinear(5, 4, 2))
    with pytest.raises(ValueError, match=r"keep=\[3\] must hold"):
        layer.pathway.truncate([3])
