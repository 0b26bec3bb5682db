"""From settings to pathways: patterns, overrides, what never acts; every network trains."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from neurofb.build import build, check_fired, load_network, num_parameters, pathways_of
from neurofb.config import Measurement, RunConfig, change, replace
from neurofb.feedback import (
    DirectRandom,
    Exact,
    LowRank,
    Oja,
    Random,
    SignSymmetric,
    feedback_layers,
    fired,
)
from neurofb.networks import ConvNetConfig, ResNetConfig, VGGConfig, ViTConfig
from neurofb.recipes import call_recipe
from neurofb.run import run

RECIPES = Path(__file__).with_name("tiny_recipes.py")
BP = call_recipe(f"{RECIPES}::bp")
MLP = call_recipe(f"{RECIPES}::mlp")
LAYERS = ["retina_1", "retina_2", "vvs_1", "vvs_2", "hidden", "readout"]
VIT = ViTConfig(image_size=12, in_channels=1, dim=8, depth=2, heads=2)
NETWORKS = [
    VGGConfig(image_size=12, in_channels=1, widths=(4, 4), layers_per_block=1, hidden=4),
    ConvNetConfig(image_size=12, in_channels=1, channels=(4, 4), strides=(2, 1)),
    ResNetConfig(image_size=12, in_channels=1),
    VIT,
    dataclasses.replace(VIT, fused_qkv=False),
]


def resolved(**parts):
    config = replace(BP, **parts)
    return pathways_of(config, config.network.build(0))


def test_layers_carry_the_pathway_and_overrides_go_first():
    wide, narrow = LowRank(rank=4), LowRank(rank=2)
    found = resolved(
        feedback=Random(),
        feedback_layers=("vvs_*", "vvs_1", "hidden"),
        feedback_overrides={"vvs_2": narrow, "*_2": wide, "readout": wide, "hidden": Exact()},
    )
    expected = {"retina_2": wide, "vvs_1": Random(), "vvs_2": narrow, "readout": wide}
    assert found == expected
    assert list(found) == [name for name in LAYERS if name in expected]


def test_all_layers_and_none():
    assert list(resolved(feedback=Random(), feedback_layers=("*",))) == LAYERS
    assert resolved() == {}
    assert list(resolved(feedback_overrides={"vvs_1": Random()})) == ["vvs_1"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"feedback_layers": ("x_*",)}, r"feedback_layers: pattern 'x_\*' matches no layer"),
        (
            {"feedback_overrides": {"vvs_9": Random()}},
            r"feedback_overrides: layer name 'vvs_9' matches no layer .*vvs_1, vvs_2",
        ),
        ({"feedback": Random()}, r"feedback_layers=\(\) names no layer"),
    ],
)
def test_what_matches_nothing_is_named(parts, message):
    with pytest.raises(ValueError, match=message):
        resolved(**parts)


def test_a_direct_pathway_lies_on_blocks_by_pattern():
    network = VIT.build(0)
    config = RunConfig(name="x", feedback=DirectRandom(), feedback_layers=("blocks.[0-9]",))
    assert list(pathways_of(config, network)) == ["blocks.0", "blocks.1"]
    config = RunConfig(name="x", feedback=Random(), feedback_layers=("blocks.[0-9]",))
    with pytest.raises(ValueError, match="matches no layer"):
        pathways_of(config, network)


@pytest.mark.parametrize("where", ["feedback_layers", "feedback_overrides"])
def test_a_pathway_to_the_images_alone_is_refused(where):
    value = ("hidden_1",) if where == "feedback_layers" else {"hidden_1": LowRank(rank=2)}
    feedback = LowRank(rank=2) if where == "feedback_layers" else Exact()
    parts = {"feedback": feedback, "feedback_layers": (), where: value}
    with pytest.raises(ValueError, match="'hidden_1' takes the error to the images"):
        build(replace(MLP, **parts), MLP.data.load())


def test_of_every_layer_only_the_first_does_not_fire():
    data = MLP.data.load()
    network = build(MLP, data)
    names = [name for name, _ in feedback_layers(network)]
    assert names == ["hidden_1", "hidden_2", "readout"]
    images = data.train.images[:4]
    with pytest.raises(ValueError, match="pathway on hidden_2, readout never fired"):
        check_fired(network, images)
    network(images).sum().backward()
    assert fired(network) == {"hidden_1": 0, "hidden_2": 1, "readout": 1}
    check_fired(network, images)


def test_overrides_are_there_again_when_the_network_is_opened(tmp_path):
    config = replace(
        MLP,
        feedback_overrides={"readout": LowRank(rank=4, learning=Oja(drive="target"))},
        measurement=Measurement(layers=()),
    )
    tree = run(config, tmp_path / "run", progress=False)
    network = load_network(tmp_path / "run")
    ranks = {name: layer.pathway.Q.shape[1] for name, layer in feedback_layers(network)}
    assert ranks == {"hidden_1": 2, "hidden_2": 2, "readout": 4}
    assert list(tree.children) == ["training"]
    weights = 144 * 8 + 8 + 8 * 8 + 8 + 8 * 10 + 10 + 4 * 8  # and two batch normalisations
    assert int(tree["num_parameters"]) == num_parameters(network) == weights


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.network)
@pytest.mark.parametrize("rule", ["local", "direct"])
def test_every_network_trains(network, rule):
    config = replace(
        change(BP, {"training.num_steps": "2", "data.num_train": "32"}),
        network=network,
        feedback=LowRank(rank=2, clip_rank=True) if rule == "local" else Exact(),
        feedback_layers=("*",) if rule == "local" else (),
        feedback_overrides={"readout": SignSymmetric()} if rule == "local" else {},
        measurement=Measurement(layers=()),
    )
    if rule == "direct":
        deep = {
            "vgg": "conv_2_1",
            "conv_net": "conv_2",
            "resnet": "blocks.[3-5]",
            "vit": "blocks.1",
        }[network.network]
        config = replace(config, feedback=DirectRandom(), feedback_layers=(deep,))
    tree = run(config, progress=False)
    assert np.isfinite(tree["test_loss"])
