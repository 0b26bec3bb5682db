"""Recipes and analyses of the rank of the error: made-up studies, and real ones in tiny."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau

from neurofb import labels
from neurofb.build import pathways_of
from neurofb.config import RunConfig, from_json, replace, to_json
from neurofb.data import Npz
from neurofb.networks import MLPConfig
from neurofb.rank_curves import MEASURES
from neurofb.recipes import call_recipe, load_recipe, recipe_names
from neurofb.run import run
from neurofb.study import Study, gather, run_folder

ROOT = Path(__file__).parents[1]
MLP, CNN = ROOT / "models" / "deep_mlp.py", ROOT / "models" / "deep_cnn.py"
RECIPES = [f"{path}::{name}" for path in (MLP, CNN) for name in recipe_names(path) if name != "run"]
TABLE, CONTROL = ROOT / "analyses" / "error_rank.py", ROOT / "analyses" / "error_rank_control.py"
LAYERS = ["hidden_1", "hidden_2", "readout"]


def made_up(values, *, channel_view_differs=False):
    """Make a study: condition → accuracy, rank at the end of the last hidden layer, raw rank.

    A rank falls linearly over two epochs from 20, in hidden_1 half as far; seeds are alike.
    """
    names = list(values)
    accuracy, rank, raw = np.array([values[name] for name in names], dtype=float).T
    part = np.array([0, 0.5, 1])[:, None] * np.array([0.5, 1.0, 1.0])
    shape = (len(names), 2, 3, 3, 2, 2)
    dims = ("condition", "seed", "epoch", "layer", "definition", "view")

    def full(end):
        curve = 20 + (end[:, None, None] - 20) * part
        return np.broadcast_to(curve[:, None, :, :, None, None], shape).copy()

    data = {"error_rank": full(raw), "error_rank_normalised": full(rank)}
    if channel_view_differs:
        data["error_rank"][..., 0] = 3.0
        data["error_rank_normalised"][..., 0] = 4.0
    data |= {name: full(rank)[..., 0] for name in ("activity_rank", "gradient_rank", "update_rank")}
    data["gradient_angle"] = full(rank)[..., 0, 0]
    data["error_rank_ceiling"] = np.full((*shape[:4], 2), 64.0)
    of = {"gradient_angle": dims[:4], "error_rank_ceiling": (*dims[:4], "view")}
    of |= {name: dims for name in ("error_rank", "error_rank_normalised")}
    config = RunConfig(name="x", network=MLPConfig(image_size=12, in_channels=1, hidden=(64, 64)))
    coords = {
        "condition": labels.coordinate("condition", names),
        "seed": labels.coordinate("seed", [0, 1]),
        "epoch": labels.coordinate("epoch", [0.0, 1.0, 2.0]),
    }
    more = {
        "layer": labels.coordinate("layer", LAYERS),
        "definition": labels.coordinate("definition", ["entropy", "stable"]),
        "view": labels.coordinate("view", ["channel", "sample"]),
    }
    tested = np.repeat(accuracy[:, None], 2, 1)
    settings = json.dumps({name: json.loads(to_json(config)) for name in names})
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(
                {"test_accuracy": labels.variable(dims[:2], tested, "1", "test accuracy")},
                coords,
                labels.provenance(title="made up", config=settings),
            ),
            "/error_rank": xr.Dataset(
                {
                    name: labels.variable(of.get(name, dims[:5]), array, "1", name)
                    for name, array in data.items()
                },
                coords | more,
            ),
        }
    )


def analyse(address, tree, capsys, tmp_path):
    """Run an analysis, save its dataset, return it with the figures and what was printed."""
    dataset, figures = call_recipe(str(address), tree)
    labels.save(dataset, tmp_path / "analysis.zarr")
    for name, values in dataset.data_vars.items():
        assert "long_name" in values.attrs, name
    return labels.load(tmp_path / "analysis.zarr").to_dataset(), figures, capsys.readouterr().out


def verdicts(found):
    return dict(zip(found.statement.values, found.statement_holds.values.tolist(), strict=True))


GRID = {
    "BP, Adam, none": (0.85, 18, 15),
    "FA, Adam, none": (0.45, 5, 4),
    "BP, Adam, batch": (0.86, 19, 16),
    "FA, Adam, batch": (0.79, 17, 15),
    "BP, Muon, none": (0.86, 17, 6),
    "FA, Muon, none": (0.77, 14, 12),
    "BP, Muon, batch": (0.87, 19, 8),
    "FA, Muon, batch": (0.83, 18, 14),
    "FA, Adam, group": (0.40, 4, 4),
    "FA orthogonal, Adam, none": (0.50, 6, 5),
}


def test_the_table_finds_collapse_and_cures(capsys, tmp_path):
    found, figures, printed = analyse(f"{TABLE}::analyse", made_up(GRID), capsys, tmp_path)
    said = verdicts(found)
    assert all(
        said[text]
        for text in (
            "before training the ranks of FA and BP differ by less than 5 % in every layer",
            "Adam, none: FA's rank is below BP's",
            "Adam, none: FA's rank is below half of BP's",
            "Adam: normalisation by batch raises FA's rank",
            "none: Muon instead of Adam raises FA's rank",
            "none: Muon instead of Adam makes FA more accurate (points)",
            "Muon, none: BP's raw rank is below FA's, though BP is more accurate",
            "Adam, none: orthogonal feedback makes FA more accurate (points)",
            "FA, Muon and batch norm together: more accurate than either alone (points)",
        )
    )
    assert not said["Muon, none: FA's rank is below half of BP's"]
    assert not said["Muon, batch: FA is more than 5 points behind BP (points)"]
    assert not said["Adam: normalisation by group raises FA's rank"]
    gain = found.statement_difference.sel(
        statement="FA, Muon and batch norm together: more accurate than either alone (points)"
    )
    np.testing.assert_allclose(gain, 4)
    trends = {name: found[f"{name}_trend"] for name in ("error_rank", "error_rank_normalised")}
    for column, (name, trend) in enumerate(trends.items(), start=1):
        points, *ranks = np.array(list(GRID.values())).T
        np.testing.assert_allclose(trend, kendalltau(ranks[column - 2], points).statistic)
        assert f"{name}_trend: {float(trend[0]):+.2f}, {float(trend[1]):+.2f}" in printed
    assert not [text for text in said if "over all conditions" in text], "a tau has no verdict"
    at = {"rule": "FA", "optimiser": "Adam", "normalisation": "none"}
    end = found.error_rank_normalised.sel(at | {"definition": "entropy", "view": "sample"})
    np.testing.assert_allclose(end, [[12.5, 5, 5]] * 2)
    assert (found.error_rank_start.sel(at) == 20).all()
    assert set(figures) == {"depth", "epochs", "accuracy", "normalisations"}
    assert len(figures["depth"].axes) == 4
    assert figures["depth"].axes[0].get_ylabel() == "effective rank (entropy)"
    assert [axes.get_title(loc="left") for axes in figures["normalisations"].axes] == [
        "no normalisation, Adam",
        "batch norm, Adam",
        "group norm, Adam",
    ]
    axis = figures["accuracy"].axes[0].get_xlabel().replace("\n", " ")
    assert axis == "effective rank (entropy) of the raw error, hidden_2"
    assert re.search(r"FA, Adam, none +45\.0 \(45\.0 45\.0\) +12 4 +12 5", printed)


def test_convolutions_are_seen_in_two_views(capsys, tmp_path):
    tree = made_up(GRID, channel_view_differs=True)
    found, figures, printed = analyse(f"{TABLE}::analyse", tree, capsys, tmp_path)
    assert {"depth_channel", "depth_sample", "epochs_channel"} < set(figures)
    assert "(channel view)" in printed
    assert verdicts(found)["Adam, none: FA's rank is below BP's"]  # of samples: channels are alike


def test_a_condition_that_diverged_agrees_with_nothing(capsys, tmp_path):
    tree = made_up(GRID)
    tree["test_accuracy"].loc[{"condition": "FA, Muon, batch", "seed": 1}] = np.nan
    found, _, printed = analyse(f"{TABLE}::analyse", tree, capsys, tmp_path)
    assert "83.0 (83.0 diverged)" in printed
    text = "FA, Muon and batch norm together: more accurate than either alone (points)"
    assert not verdicts(found)[text]


def test_without_ranks_it_says_so():
    tree = made_up(GRID)
    del tree["error_rank"]
    with pytest.raises(ValueError, match="the study has no /error_rank"):
        call_recipe(f"{TABLE}::analyse", tree)


def test_rates_that_diverged_are_not_chosen(capsys, tmp_path):
    rates = {"0.1": 0.5, "0.3": 0.7, "1": 0.9}
    names = [f"FA, SGD, none, rate {rate}" for rate in rates]
    names += [f"LDFA r=4, local, Adam, none, rate {rate}" for rate in ("0.3", "1")]
    value = np.array([*rates.values(), 0.8, 0.6])[:, None, None]
    diverged = np.array([np.nan, np.nan, 7, np.nan, np.nan])[:, None]
    tree = xr.DataTree(
        xr.Dataset(
            {
                "validation_accuracy": (("condition", "seed", "epoch"), value),
                "diverged_at": (("condition", "seed"), diverged),
            },
            {"condition": names, "seed": [100], "epoch": [1.0]},
        )
    )
    found, figures, printed = analyse(f"{TABLE}::analyse_rates", tree, capsys, tmp_path)
    assert figures == {}
    chosen = found.chosen_rate.sel(optimiser="SGD", rule="FA", normalisation="none")
    assert chosen == 0.3
    assert '"LDFA r=4, local, Adam, none": 0.3,  # 0.3: 80.0  1: 60.0  (at the edge)' in printed
    assert "2 of 2 chosen rates lie at the edge" in printed


def test_updates_of_controlled_rank(capsys, tmp_path):
    tree = made_up(
        {
            "BP, none": (0.85, 18, 15),
            "BP, truncate 5": (0.8, 12, 10),
            "BP, truncate 1": (0.3, 20, 5),
            "FA, none": (0.4, 5, 4),
            "FA, polar": (0.6, 4, 3),
        }
    )
    found, figures, printed = analyse(f"{CONTROL}::analyse_causal", tree, capsys, tmp_path)
    said = verdicts(found)
    assert said == {
        "BP, truncate 5: accuracy (points) below that with the whole update": True,
        "BP, truncate 5: rank of the error below that with the whole update": True,
        "BP, truncate 1: accuracy (points) below that with the whole update": True,
        "BP, truncate 1: rank of the error below that with the whole update": False,
        "FA, polar: accuracy (points) above that with the update as it is": True,
        "FA, polar: rank of the error above that with the update as it is": False,
    }
    first = found.statement_difference.isel(statement=0)
    np.testing.assert_allclose(first, 5)
    assert "BP, truncate 5  80.0 (80.0 80.0)" in printed
    titles = [axes.get_title(loc="left") for axes in figures["causal"].axes]
    assert titles == ["BP", "FA", "", "", "", ""]
    update = figures["causal"].axes[3].collections
    np.testing.assert_allclose(update[1].get_offsets()[:, 1], (12.5 + 5) / 2)


def test_rank_of_the_feedback_crossed(capsys, tmp_path):
    rules = {"BP": (0.9, 18, 9), "FA": (0.5, 6, 6)}
    rules |= {f"LDFA r={r}, local": (0.4 + r / 50, r / 2, r / 2) for r in (4, 10, 32)}
    rules |= {"LDFA r=10, normative": (0.8, 3, 3)}
    tree = made_up({f"{r}, {o}, none": v for r, v in rules.items() for o in ("Adam", "Muon")})
    found, figures, _ = analyse(f"{CONTROL}::analyse_crossing", tree, capsys, tmp_path)
    said = verdicts(found)
    assert said["Adam, none: accuracy (points) of LDFA r=10, local above FA's"]
    assert not said["Adam, none: accuracy (points) of LDFA r=4, local above FA's"]
    assert not said["Muon, none: rank of the error of LDFA r=10, normative above FA's"]
    text = "rank of the error of local LDFA rises with the feedback's rank (Kendall's tau)"
    assert said[f"Muon, none: {text}"]
    tau = found.statement_difference.sel(statement=f"Muon, none: {text}")
    np.testing.assert_allclose(tau, 1)
    axes = figures["crossing"].axes
    assert axes[0].get_title(loc="left") == "Adam, no normalisation"
    assert [tick.get_text() for tick in axes[-1].get_xticklabels()] == list(rules)


@pytest.mark.parametrize("address", RECIPES, ids=lambda address: Path(address).name)
def test_every_recipe_is_a_study_of_sound_runs(address):
    study = call_recipe(address)
    searches = "rates" in address.rpartition("::")[2]
    assert len(study.seeds) == 1 if searches else len(study.seeds) >= 2
    for name, config in study.conditions.items():
        assert from_json(to_json(config)) == config
        network = config.network.build(0)
        layers = pathways_of(config, network)
        first = next(n for n, _ in network.named_modules() if n in ("hidden_1", "conv_1", "stem"))
        assert first not in layers
        assert ("readout" in layers) == (not name.startswith("BP"))
        assert bool(config.training.snapshot_steps) == bool(config.measurement.rank_images)
        assert bool(config.measurement.rank_images) != searches
        assert config.training.on_divergence == "keep"


@pytest.mark.parametrize(
    ("path", "study", "options"),
    [
        (MLP, "table", {}),
        (MLP, "crossing", {}),
        (CNN, "table", {}),
        (CNN, "resnet", {"network": "ResNet-8"}),
    ],
)
def test_every_condition_is_a_run_of_its_own(path, study, options):
    one = load_recipe(f"{path}::run")
    for name, config in call_recipe(f"{path}::{study}").conditions.items():
        if not name.startswith("FA slow"):  # its rate is not the best
            assert one(*name.rsplit(", ", 2), **options) == config
    with pytest.raises(ValueError, match=r"'FA, Muon, bach' is no condition.*: BP, "):
        one("FA", "Muon", "bach", **options)


@pytest.mark.parametrize(
    "address",
    [
        f"{TABLE}::analyse",
        f"{TABLE}::analyse_rates",
        f"{CONTROL}::analyse_causal",
        f"{CONTROL}::analyse_crossing",
    ],
    ids=lambda address: address.rpartition("::")[2],
)
def test_the_result_of_one_run_is_refused(address):
    tree = made_up(GRID).isel(condition=0, drop=True)
    with pytest.raises(ValueError, match="no dim 'condition': it is of one run"):
        call_recipe(address, tree)


def test_rates_differ_in_the_rate_alone():
    study, search = (call_recipe(f"{MLP}::{name}") for name in ("table", "rates"))
    searched = {name.rpartition(", rate ")[0] for name in search.conditions}
    assert searched == set(study.conditions) - {"FA slow, Muon, none"}
    for name, config in search.conditions.items():
        label, _, rate = name.rpartition(", rate ")
        assert config.training.optimiser.learning_rate == float(rate)
        base = study.conditions[label]
        optimiser = replace(config, training=base.training, measurement=base.measurement)
        assert optimiser == base


TINY = {
    f"{MLP}::table": ("FA, Muon, batch", "BP, Muon, batch", "FA orthogonal, SGD, none"),
    f"{MLP}::crossing": ("LDFA r=4, local, Muon, batch", "LDFA r=10, normative, Adam, none"),
    f"{MLP}::causal": ("BP, truncate 2", "FA, flat 0.25", "FA, interpolate 0.5"),
    f"{CNN}::table": ("FA, Muon, none", "BP, Muon, none"),
    f"{CNN}::resnet": ("FA, Adam, group",),
}


@pytest.mark.parametrize("address", TINY, ids=lambda address: Path(address).name)
def test_runs_in_tiny(address, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(60) % 10)
    study = call_recipe(address)
    runs = {name: _tiny(study.conditions[name], tmp_path / "images.npz") for name in TINY[address]}
    small = Study(name=study.name, conditions=runs, seeds=(0,))
    for condition, seed, config in small.runs():
        run(config, run_folder(tmp_path, condition, seed), progress=False)
    tree = gather(small, tmp_path)
    ranks = tree["error_rank"].to_dataset()
    assert ranks["epoch"].size == 2
    for name in MEASURES:
        assert ranks[name].isel(layer=-2).notnull().all(), name
    if address.endswith("causal"):
        update = ranks["update_rank"].sel(condition="BP, truncate 2", definition="entropy")
        assert (update.isel(layer=slice(-1)) < 2 + 1e-6).all()


def _tiny(config, path):
    """Return a run of two updates on a few images, the network narrow."""
    training = dataclasses.replace(
        config.training, num_steps=2, batch_size=16, snapshot_steps=(0, 2), checkpoint_every=2
    )
    narrow = {"mlp": {"hidden": (16,) * 6}, "conv_net": {"channels": (4, 4, 4, 8, 8)}}
    network = dataclasses.replace(config.network, **narrow.get(config.network.network, {}))
    measurement = dataclasses.replace(config.measurement, rank_images=16)
    data = Npz(path=path, num_train=40)
    parts = {"training": training, "network": network, "measurement": measurement, "data": data}
    return replace(config, device="cpu", **parts)
