"""Runs of several seeds done as one stack: the trees of `run`, the refusals, the planner's word."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb.config import RunConfig, change, replace
from neurofb.feedback import LowRank, Random
from neurofb.networks import MLPConfig
from neurofb.recipes import load_recipe
from neurofb.run import run
from neurofb.run_stacked import can_stack, run_stacked
from neurofb.training import NonFiniteLossError, Optimiser

RECIPES = Path(__file__).with_name("tiny_recipes.py")


def recipe(name: str, **settings: str) -> RunConfig:
    return change(load_recipe(f"{RECIPES}::{name}")(), settings)


def of_seeds(config: RunConfig, seeds) -> list[RunConfig]:
    return [replace(config, seed=seed) for seed in seeds]


def quick(config: RunConfig) -> RunConfig:
    """Return a run in float32 whose optimiser does not blow rounding up."""
    calm = Optimiser(name="SGD", learning_rate=0.01)
    training = dataclasses.replace(config.training, precision="float32", optimiser=calm)
    return replace(config, training=training)


def assert_alike(one: xr.DataTree, other: xr.DataTree) -> None:
    assert {node.path for node in one.subtree} == {node.path for node in other.subtree}
    for node in one.subtree:
        first, second = (tree[node.path].to_dataset(inherit=False) for tree in (one, other))
        assert list(first.variables) == list(second.variables)
        for name, values in first.variables.items():
            assert values.attrs == second[name].attrs
            if values.dtype.kind == "f":
                np.testing.assert_allclose(
                    values, second[name], rtol=2e-3, atol=1e-5, err_msg=f"{node.path}/{name}"
                )
            else:
                assert (values == second[name].variable).all(), name


@pytest.mark.parametrize("layers", ["()", "fields"])
def test_trees_are_those_of_run(layers):
    if layers == "fields":
        pathway = replace(quick(recipe("bp")), feedback=LowRank(rank=2, spatial_factor="P"))
        config = replace(pathway, feedback_layers=("vvs_1",))
    else:
        config = replace(
            quick(recipe("bp", **{"measurement.layers": "[]"})),
            network=MLPConfig(image_size=12, in_channels=1, hidden=(8,)),
        )
    configs = of_seeds(config, (5, 2))
    trees = run_stacked(configs)
    for single, tree in zip(configs, trees, strict=True):
        assert isinstance(tree, xr.DataTree)
        alone = run(single, progress=False)
        assert_alike(alone, tree)
        assert tree.attrs["stacked"] == 2
        own = {"stacked", "wall_seconds", "cpu_seconds", "created", "history"}
        for name, value in alone.attrs.items():
            if name not in own:
                assert tree.attrs[name] == value, name
        assert tree.attrs["wall_seconds"] > 0
        assert set(tree.attrs) == {*alone.attrs, "stacked"}


def test_a_seed_that_fails_is_its_own_affair(monkeypatch):
    config = recipe("bp", **{"measurement.layers": "[]"})
    from neurofb import run_stacked as module

    measured = module.measured

    def failing(config, *rest):
        if config.seed == 1:
            raise ValueError("no such measure")
        return measured(config, *rest)

    monkeypatch.setattr(module, "measured", failing)
    trees = run_stacked(of_seeds(config, (0, 1, 2)))
    assert [type(tree) for tree in trees] == [xr.DataTree, ValueError, xr.DataTree]
    exploding = dataclasses.replace(config.training, optimiser=Optimiser(learning_rate=1e30))
    trees = run_stacked(of_seeds(replace(config, training=exploding), (0, 1)))
    assert all(isinstance(tree, NonFiniteLossError) for tree in trees)


def test_only_seeds_may_differ():
    config = recipe("bp")
    other = change(config, {"training.num_steps": "13", "seed": "4"})
    with pytest.raises(ValueError, match=r"configs\[1\] .* the seed: training.num_steps: 12 → 13$"):
        run_stacked([config, other])
    with pytest.raises(ValueError, match="configs="):
        run_stacked([])


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("low_rank", {}, "svd_refresh"),
        ("direct", {}, "takes a direct route"),
        ("mlp", {}, "measurement.alignment_images=16"),
        ("bp", {"training.snapshot_steps": "[0]"}, r"snapshot_steps=\(0,\)"),
        ("bp", {"training.optimiser.name": "Muon"}, "optimiser.name='Muon'"),
        ("bp", {"device": "nowhere"}, "device='nowhere'"),
        ("bp", {"network.image_size": "12", "measurement.layers": '["no"]'}, "no layer 'no'"),
    ],
)
def test_what_cannot_be_stacked_says_why(name, settings, reason):
    config = recipe(name, **settings)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(can_stack(config))
    with pytest.raises(ValueError, match=reason):
        run_stacked(of_seeds(config, (0, 1)))


def test_what_can_be_stacked():
    assert can_stack(recipe("bp")) == ""
    with_pathway = replace(recipe("bp"), feedback=Random(), feedback_layers=("vvs_*",))
    assert can_stack(with_pathway) == ""
