"""One run: its tree, its folder, and that it can be repeated, refused and resumed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb import labels
from neurofb.config import change, from_json, replace
from neurofb.feedback import LowRank, Random
from neurofb.recipes import load_recipe
from neurofb.run import CONFIG, RESULT, discard, run
from neurofb.training import NonFiniteLossError
from neurofb.training.checkpoint import FILE_NAME, load_checkpoint

RECIPES = Path(__file__).with_name("tiny_recipes.py")
QUIET = {"progress": False}


def recipe(name, **settings):
    return change(load_recipe(f"{RECIPES}::{name}")(), settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder and the tree of a run with a snapshot."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    config = recipe("low_rank", **{"training.snapshot_steps": "[0, 12]"})
    return config, folder, run(config, folder, **QUIET)


def assert_same(first: xr.DataTree, second: xr.DataTree):
    """Compare all arrays bit by bit; provenance says when and so differs."""
    assert {n.path for n in first.subtree} == {n.path for n in second.subtree}
    for node in first.subtree:
        xr.testing.assert_equal(
            node.to_dataset(inherit=False), second[node.path].to_dataset(inherit=False)
        )


def test_tree_has_the_parts_that_are_promised(finished):
    config, _, tree = finished
    for layer in config.measurement.layers:
        for null in ("", "/untrained", "/noise"):
            table = tree[f"receptive_field/{layer}{null}"].to_dataset()
            assert table["receptive_field"].dims == ("unit", "channel", "y", "x")
            assert table["receptive_field"].sizes["unit"] == 4
            assert np.isfinite(table["receptive_field"]).all()
            assert table["rotational_symmetry"].dims == ("unit",)
        trained = tree[f"receptive_field/{layer}"].to_dataset()
        assert {"alive", "active_fraction", "counted", "status", "moved"} <= set(trained)
    assert tree["training"].sizes == {"step": 12, "epoch": 3}
    assert tree["snapshots"].sizes["step"] == 2
    assert 0 <= tree["test_accuracy"] <= 1
    assert tree["test_loss"] > 0


def test_nulls_are_not_the_trained_fields(finished):
    layer = finished[2]["receptive_field/retina_2"]
    trained = layer["receptive_field"].values
    assert not np.array_equal(trained, layer["untrained/receptive_field"].values)
    assert not np.array_equal(trained, layer["noise/receptive_field"].values)
    snapshots = finished[2]["snapshots/receptive_field"]
    for snapshot, field in zip(
        snapshots, (layer["untrained/receptive_field"], trained), strict=True
    ):
        np.testing.assert_allclose(snapshot, field, rtol=1e-4, atol=1e-7)  # the layout may differ


def test_every_variable_and_coordinate_says_what_it_is(finished):
    for node in finished[2].subtree:
        for name, variable in node.variables.items():
            assert variable.attrs.get("units"), (node.path, name)
            assert variable.attrs.get("long_name"), (node.path, name)
        for attribute in node.attrs.values():
            assert isinstance(attribute, str | int | float)


def test_provenance(finished):
    config, folder, tree = finished
    attrs = tree.attrs
    assert from_json(attrs["neurofb_config"]) == config
    assert from_json((folder / CONFIG).read_text(encoding="utf-8")) == config
    assert attrs["seed"] == config.seed
    assert attrs["title"] == "tiny LDFA, seed 0"
    assert attrs["device"] == "cpu"
    assert attrs["threads"] == 1
    assert attrs["data_checksum"] == config.data.load().checksum
    assert attrs["wall_seconds"] > 0
    assert attrs["cpu_seconds"] > 0
    assert json.loads(attrs["versions"])["torch"] == torch.__version__


def test_alignment_is_measured_at_start_and_end_and_changes_nothing():
    config = recipe("mlp")
    tree = run(config, **QUIET)
    aligned = tree["alignment"].to_dataset()
    assert aligned["gradient_cosine"].dims == ("epoch", "layer")
    assert aligned["layer"].values.tolist() == ["hidden_1", "hidden_2", "readout"]
    assert aligned["step"].values.tolist() == [0, 12]
    assert aligned["epoch"].values.tolist() == [0, 3]  # 64 images in batches of 16
    assert (abs(aligned["gradient_cosine"].sel(layer="hidden_1")) < 0.999).all()
    np.testing.assert_allclose(aligned["gradient_cosine"].sel(layer="readout"), 1, atol=1e-6)
    for name, values in aligned.variables.items():
        assert values.attrs.get("units"), name
        assert values.attrs.get("long_name"), name
    without = run(change(config, {"measurement.alignment_images": "0"}), **QUIET)
    assert set(without.children) == {"training"}
    np.testing.assert_array_equal(tree["training/loss"], without["training/loss"])


def test_alignment_beside_receptive_fields(finished):
    config, _, plain = finished
    changed = change(config, {"measurement.alignment_images": "8"})
    tree = run(changed, **QUIET)
    assert tree["alignment"].to_dataset()["step"].values.tolist() == [0, 12]
    xr.testing.assert_equal(tree["snapshots"].to_dataset(), plain["snapshots"].to_dataset())
    # alone, it asks for no snapshots of the fields
    alone = run(change(changed, {"training.snapshot_steps": "[]"}), **QUIET)
    assert alone["alignment"].equals(tree["alignment"])
    assert "snapshots" not in alone.children


def test_a_run_of_an_older_version_is_resumed(finished, tmp_path):
    config, folder, tree = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    old = json.loads((copy / CONFIG).read_text(encoding="utf-8"))
    del old["feedback_overrides"], old["measurement"]["alignment_images"]
    del old["network"]["network"]
    (copy / CONFIG).write_text(json.dumps(old), encoding="utf-8")
    assert_same(tree, run(config, copy, resume=True, **QUIET))
    with pytest.raises(ValueError, match=r"other settings: seed: 0 → 1$"):
        run(replace(config, seed=1), copy, resume=True, **QUIET)


def test_the_order_of_overrides_counts(tmp_path):
    overrides = {"vvs_1": LowRank(rank=1), "vvs_*": LowRank(rank=2)}
    config = replace(recipe("bp"), feedback_overrides=overrides)
    run(change(config, {"measurement.layers": "[]"}), tmp_path / "run", **QUIET)
    turned = replace(config, feedback_overrides=dict(reversed(overrides.items())))
    with pytest.raises(ValueError, match="another order of feedback_overrides"):
        run(change(turned, {"measurement.layers": "[]"}), tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_round_trip(finished, tmp_path, suffix):
    _, _, tree = finished
    path = labels.save(tree, tmp_path / f"copy{suffix}")
    assert_same(tree, labels.load(path))
    assert labels.load(path).attrs == tree.attrs


def test_readable_by_plain_xarray(finished):
    _, folder, tree = finished
    with xr.open_datatree(folder / RESULT, engine="zarr", consolidated=False) as plain:
        assert_same(tree, plain.load())
    with xr.open_zarr(
        folder / RESULT, group="receptive_field/retina_2", consolidated=False
    ) as layer:
        assert layer["receptive_field"].attrs["units"]


def test_an_existing_run_is_refused(finished):
    config, folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(ValueError, match="holds a run already; resume it, overwrite it"):
        run(config, folder, **QUIET)
    with pytest.raises(ValueError, match="exclude each other"):
        run(config, folder, resume=True, overwrite=True, **QUIET)
    changed = change(config, {"seed": "5", "training.num_steps": "13"})
    with pytest.raises(ValueError, match=r"other settings: training.num_steps: 12 → 13; seed: 0 →"):
        run(changed, folder, resume=True, **QUIET)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_resuming_a_finished_run_returns_it(finished):
    config, folder, tree = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert_same(tree, run(config, folder, resume=True, **QUIET))
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_resuming_without_the_result_measures_again(finished, tmp_path):
    config, folder, tree = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / RESULT)
    assert_same(tree, run(config, copy, resume=True, **QUIET))


def test_overwriting_starts_again_and_touches_nothing_else(finished, tmp_path):
    config, folder, tree = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "notes.txt").write_text("mine")
    other = change(config, {"seed": "1"})
    again = run(other, copy, overwrite=True, **QUIET)
    assert again.attrs["seed"] == 1
    assert not np.array_equal(again["training/loss"], tree["training/loss"])
    assert_same(again, labels.load(copy / RESULT))
    assert (copy / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "my own tool"}', "\udcff"])
def test_another_tools_folder_is_left_alone(tmp_path, content):
    (tmp_path / CONFIG).write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / FILE_NAME).write_text("somebody's")
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(ValueError, match=r"config.json is damaged, or not the configuration"):
            run(recipe("bp"), tmp_path, **how, **QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, FILE_NAME}


@pytest.mark.parametrize("name", [FILE_NAME, RESULT])
@pytest.mark.parametrize("how", ["resume", "overwrite", "progress"])
def test_results_without_a_configuration_are_left_alone(tmp_path, name, how):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"holds {name} but no config.json"):
        run(recipe("bp"), tmp_path, **{"progress": False, how: True})
    assert (tmp_path / name).exists()


def test_discard_takes_the_runs_files_only(finished, tmp_path):
    copy = shutil.copytree(finished[1], tmp_path / "copy")
    (copy / "notes.txt").write_text("mine")
    discard(copy)
    assert [path.name for path in copy.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network.image_size": "24"}, r"network.image_size=24 .* do not fit .* are 1×12×12"),
        ({"network.in_channels": "3"}, r"network.in_channels=3 do not fit"),
        ({"network.num_classes": "7"}, r"network.num_classes=7 must be 10"),
        (
            {"measurement.layers": '["retina_9"]'},
            r"no layer 'retina_9'; the network has .*retina_1",
        ),
        ({"data.num_test": "0"}, r"hold no test image"),
        ({"measurement.alignment_images": "65"}, r"alignment_images=65 are more than the 64 train"),
        ({"feedback_layers": '["vvs_9"]'}, r"layer name 'vvs_9' matches no layer"),
        ({"feedback": '{"rule": "random"}'}, r"feedback_layers=\(\) names no layer"),
        ({"device": "nonsense"}, r"device='nonsense' is not available"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(settings, message):
    with pytest.raises(ValueError, match=message):
        run(recipe("bp", **settings), **QUIET)


@pytest.mark.parametrize("pathway", [LowRank(rank=1), Random()])
@pytest.mark.parametrize("layers", [("retina_1",), ("retina_1*",)])
def test_a_pathway_to_the_images_is_refused(pathway, layers):
    config = replace(recipe("bp"), feedback=pathway, feedback_layers=layers)
    with pytest.raises(ValueError, match=r"takes the error to the images.*would never fire"):
        run(config, **QUIET)


def test_a_direct_pathway_to_the_images_is_refused():
    config = replace(recipe("direct"), feedback_layers=("retina_1",))
    with pytest.raises(ValueError, match="would never fire"):
        run(config, **QUIET)


def test_a_rank_that_the_layer_does_not_allow_is_refused():
    config = recipe("low_rank", **{"feedback.rank": "500"})
    with pytest.raises(ValueError, match=r"vvs_1.*rank=500"):
        run(config, **QUIET)


def test_an_exploding_run_keeps_its_last_good_checkpoint(tmp_path):
    config = recipe("bp", **{"training.num_steps": "40", "training.checkpoint_every": "1"})
    optimiser = '{"learning_rate": 1, "weight_decay": 1000, "decay_on": "all"}'
    constant = '{"schedule": "constant"}'
    config = change(config, {"training.optimiser": optimiser, "training.schedule": constant})
    with pytest.raises(NonFiniteLossError, match=r"not finite|nan|inf"):
        run(config, tmp_path / "run", **QUIET)
    state = load_checkpoint(tmp_path / "run")
    assert state is not None
    assert 0 < state["step"] < 40
    assert all(torch.isfinite(w).all() for w in state["network"].values() if hasattr(w, "isfinite"))
    assert not (tmp_path / "run" / RESULT).exists()


@pytest.mark.parametrize("name", ["bp", "direct"])
def test_same_seed_same_numbers_and_the_callers_random_state_is_kept(name):
    config = recipe(name)
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = run(config, **QUIET)
    after = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1][1], after[1][1])
    torch.manual_seed(99)
    assert_same(first, run(config, **QUIET))
