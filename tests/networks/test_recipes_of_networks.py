"""Recipes of the networks beside the retina: settings of the papers, and each trained in tiny."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from neurofb.build import pathways_of
from neurofb.config import change, from_json, replace, to_json
from neurofb.data import Cifar, FashionMNIST, Npz
from neurofb.recipes import call_recipe, recipe_names
from neurofb.run import run

MODELS = Path(__file__).parents[2] / "models"
FILES = ("mlp", "vgg", "resnet", "vit")
RECIPES = [f"{file}::{name}" for file in FILES for name in recipe_names(MODELS / f"{file}.py")]
TINY = {
    "mlp": {"hidden": (16, 16, 16)},
    "vgg": {"widths": (4, 4, 4, 4), "hidden": 8},
    "resnet": {"depth": 8, "num_classes": 10},
    "vit": {"depth": 1},
}


def recipe(address, *arguments):
    file, name = address.split("::")
    return call_recipe(f"{MODELS / file}.py::{name}", *arguments)


def pathways(config):
    return pathways_of(config, config.network.build(0))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Make files of random images: channels, size → path."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = {}
    for channels, size in ((1, 28), (3, 32)):
        paths[channels, size] = folder / f"{size}.npz"
        x = rng.integers(0, 256, (40, channels, size, size), dtype=np.uint8)
        np.savez(paths[channels, size], x=x, y=np.arange(40) % 10)
    return paths


@pytest.mark.parametrize("address", RECIPES)
def test_recipes_train(address, images):
    config = recipe(address)
    assert from_json(to_json(config)) == config
    network = dataclasses.replace(config.network, **TINY[config.network.network])
    data = Npz(path=images[network.in_channels, network.image_size], num_train=8)
    tiny = {"training.num_steps": "2", "training.batch_size": "4", "device": "cpu"}
    tiny["measurement.rank_images"] = str(min(config.measurement.rank_images, 4))
    tree = run(change(replace(config, network=network, data=data), tiny), progress=False)
    assert np.isfinite(tree["test_loss"])


@pytest.mark.parametrize("address", RECIPES)
def test_data_are_named(address):
    config = recipe(address)
    if "_cifar" not in address:
        assert isinstance(config.data, FashionMNIST)
        assert config.data.num_train == 20_000
        assert (config.network.image_size, config.network.in_channels) == (28, 1)
        return
    config = recipe(address, "my/files")
    assert isinstance(config.data, Cifar)
    assert (config.data.path, config.data.grey) == (Path("my/files"), False)
    assert (config.network.image_size, config.network.in_channels) == (32, 3)


@pytest.mark.parametrize(
    ("address", "images_a_step", "epochs"),
    [("mlp::bp_cifar", 32, 160), ("vgg::bp_cifar", 64, 400), ("vit::bp_cifar", 256, 250)],
)
def test_length_of_the_papers_runs(address, images_a_step, epochs):
    training = recipe(address).training
    assert training.batch_size == images_a_step
    assert training.num_steps == epochs * -(-45_000 // images_a_step)


def test_ranks_of_the_vit():
    chosen = pathways(recipe("vit::ldfa_cifar"))
    assert len(chosen) == 8 * 4 + 1
    fused = {name: spec.rank for name, spec in chosen.items() if name.endswith(".qkv")}
    assert set(fused.values()) == {108}
    assert len(fused) == 8
    assert {spec.rank for name, spec in chosen.items() if name not in fused} == {36}
    assert chosen["readout"].clip_rank


def test_separate_maps_of_the_small_vit_have_equal_ranks():
    chosen = pathways(recipe("vit::ldfa", 5))
    assert len(chosen) == 2 * 6 + 1
    assert {spec.rank for spec in chosen.values()} == {5}


@pytest.mark.parametrize("name", ["ldfa_cifar", "ldfa_local_cifar"])
def test_ranks_of_the_vgg_are_a_share_of_its_channels(name):
    config = recipe(f"vgg::{name}", "files", 8)
    ranks = {layer: spec.rank for layer, spec in pathways(config).items()}
    assert ranks == {
        "conv_1_2": 8,
        **{"conv_2_1": 16, "conv_2_2": 16, "conv_3_1": 32, "conv_3_2": 32},
        **{"conv_4_1": 64, "conv_4_2": 64},
    }


def test_feedback_of_the_vggs_generations():
    later, first = (recipe(f"vgg::{name}_cifar") for name in ("ldfa", "ldfa_local"))
    assert {spec.learning.rule for spec in pathways(later).values()} == {"normative"}
    assert {spec.learning.rule for spec in pathways(first).values()} == {"oja"}
    assert later.training.num_steps == 250 * 704
    assert later.training.optimiser.pathway_learning_rate == 0.01
    assert later.training.optimiser.pathway_weight_decay == 0.0
    assert first.training == recipe("vgg::bp_cifar").training


@pytest.mark.parametrize(
    ("source", "rules"),
    [
        ("readout", {"hidden_2": "direct", "hidden_3": "direct", "readout": "low_rank"}),
        ("hidden_3", {"hidden_2": "direct", "hidden_3": "low_rank", "readout": "low_rank"}),
    ],
)
def test_direct_feedback_of_the_mlp(source, rules):
    chosen = pathways(recipe("mlp::dldfa_cifar", "files", 6, source))
    assert {name: spec.rule for name, spec in chosen.items()} == rules
    assert chosen["readout"].learning.drive == "target"
    assert chosen["hidden_2"].source == source


def test_the_resnets_stem_carries_no_pathway():
    chosen = pathways(recipe("resnet::fa_cifar", "files", 56))
    assert len(chosen) == 55
    assert "stem" not in chosen


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory):
    """Make CIFAR-100's binary files with a few images of every class."""
    folder, rng = tmp_path_factory.mktemp("cifar") / "cifar-100-binary", np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train", 200), ("test", 100)):
        rows = rng.integers(0, 256, size=(count, 2 + 3072), dtype=np.uint8)
        rows[:, 0], rows[:, 1] = np.arange(count) % 20, np.arange(count) % 100
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    names = [f"class_{i}" for i in range(100)]
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    return folder


CIFAR100 = [name for name in recipe_names(MODELS / "resnet.py") if name.endswith("_cifar100")]


@pytest.mark.parametrize("name", CIFAR100)
def test_cifar_100_in_small(name, cifar100):
    """The files are read, and 100 classes are learnt by what the recipe says, at depth 8."""
    config = recipe(f"resnet::{name}", str(cifar100))
    assert config.network.depth == 18
    assert len(pathways(config)) == (20 if name.startswith("fa") else 0)
    network = dataclasses.replace(config.network, depth=8)
    tiny = {"training.num_steps": "2", "training.batch_size": "16", "device": "cpu"}
    tiny |= {"measurement.rank_images": "8"}
    tree = run(change(replace(config, network=network), tiny), progress=False)
    assert np.isfinite(tree["test_loss"])
    ranks = tree["error_rank/error_rank"].sel(definition="entropy", view="sample")
    assert (ranks.isel(epoch=-1) > 1).all()


def test_the_cure_on_cifar_100_is_muon_and_normalisation():
    fa, cured = (recipe(f"resnet::{name}_cifar100") for name in ("fa", "fa_muon"))
    assert fa.feedback == cured.feedback
    assert (fa.training.optimiser.name, cured.training.optimiser.name) == ("Adam", "Muon")
    plain = recipe("resnet::fa_muon_cifar100", "files", "none").network
    assert (cured.network.normalisation, plain.normalisation) == ("batch", "none")
    assert fa.training.num_steps == 100 * -(-45_000 // 128)
