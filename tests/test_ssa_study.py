"""Recipes of SSA at tiny size, and the analyses on made-up studies whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.build import num_parameters
from neurofb.config import RunConfig, change, replace, to_json
from neurofb.data import ShapesOnLeaves
from neurofb.measures import factor_cost
from neurofb.recipes import call_recipe, load_recipe
from neurofb.run import build, run
from neurofb.run_cost import run_cost
from neurofb.step_cost import step_cost
from neurofb.study import Study

ROOT = Path(__file__).parents[1]
RECIPE, ACCURACY = ROOT / "models" / "ssa.py", ROOT / "analyses" / "ssa.py"
TERMS = ROOT / "analyses" / "ssa_terms.py"
STUDIES = ("accuracy", "orthogonality", "ablation", "schedules", "convolution", "rates")
FACTORED = ("SVD-BP", "SSA-FA", "SSA-DFA")
TINY = {
    "training.num_steps": "3",
    "training.snapshot_steps": "[0, 3]",
    "training.batch_size": "16",
    "measurement.rank_images": "16",
    "device": "cpu",
}
SHAPES = ShapesOnLeaves(image_size=28, num_train=32, num_validation=16, num_test=16)


def tiny(config, **more):
    return change(replace(config, data=SHAPES), {**TINY, **more})


@pytest.mark.parametrize("method", ["BP", "FA", "DFA", *FACTORED])
def test_one_switch_trains_every_method(method):
    config = tiny(load_recipe(f"{RECIPE}::run")(method, 0.1))
    tree = run(config, progress=False)
    assert np.isfinite(tree["test_loss"])
    assert ("factors" in tree.children) == (method in FACTORED)
    hidden = tree["error_rank/gradient_angle"].isel(layer=slice(0, 2))
    assert bool((hidden < 1e-3).all()) == method.endswith("BP")
    assert int(tree["num_parameters"]) == (42_042 if method in FACTORED else 269_322)
    if method in FACTORED:
        assert tree["factors/rank"].isel(epoch=0).values.tolist() == [25, 25, 10]
        assert float(tree["factors/orthonormality_residual_u"].max()) < 1e-5


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method='PEPITA' must be one of BP, SVD-BP, FA"):
        load_recipe(f"{RECIPE}::run")("PEPITA")


@pytest.mark.parametrize("name", STUDIES)
def test_every_condition_of_every_study_is_built(name):
    study = call_recipe(f"{RECIPE}::{name}")
    assert isinstance(study, Study)
    assert len(study.seeds) == {"rates": 1, "convolution": 2}.get(name, 3)
    data = SHAPES.load()
    for condition, config in study.conditions.items():
        network = build(tiny(config), data)
        assert num_parameters(network) > 0, condition
        assert (config.factorised is not None) == condition.startswith(FACTORED), condition
        assert config.training.on_divergence == "keep", condition
    # every condition is another run
    assert len({to_json(replace(c, name="")) for c in study.conditions.values()}) == len(
        study.conditions
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ablation", "schedules", "convolution"])
def test_conditions_train(name):
    for condition, config in call_recipe(f"{RECIPE}::{name}").conditions.items():
        tree = run(tiny(config, **{"training.batch_size": "8"}), progress=False)
        assert np.isfinite(tree["test_loss"]), condition


def test_cost_of_a_run():
    recipe = load_recipe(f"{RECIPE}::run")
    dense, half, soft = (
        run_cost(config)
        for config in (recipe("BP"), recipe("SSA-DFA"), recipe("SSA-DFA", orthogonality="soft"))
    )
    config = recipe("SSA-DFA")
    table = factor_cost(config.network, config.factorised)
    assert int(half.num_parameters) == int(table.parameters_factored.sum()) == 202_104
    # two FLOPs a multiply-add, and element-wise work beside them
    assert 0 < float(dense.forward_flops) - 128 * 2 * float(table.macs_dense.sum()) < 1e6
    qr = [(784, 128), (256, 128), (256, 128), (256, 128), (256, 10), (10, 10)]
    expected = sum(4 * n * r**2 - 4 * r**3 / 3 for n, r in qr)
    assert float(half.retraction_flops) == pytest.approx(expected, rel=1e-6)
    assert float(soft.retraction_flops) == 0
    assert float(half.step_flops - soft.step_flops) == float(half.retraction_flops)
    with pytest.raises(ValueError, match=r"factorised: .*run_cost"):
        step_cost(recipe("SSA-DFA"))
    # weights, gradients and Adam's two moments, at four bytes
    assert float(dense.training_memory) > 4 * 4 * 269_322
    assert float(half.training_memory) < float(dense.training_memory)


def study(accuracies, *, angles=None, residuals=None, ranks=None, configs=None):
    """Make a study: condition → test accuracy of each of two seeds, NaN for one that diverged."""
    conditions = list(accuracies)
    final = np.array([accuracies[name] for name in conditions])
    dims, names = ("condition", "seed"), {"seed": [0, 1]}
    names["condition"] = labels.coordinate("condition", conditions)
    names["layer"] = labels.coordinate("layer", ["hidden_1", "readout"])
    recipe = load_recipe(f"{RECIPE}::run")
    configs = configs or {name: recipe(name.split(" ")[0].rstrip(",")) for name in conditions}
    tree = {
        "/": xr.Dataset(
            {
                "test_accuracy": labels.variable(dims, final, "1", "accuracy"),
                "diverged_at": labels.variable(
                    dims, np.where(np.isnan(final), 40, np.nan), "1", "updates"
                ),
            },
            {key: names[key] for key in ("condition", "seed")},
            labels.provenance(
                title="made up",
                config=json.dumps({k: json.loads(to_json(c)) for k, c in configs.items()}),
            ),
        )
    }
    epochs = {"epoch": [0.0, 6.0]}

    def curve(name, values, start, units="1"):
        ends = np.array([values[condition] for condition in conditions], dtype=float)
        both = np.stack([np.full_like(ends, start), ends], -1)[:, None, :, None]
        both = np.broadcast_to(both, (len(conditions), 2, 2, 2)).copy()
        both[..., 1] = 0
        return labels.variable((*dims, "epoch", "layer"), both, units, name)

    if angles:
        values = {"gradient_angle": curve("angle", angles, 90, "degree")}
        tree["/error_rank"] = xr.Dataset(values, names | epochs)
    if residuals or ranks:
        values = {"rank": curve("rank", ranks or dict.fromkeys(conditions, 8), 256)}
        for key in "uv":
            one = curve(key, residuals or dict.fromkeys(conditions, 0), 0)
            values[f"orthonormality_residual_{key}"] = one
        tree["/factors"] = xr.Dataset(values, names | epochs)
    return xr.DataTree.from_dict(tree)


def analyse(address, tree, capsys, tmp_path):
    """Run an analysis; return its dataset, saved and opened again, its verdicts and its text."""
    dataset, figures = call_recipe(str(address), tree)
    labels.save(dataset, tmp_path / "analysis.zarr")
    for name, values in dataset.data_vars.items():
        assert "long_name" in values.attrs, name
    found = labels.load(tmp_path / "analysis.zarr").to_dataset()
    holds = dict(zip(found.statement.values, found.statement_holds.values.tolist(), strict=True))
    return found, figures, holds, capsys.readouterr().out


def test_accuracy_against_dense_and_bp(capsys, tmp_path):
    tree = study(
        {
            "BP": [0.87, 0.88],
            "SVD-BP r=0.5": [0.87, 0.86],
            "FA": [0.82, 0.83],
            "DFA": [0.83, 0.84],
            "SSA-DFA r=0.5": [0.825, 0.845],
            "SSA-FA r=0.5": [0.80, 0.81],
            "SSA-FA r=0.5, tracking": [0.868, 0.875],
        },
        angles={
            "BP": 0,
            "SVD-BP r=0.5": 0,
            "FA": 82,
            "DFA": 81,
            "SSA-DFA r=0.5": 72,
            "SSA-FA r=0.5": 85,
            "SSA-FA r=0.5, tracking": 1,
        },
    )
    found, figures, holds, printed = analyse(f"{ACCURACY}::analyse", tree, capsys, tmp_path)
    assert holds == {
        "SVD-BP r=0.5 is at most 1 point behind dense BP, with 75% of its parameters": False,
        "SSA-DFA r=0.5 is at most 1 point behind dense DFA, with 75% of its parameters": True,
        "SSA-DFA r=0.5 is more than 1 point behind BP": True,
        "gradients of SSA-DFA r=0.5 end closer to BP's than those of dense DFA": True,
        "SSA-FA r=0.5 is at most 1 point behind dense FA, with 75% of its parameters": False,
        "SSA-FA r=0.5 is more than 1 point behind BP": True,
        "gradients of SSA-FA r=0.5 end closer to BP's than those of dense FA": False,
        "SSA-FA r=0.5, tracking is at most 1 point behind dense BP, with 75% of its parameters; "
        "its feedback follows the weights": True,
    }
    np.testing.assert_allclose(
        found.dense_difference.sel(condition="SSA-DFA r=0.5"), [-0.5, 0.5], atol=1e-9
    )
    assert found.num_parameters.values.tolist() == [269322, 202104, 269322, 269322] + [202104] * 3
    assert set(figures) == {"accuracy", "angles", "costs"}
    assert "202104 (75%)" in printed
    assert "127.8" in printed, "the rank at which a square layer breaks even"
    with pytest.raises(ValueError, match="no condition 'DFA'"):
        call_recipe(f"{ACCURACY}::analyse", study({"BP": [0.5, 0.5], "FA": [0.5, 0.5]}))


def test_orthogonality_counts_runs_that_diverge(capsys, tmp_path):
    nan = np.nan
    accuracies = {
        "SSA-DFA, Adam 0.001, none": [0.65, 0.70],
        "SSA-DFA, Adam 0.001, soft 1": [0.80, 0.835],
        "SSA-DFA, Adam 0.001, retract": [0.84, 0.84],
        "SSA-DFA, Adam 0.001, polar": [0.845, 0.835],
        "SVD-BP, Adam 0.001, none": [0.865, 0.87],
        "SVD-BP, Adam 0.001, retract": [0.87, 0.87],
        "SSA-DFA, SGD 0.02, soft 0.1": [nan, nan],
        "SSA-DFA, SGD 0.02, retract": [0.3, nan],
    }
    residuals = dict.fromkeys(accuracies, 1e-6) | {"SSA-DFA, Adam 0.001, none": 500}
    tree = study(accuracies, residuals=residuals)
    found, figures, holds, printed = analyse(
        f"{TERMS}::analyse_orthogonality", tree, capsys, tmp_path
    )
    assert holds == {
        "SSA-DFA, Adam 0.001: none is more than 1 point behind retraction": True,
        "SSA-DFA, Adam 0.001: soft 1 is more than 1 point behind retraction": False,
        "SSA-DFA, Adam 0.001: polar is at most 1 point from retraction": True,
        "SVD-BP, Adam 0.001: none is at most 1 point behind retraction": True,
        "SSA-DFA, SGD 0.02, soft 0.1: diverges": True,
        "SSA-DFA, SGD 0.02, retract: does not diverge": False,
    }
    assert found.residual.sel(condition="SSA-DFA, Adam 0.001, none").values.tolist() == [500, 500]
    assert found.residual.sel(condition="SSA-DFA, SGD 0.02, soft 0.1").isnull().all()
    text = "SSA-DFA, Adam 0.001: none is more than 1 point behind retraction"
    at = found.sel(statement=text)
    np.testing.assert_allclose(at.statement_difference, [18, 13])
    np.testing.assert_allclose(at.statement_points, [-19, -14])
    assert f"{text}: holds (2 of 2 seeds; +18.00, +13.00); difference -19.00, -14.00 po" in printed
    polar = found.sel(statement="SSA-DFA, Adam 0.001: polar is at most 1 point from retraction")
    np.testing.assert_allclose(polar.statement_points, [0.5, -0.5])
    assert found.statement_points.isel(statement=slice(-2, None)).isnull().all()
    assert "retract: does not diverge: does not hold (1 of 2 seeds; +1.00, -1.00)\n" in printed
    assert "40 40" in printed
    assert len(figures["orthogonality"].axes) == 2


def test_ablation(capsys, tmp_path):
    accuracies = {
        "SSA-FA, retraction alone": [0.84, 0.84],
        "SSA-FA, alignment 0.3": [0.76, 0.77],
        "SSA-FA, soft 1, cosine": [0.86, 0.86],
    }
    angles = dict(zip(accuracies, (80, 70, 85), strict=True))
    tree = study(accuracies, angles=angles)
    found, _, holds, _ = analyse(f"{TERMS}::analyse_ablation", tree, capsys, tmp_path)
    assert list(holds.values()) == [False, True, True, False]
    nan = np.nan
    np.testing.assert_allclose(found.statement_points, [[-8, -7], [nan] * 2, [2, 2], [nan] * 2])
    assert found.label.values.tolist() == ["retraction alone", "alignment 0.3", "soft 1, cosine"]
    assert set(found.group.values) == {"SSA-FA"}


def test_schedules(capsys, tmp_path):
    accuracies = {
        "SSA-DFA, no cuts": [0.84, 0.84],
        "SSA-DFA, to the end": [0.79, 0.80],
        "SSA-DFA, first half": [0.835, 0.84],
    }
    ranks = dict(zip(accuracies, (256, 82, 92), strict=True))
    tree = study(accuracies, ranks=ranks)
    found, _, holds, _ = analyse(f"{TERMS}::analyse_schedules", tree, capsys, tmp_path)
    assert list(holds.values()) == [True, True]
    np.testing.assert_allclose(found.statement_points, [[-5, -4], [-0.5, 0]], atol=1e-9)
    assert found.final_rank.isel(seed=0).values.tolist() == [256, 82, 92]


def test_rates(capsys, tmp_path):
    tree = study({f"BP, rate {rate}": [0.5, 0.5] for rate in ("0.001", "0.003", "0.01")})
    curve = np.array([[[0.5, 0.7]] * 2, [[0.6, 0.8]] * 2, [[0.5, np.nan]] * 2])
    dims = ("condition", "seed", "epoch")
    tree["validation_accuracy"] = xr.DataArray(curve, dims=dims)
    dataset, figures = call_recipe(f"{ACCURACY}::analyse_rates", tree)
    labels.save(dataset, tmp_path / "analysis.zarr")
    assert dataset.chosen_rate.values.tolist() == [0.003]
    assert dataset.at_edge.values.tolist() == [False]
    assert figures == {}
    assert "80.0" in capsys.readouterr().out


def test_names_of_the_switch_are_a_run():
    assert isinstance(call_recipe(f"{RECIPE}::run"), RunConfig)


@pytest.mark.parametrize(
    "address",
    [f"{ACCURACY}::analyse", f"{ACCURACY}::analyse_rates", f"{TERMS}::analyse_ablation"],
    ids=lambda address: address.rpartition("::")[2],
)
def test_the_result_of_one_run_is_refused(address):
    tree = study({"BP": [0.5, 0.5]}).isel(condition=0, drop=True)
    with pytest.raises(ValueError, match="no dim 'condition': it is of one run"):
        call_recipe(address, tree)
