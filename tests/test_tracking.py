"""What is followed while a network trains: in a run, in a study, without disturbing it."""

from pathlib import Path

import numpy as np
import pytest

from neurofb.build import build
from neurofb.config import Measurement, change, replace
from neurofb.gather import side_by_side
from neurofb.measures import error_rank, rule_curl
from neurofb.networks.factorised import Factorised
from neurofb.overview import overview
from neurofb.recipes import load_recipe
from neurofb.run import run
from neurofb.run_stacked import can_stack
from neurofb.tracking import tracked_training

RECIPES = Path(__file__).with_name("tiny_recipes.py")
RANKS = {"measurement.rank_images": "16", "measurement.alignment_images": "0"}


def recipe(**settings):
    return change(load_recipe(f"{RECIPES}::mlp")(), {**RANKS, **settings})


@pytest.fixture(scope="module")
def finished():
    config = recipe()
    return config, run(config, progress=False)


def test_ranks_are_measured_at_start_and_end(finished):
    config, tree = finished
    assert tracked_training(config).snapshot_steps == (0, 12)
    assert set(tree.children) == {"training", "error_rank"}
    ranks = tree["error_rank"].to_dataset()
    assert ranks.error_rank.dims == ("epoch", "layer", "definition", "view")
    assert ranks.update_rank.dims == ("epoch", "layer", "definition")
    assert ranks.step.values.tolist() == [0, 12]
    assert ranks.epoch.values.tolist() == [0, 3]
    assert ranks.layer.values.tolist() == ["hidden_1", "hidden_2", "readout"]
    assert ranks.attrs["num_images"] == 16
    assert ranks.update_rank.notnull().all()
    for name, values in ranks.variables.items():
        assert values.attrs.get("units"), name
        assert values.attrs.get("long_name"), name


def test_they_are_those_of_the_first_images(finished):
    config, tree = finished
    data = config.data.load()
    expected = error_rank(build(config, data), data.train.images[:16], data.train.labels[:16])
    found = tree["error_rank"].to_dataset().isel(epoch=0)
    for name in ("error_rank", "activity_rank", "gradient_rank", "gradient_angle"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-3)


def test_they_change_nothing(finished):
    _, tree = finished
    without = run(recipe(**{"measurement.rank_images": "0"}), progress=False)
    assert set(without.children) == {"training"}
    np.testing.assert_array_equal(tree["training/loss"], without["training/loss"])
    assert tree["test_loss"] == without["test_loss"]


def test_beside_alignment_in_a_study(finished):
    config, tree = finished
    both = recipe(**{"measurement.alignment_images": "32", "training.snapshot_steps": "[0, 4, 12]"})
    runs = {("ranks", 0): tree, ("both", 0): run(both, progress=False)}
    assert runs["both", 0]["alignment"].to_dataset().gradient_cosine.dims == ("epoch", "layer")
    study = side_by_side("study", {"ranks": config, "both": both}, runs)
    ranks = study["error_rank"].to_dataset()
    dims = ("condition", "seed", "epoch", "layer", "definition", "view")
    assert ranks.error_rank.dims == dims
    assert ranks.epoch.values.tolist() == [0, 1, 2, 3]  # 2: a validation
    at = ranks.error_rank.sel(seed=0, definition="entropy", view="channel", layer="hidden_2")
    assert at.notnull().values.tolist() == [[True, False, False, True], [True, True, False, True]]
    np.testing.assert_array_equal(
        at.isel(condition=0, epoch=[0, 3]), at.isel(condition=1, epoch=[0, 3])
    )
    angles = study["alignment"].to_dataset().delta_angle
    assert angles.sel(condition="ranks").isnull().all()
    assert "test_accuracy" in overview(study)


CURL = RANKS | {
    "measurement.rank_images": "0",
    "measurement.curl_images": "16",
    "measurement.curl_probes": "10",
    "network.activation": '"tanh"',
}


