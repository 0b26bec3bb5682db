"""The study of curl over learning rules: recipes at tiny size, analysis and figures."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau

from neurofb import labels, plot
from neurofb.build import build
from neurofb.config import change, to_json
from neurofb.data import ShapesOnLeaves
from neurofb.gather import side_by_side
from neurofb.recipes import call_recipe
from neurofb.run import run

ROOT = Path(__file__).parents[1]
RECIPE, ANALYSIS = ROOT / "models" / "curl_of_rules.py", ROOT / "analyses" / "curl_of_rules.py"
SHAPES = ShapesOnLeaves(image_size=12, num_train=32, num_validation=16, num_test=16)
TINY = {
    "training.num_steps": "2",
    "training.snapshot_steps": "[0, 2]",
    "training.batch_size": "16",
    "network.hidden": "[6, 5]",
    "measurement.curl_images": "8",
    "measurement.curl_probes": "12",
    "device": "cpu",
}
SHOWN = (
    *("BP", "FA", "LDFA full, normative", "LDFA full, refreshed"),
    *("SSA-FA r=0.5", "flips, 1 unit"),
)


def tiny(config, **more):
    return change(replace(config, data=SHAPES), {**TINY, **more})


@pytest.fixture(scope="module")
def study():
    whole = call_recipe(f"{RECIPE}::table")
    configs = {name: tiny(whole.conditions[name]) for name in SHOWN}
    once = {name: run(config, progress=False) for name, config in configs.items()}
    runs = {(name, seed): tree for name, tree in once.items() for seed in (0, 1)}
    return side_by_side("tiny", configs, runs)


@pytest.mark.parametrize("name", ["table", "rates"])
def test_every_condition_is_built(name):
    study = call_recipe(f"{RECIPE}::{name}")
    assert len(study.seeds) == {"table": 5, "rates": 1}[name]
    data = SHAPES.load()
    for condition, config in study.conditions.items():
        assert sum(p.numel() for p in build(tiny(config), data).parameters()) > 0, condition
        assert bool(config.measurement.curl_images) == (name == "table")
        assert config.training.optimiser.name == "SGD"
    settings = {to_json(replace(c, name="")) for c in study.conditions.values()}
    assert len(settings) == len(study.conditions)


def test_the_analysis(study, capsys, tmp_path):
    found, figures = call_recipe(f"{ANALYSIS}::analyse", study)
    printed = capsys.readouterr().out
    assert "BP: curl index below 0.001 at the end: holds (2 of 2 seeds" in printed
    assert "FA: curl index above 0.05 at the end: holds" in printed
    assert "LDFA full, refreshed: curl index below 0.001 at the end: holds" in printed
    assert "null, a Jacobian of independent random numbers: 0.707" in printed
    assert set(figures) == {"rows", "epochs"}
    curl = found["curl_index"].sel(seed=0)
    assert float(curl.sel(condition="BP").max()) < 1e-3 < float(curl.sel(condition="FA").min())
    group = dict(zip(found["condition"].values, found["group"].values, strict=True))
    assert group["LDFA full, normative"] == "LDFA normative"
    assert group["SSA-FA r=0.5"] == "in SVD space"
    assert group["flips, 1 unit"] == "flips"
    for name, values in found.data_vars.items():
        assert {"units", "long_name"} <= set(values.attrs), name
    again = labels.load(labels.save(found, tmp_path / "found.nc")).to_dataset()
    np.testing.assert_array_equal(again["curl_index"], found["curl_index"])


def test_a_whole_normative_feedback_gives_the_gradient_and_has_curl(study):
    # the error's way back is a variable of its own: equal to W here, but W may move without it
    curl = study["curl"].to_dataset().sel(condition="LDFA full, normative", seed=0).isel(epoch=0)
    assert float(curl["gradient_cosine"]) == pytest.approx(1)
    assert float(curl["curl_index"]) > 0.05


def test_what_an_analysis_needs(study):
    with pytest.raises(ValueError, match="the study has no /curl"):
        call_recipe(f"{ANALYSIS}::analyse", xr.DataTree.from_dict({"/": study.to_dataset()}))


def test_rates_are_chosen_by_validation(capsys):
    values = [[[0.1, 0.2]], [[0.1, 0.4]], [[0.1, 0.3]], [[0.5, 0.6]]]
    names = ["BP, rate 0.1", "BP, rate 0.3", "BP, rate 1", "flips, 1 unit, rate 0.1"]
    dims = ("condition", "seed", "epoch")
    accuracy = labels.variable(dims, values, "1", "validation accuracy")
    coords = {"condition": names, "seed": [0], "epoch": [0.0, 1.0]}
    root = xr.Dataset({"validation_accuracy": accuracy}, coords)
    found, figures = call_recipe(f"{ANALYSIS}::analyse_rates", xr.DataTree(root))
    assert figures == {}
    chosen = found["chosen_rate"]
    assert float(chosen.sel(rule="BP")) == 0.3
    assert float(chosen.sel(rule="flips, 1 unit")) == 0.1
    assert "at the edge of the grid" in capsys.readouterr().out


def made_up():
    """Make curves of three rules, of which one ends early."""
    names = ["BP", "LDFA r=1, local", "LDFA r=2, local"]
    curve = np.linspace(0.1, 0.7, 18).reshape(3, 2, 3)
    curve[2, 1, 2] = np.nan
    dims = ("condition", "seed", "epoch")
    data = {name: (dims, curve) for name in ("curl_index", "gradient_cosine")}
    data["test_accuracy"] = (dims[:2], curve[..., 1])
    groups = ["dense feedback", "LDFA local", "LDFA local"]
    coords = {"condition": names, "seed": [0, 1], "epoch": [0.0, 1.0, 2.0]}
    return xr.Dataset({**data, "chance": 0.1}, coords | {"group": ("condition", groups)})


def points(axes, gid):
    return [line.get_xydata() for line in axes.lines if line.get_gid() == gid]


def test_rows_show_every_seed_and_the_nulls():
    dataset = made_up()
    panels = plot.curl_rows(dataset).axes
    curl, _, accuracy = panels
    assert [text.get_text() for text in curl.get_yticklabels()] == [*dataset["condition"].values]
    seeds = points(curl, "seed")
    assert len(seeds) == 2 * 3
    start, end = (np.concatenate(seeds[i : i + 3])[:, 0] for i in (0, 3))
    values = dataset["curl_index"].values
    np.testing.assert_allclose(start, values[..., 0].ravel())
    last = values[..., 2].ravel()
    last[-1] = values[2, 1, 1]  # where it ended
    np.testing.assert_allclose(end, last)
    assert sorted(line[0, 0] for line in points(curl, "null")) == [0, pytest.approx(0.5**0.5)]
    assert [line[0, 0] for line in points(accuracy, "null")] == [0.1]
    assert len(points(accuracy, "seed")) == 3
    medians = [line[0, 0] for line in points(curl, "median")][:3]
    np.testing.assert_allclose(medians, np.median(values[..., 0], axis=1))


def test_epochs_have_a_panel_a_group():
    figure = plot.curl_over_epochs(made_up())
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dense feedback", "LDFA local"]
    low = figure.axes[1]
    assert len(points(low, "seed")) == 2 * 2
    assert [text.get_text() for text in low.get_legend().get_texts()] == ["r=1", "r=2"]
    with pytest.raises(ValueError, match="group"):
        plot.curl_over_epochs(made_up().drop_vars("group"))


def test_the_pages_table_is_the_dataset():
    tree = labels.load(ROOT / "results" / "curl_of_rules.nc")
    curl, accuracy = tree["curl"].to_dataset(), 100 * tree["test_accuracy"]
    start, end = curl.isel(epoch=0), curl.isel(epoch=-1)
    text = (ROOT / "docs" / "curl_of_rules.md").read_text(encoding="utf-8")
    number = r"(-?\d+\.\d+)"
    pattern = rf"^\| (.+?) \| {number} \| {number} \({number} to {number}\)" + rf" \| {number}" * 4
    rows = re.findall(rf"{pattern} \|$", text, re.MULTILINE)
    assert len(rows) == curl.sizes["condition"] == 31
    for name, *numbers in rows:
        first, last = start.sel(condition=name), end.sel(condition=name)
        expected = [
            first.curl_index.median(),
            *(last.curl_index.median(), last.curl_index.min(), last.curl_index.max()),
            *(last.curl_index_all.median(), first.gradient_cosine.median()),
            *(last.gradient_cosine.median(), accuracy.sel(condition=name).median()),
        ]
        found = np.array([float(value) for value in numbers])
        np.testing.assert_allclose(found[:-1], expected[:-1], atol=0.0051, err_msg=name)
        np.testing.assert_allclose(found[-1], expected[-1], atol=0.051, err_msg=name)
    trends = {"curl_index": (-0.58, -0.47), "gradient_cosine": (0.59, 0.69)}
    for name, (low, high) in trends.items():
        pairs = [(end[name].sel(seed=s), accuracy.sel(seed=s)) for s in curl["seed"].values]
        taus = [kendalltau(a, b).statistic for a, b in pairs]
        np.testing.assert_allclose([min(taus), max(taus)], [low, high], atol=0.0051)


def test_the_rates_are_those_with_the_best_validation_accuracy():
    chosen = runpy.run_path(str(RECIPE))["CHOSEN"]
    found, _ = call_recipe(
        f"{ANALYSIS}::analyse_rates", labels.load(ROOT / "results" / "curl_of_rules_rates.nc")
    )
    assert len(chosen) == found.sizes["rule"] == 31
    for rule, rate in chosen.items():
        assert float(found["chosen_rate"].sel(rule=rule)) == pytest.approx(rate), rule
