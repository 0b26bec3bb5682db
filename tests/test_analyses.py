"""The analyses on made-up studies, whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, to_json
from neurofb.data import ShapesOnLeaves
from neurofb.feedback import LowRank, Random
from neurofb.networks import MLPConfig
from neurofb.recipes import call_recipe
from neurofb.training import TrainingConfig

ANALYSES = Path(__file__).parents[1] / "analyses"
SEEDS, NUM_STEPS, EPOCH = (0, 1), 60, 20


def study(accuracies, runs=None):
    """Make a study: condition → test accuracy of each seed; curves rise linearly to it."""
    conditions = list(accuracies)
    final = np.array([accuracies[condition] for condition in conditions])[..., None]
    step, epoch = np.arange(NUM_STEPS), np.arange(1.0, NUM_STEPS // EPOCH + 1)
    runs = runs or dict.fromkeys(conditions, run())
    configs = {name: json.loads(to_json(config)) for name, config in runs.items()}
    data = {
        "test_accuracy": (("condition", "seed"), final[..., 0]),
        "validation_accuracy": (("condition", "seed", "epoch"), final * epoch / epoch.max()),
        "step_at_epoch": (("condition", "seed", "epoch"), np.ones_like(final) * epoch * EPOCH),
        "accuracy": (("condition", "seed", "step"), final * np.minimum(step / 30, 1)),
    }
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(
                {k: labels.variable(dims, v, "1", k) for k, (dims, v) in data.items()},
                {
                    "condition": labels.coordinate("condition", conditions),
                    "seed": list(SEEDS),
                    "epoch": epoch,
                    "step": step,
                },
                labels.provenance(title="made up", config=json.dumps(configs)),
            )
        }
    )


def run(**changes):
    """Return the settings of a tiny MLP."""
    settings = {
        "name": "tiny",
        "data": ShapesOnLeaves(image_size=12),
        "network": MLPConfig(image_size=12, in_channels=1, hidden=(16, 16)),
        "training": TrainingConfig(num_steps=NUM_STEPS, batch_size=8),
    }
    return RunConfig(**settings | changes)


def analyse(address, tree, capsys, tmp_path):
    """Run an analysis, save its dataset, and return it with the figures and what was printed."""
    address = address if "::" in address else f"{address}::analyse"
    dataset, figures = call_recipe(f"{ANALYSES}/{address}", tree)
    labels.save(dataset, tmp_path / "analysis.zarr")
    for name, values in dataset.data_vars.items():
        assert "long_name" in values.attrs, name
    return labels.load(tmp_path / "analysis.zarr").to_dataset(), figures, capsys.readouterr().out


def test_rules(capsys, tmp_path):
    tree = study(
        {
            "MLP, BP": [0.90, 0.92],
            "MLP, FA": [0.85, 0.86],
            "MLP, WM": [0.88, 0.92],
            "MLP, LDFA r=4, local": [0.70, 0.71],
            "MLP, LDFA r=10, local": [0.895, 0.915],
            "VGG, BP": [0.80, 0.80],
            "VGG, FA": [0.795, 0.70],
        }
    )
    found, figures, printed = analyse("feedback_rules.py", tree, capsys, tmp_path)
    assert dict(found.sizes) == {"network": 2, "rule": 5, "seed": 2, "statement": 5}
    at = found.sel(network="MLP")
    assert at.verdict.values.tolist() == ["within", "behind", "mixed", "behind", "within"]
    np.testing.assert_allclose(at.sel(rule="FA").difference, [-5, -6])
    assert found.verdict.sel(network="VGG", rule="WM").item() == ""
    holds = dict(zip(found.statement.values, found.statement_holds.values, strict=True))
    assert holds == {
        "FA is more than 1 point behind BP on the MLP": True,
        "LDFA r=10, local is at most 1 point behind BP on the MLP": True,
        "every rule is above chance on the MLP": True,
        "FA is more than 1 point behind BP on the VGG": False,
        "every rule is above chance on the VGG": True,
    }
    assert found.chance == 0.1
    assert "85.50 ± 0.71" in printed
    assert "-5.50 ± 0.71" in printed
    assert [axes.get_title(loc="left") for axes in figures["rules"].axes] == ["MLP", "VGG"]


def test_rules_without_backpropagation():
    with pytest.raises(ValueError, match="no condition '<network>, BP'"):
        call_recipe(f"{ANALYSES}/feedback_rules.py::analyse", study({"MLP, FA": [0.5, 0.5]}))


def test_rates(capsys, tmp_path):
    values = {
        "BP": {"0.0003": 0.8, "0.001": 0.9, "0.003": 0.7},
        "FA": {"0.0003": 0.6, "0.001": 0.7, "0.003": 0.8},
    }
    accuracies = {
        f"MLP, {rule}, rate {rate}": [accuracy, accuracy]
        for rule, row in values.items()
        for rate, accuracy in row.items()
    }
    tree = study(accuracies)
    tree["validation_accuracy"][:, :, -1] = np.nan  # shorter runs end in NaN
    found, figures, printed = analyse("feedback_rules.py::analyse_rates", tree, capsys, tmp_path)
    assert figures == {}
    assert found.chosen_rate.sel(network="MLP").values.tolist() == [0.001, 0.003]
    assert found.at_edge.sel(network="MLP").values.tolist() == [False, True]
    np.testing.assert_allclose(found.last_validation_accuracy[0, 0], np.array([8, 9, 7]) / 15)
    assert "1 of 2 chosen rates lie at the edge" in printed


def test_rank_follows_the_classes(capsys, tmp_path):
    accuracies = {}
    for classes in (2, 10):
        for width in (64, 512):
            name = f"{classes} classes, width {width}"
            accuracies[f"{name}, BP"] = [0.9, 0.91]
            for rank in (1, 2, 10, 20):
                accuracies[f"{name}, LDFA r={rank}"] = [0.9 if rank >= classes else 0.7] * 2
    tree = study(accuracies)
    found, figures, printed = analyse("feedback_rank.py", tree, capsys, tmp_path)
    assert (found.sufficient_rank.sel(num_classes=2) == 2).all()
    assert (found.sufficient_rank_of_mean.sel(num_classes=10) == 10).all()
    assert found.statement_holds.all()
    assert "10 classes, width  512: 10; 10 10" in printed
    assert len(figures["rank"].axes) == 2

    accuracies["10 classes, width 512, LDFA r=10"] = [0.7, 0.9]
    accuracies["10 classes, width 512, LDFA r=20"] = [0.7, 0.9]
    found, _, _ = analyse("feedback_rank.py", study(accuracies), capsys, tmp_path)
    at = found.sel(num_classes=10, width=512)
    np.testing.assert_array_equal(at.sufficient_rank, [np.nan, 10])
    assert found.statement_holds.values.tolist() == [True, False, False]


def test_a_narrow_network_against_a_narrow_error(capsys, tmp_path):
    accuracies = {}
    for width in (10, 16, 64):
        accuracies[f"width {width}, BP"] = [0.8, 0.82]
        accuracies[f"width {width}, LDFA r=10"] = [0.85 if width == 64 else 0.7] * 2
    accuracies["width 64, LDFA r=16"] = [0.79, 0.9]
    tree = study(accuracies)
    found, figures, printed = analyse("feedback_rank.py::analyse_widths", tree, capsys, tmp_path)
    np.testing.assert_allclose(found.wide_minus_narrow.sel(rank=10), [5, 3])
    holds = dict(zip(found.statement.values, found.statement_holds.values.tolist(), strict=True))
    assert holds["width 64 with an error of rank 10 is ahead of width 10 with BP"] is True
    assert holds["width 64 with an error of rank 16 is ahead of width 16 with BP"] is False
    assert holds["an error of rank 10 is at most 1 point behind BP at width 64"] is True
    assert holds["an error of rank 10 is at most 1 point behind BP at width 16"] is False
    assert "LDFA at width 64, by rank:   16  84.50" in printed
    assert figures["widths"].axes[0].get_xscale() == "log"


def test_alignment(capsys, tmp_path):
    conditions = ["MLP, BP", "MLP, FA", "MLP, KP"]
    tree = study({"MLP, BP": [0.9, 0.9], "MLP, FA": [0.5, 0.6], "MLP, KP": [0.8, 0.7]})
    start = np.array([1.0, 0.0, 0.0])
    cosine = start[:, None] + np.array([[0, 0, 0], [0, -0.1, -0.2], [0, 0.3, 0.6]])
    cosine = np.broadcast_to(cosine[:, None, :, None], (3, 2, 3, 3)).copy()
    cosine[..., -1] = 1.0
    values = {"gradient_cosine": cosine, "delta_angle": 90 - 45 * cosine, "weight_angle": cosine}
    dims = ("condition", "seed", "epoch", "layer")
    tree["alignment"] = xr.Dataset(
        {name: labels.variable(dims, array, "1", name) for name, array in values.items()},
        {
            "condition": labels.coordinate("condition", conditions),
            "layer": labels.coordinate("layer", ["hidden_1", "hidden_2", "readout"]),
        },
    )
    found, figures, printed = analyse("alignment.py", tree, capsys, tmp_path)
    np.testing.assert_allclose(
        found.gradient_cosine_end.sel(network="MLP", layer="hidden_1")[:, 0], [1, -0.2, 0.6]
    )
    holds = dict(zip(found.statement.values, found.statement_holds.values.tolist(), strict=True))
    assert holds["MLP, FA: gradients end on BP's side (cosine above 0)"] is False
    assert holds["MLP, KP: gradients end closer to BP's than at the start"] is True
    assert holds["MLP, BP: gradients end closer to BP's than at the start"] is False
    assert list(holds.values())[-1] is True
    assert "0.00 → 0.60" in printed
    assert list(figures) == ["alignment_MLP"]
    with pytest.raises(ValueError, match="no /alignment"):
        call_recipe(f"{ANALYSES}/alignment.py::analyse", study({"MLP, BP": [0.9, 0.9]}))


def test_compute(capsys, tmp_path):
    layers = {"feedback_layers": ("hidden_2", "readout")}
    runs = {
        "MLP, BP": run(),
        "MLP, FA": run(feedback=Random(), **layers),
        "MLP, LDFA r=2, local": run(feedback=LowRank(rank=2), **layers),
    }
    rows = zip(runs, ([0.9, 0.9], [0.45, 0.9], [0.9, 0.9]), strict=True)
    found, figures, printed = analyse(
        "compute_to_accuracy.py", study(dict(rows), runs), capsys, tmp_path
    )
    at = found.sel(network="MLP").isel(curve=0)
    assert (at.step_reached.sel(target="own") == 60).all()
    np.testing.assert_array_equal(at.step_reached.sel(target="BP's", rule="FA"), [np.nan, 60])
    cost = found.counted_flops.sum("phase").sel(network="MLP")
    np.testing.assert_allclose(at.flops_reached.sel(target="own").isel(seed=0), 60 * cost.values)
    error = found.counted_flops.sel(phase="error", network="MLP")
    assert error.sel(rule="LDFA r=2, local") < error.sel(rule="BP")
    assert cost.sel(rule="FA") == cost.sel(rule="BP")
    curve = 0.9 * np.minimum(np.arange(NUM_STEPS) / 30, 1)
    first = next(i for i in range(19, NUM_STEPS) if curve[i - 19 : i + 1].mean() >= 0.81)
    by_step = found.sel(network="MLP", target="own", rule="BP").isel(curve=1)
    assert by_step.step_reached.values.tolist() == [first, first]
    assert "not the paper's setting" in printed
    assert "0 of 6 runs are there at the first" in printed
    assert list(figures) == ["compute_MLP"]