def test_curl_is_followed():
    config = recipe(**CURL)
    tree = run(config, progress=False)
    assert set(tree.children) == {"training", "curl"}
    curl = tree["curl"].to_dataset()
    assert curl.curl_index.dims == ("epoch",)
    assert curl.step.values.tolist() == [0, 12]
    assert curl.attrs["num_images"] == 16
    data = config.data.load()
    images, classes = data.train.images[:16], data.train.labels[:16]
    expected = rule_curl(build(config, data), images, classes, num_probes=10)
    for name, values in expected.data_vars.items():
        np.testing.assert_allclose(curl[name].isel(epoch=0), values, rtol=1e-4, err_msg=name)
        assert curl[name].attrs["units"] == "1"
    assert (curl.curl_index > 0.1).all()
    assert (curl.curl_index != curl.curl_index_all).all()  # Q and P learn
    without = run(recipe(**CURL | {"measurement.curl_images": "0"}), progress=False)
    np.testing.assert_array_equal(tree["training/loss"], without["training/loss"])


def test_curl_of_flips_and_in_a_study():
    plain = CURL | {"feedback_layers": "[]", "feedback": '{"rule": "exact"}'}
    flips = '[{"layer": "readout", "fraction": 0.5}]'
    configs = {
        "BP": recipe(**plain),
        "flips": recipe(**plain, **{"training.flips": flips}),
        "none": recipe(),
    }
    runs = {(name, 0): run(config, progress=False) for name, config in configs.items()}
    study = side_by_side("study", configs, runs)
    curl = study["curl"].to_dataset().sel(seed=0)
    assert curl.curl_index.dims == ("condition", "epoch")
    assert (curl.curl_index.sel(condition="BP").dropna("epoch") < 1e-4).all()
    assert (curl.gradient_cosine.sel(condition="BP").dropna("epoch") > 1 - 1e-9).all()
    flipped = curl.sel(condition="flips").dropna("epoch", subset=["curl_index"])
    assert flipped.sizes["epoch"] == 2
    assert (flipped.curl_index > 0.01).all()
    np.testing.assert_allclose(flipped.gradient_cosine, 1 - 2 * flipped.flipped_power)
    assert curl.sel(condition="none").curl_index.isnull().all()
    assert "error_rank" in study.children
    assert "test_accuracy" in overview(study)


def test_factors_are_followed_where_a_network_has_them():
    config = recipe(**{"feedback_layers": "[]", "feedback": '{"rule": "exact"}'})
    tree = run(replace(config, factorised=Factorised(rank=0.5)), progress=False)
    assert set(tree.children) == {"training", "error_rank", "factors"}
    factors = tree["factors"].to_dataset()
    assert factors["rank"].dims == ("epoch", "layer")
    assert factors.layer.values.tolist() == ["hidden_1", "hidden_2", "readout"]
    ranks = tree["error_rank"].to_dataset()
    assert ranks.update_rank.notnull().all()
    assert (ranks.gradient_angle < 0.1).all()


def test_a_study_without_them_has_no_empty_children():
    config = recipe(**{"measurement.rank_images": "0"})
    study = side_by_side("plain", {"plain": config}, {("plain", 0): run(config, progress=False)})
    assert not study.children


def test_what_is_refused():
    with pytest.raises(ValueError, match="rank_images=-1 must be at least 0"):
        Measurement(rank_images=-1)
    with pytest.raises(ValueError, match="curl_probes=1 must be at least 2"):
        Measurement(curl_probes=1)
    with pytest.raises(ValueError, match=r"measurement.rank_images=65 are more than the 64"):
        run(recipe(**{"measurement.rank_images": "65"}), progress=False)
    assert can_stack(recipe()) == "measurement.rank_images=16: ranks are not followed in a stack"
    assert can_stack(recipe(**CURL)).endswith("curl_images=16: curl is not followed in a stack")
