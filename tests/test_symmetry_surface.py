"""The surface bottleneck × rank × route: recipe, what a scan keeps of a run, and the analysis."""

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.config import change
from neurofb.measures import population_medians, shape_measures, spectrum_matched_noise
from neurofb.recipes import load_recipe
from neurofb.run import build, run
from neurofb.scan.axis_text import parse_axis
from neurofb.scan.grid import cells_of, make_axes

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "models" / "symmetry_surface.py"
ANALYSIS = ROOT / "analyses" / "symmetry_surface.py"
DIMS = ("bottleneck", "rank", "route", "seed", "layer")
TINY = {
    "training.num_steps": "2",
    "training.batch_size": "8",
    "network.kernel_size": "3",
    "network.retina_width": "4",
    "network.vvs_width": "4",
    "network.hidden": "8",
    "measurement.num_probes": "2",
    "measurement.num_images": "8",
    "data.num_train": "64",
    "data.num_validation": "16",
    "data.num_test": "16",
    "device": "cpu",
}


def made_up(symmetry, *, noise_high=0.5, num_seeds=5):
    """Make a scan: `symmetry(bottleneck, rank, route, seed)` in every cell that the study has."""
    axes = {"bottleneck": [2, 4, 8], "rank": [1, 2, 4, 8], "route": ["direct", "exact", "stepwise"]}
    shape = (3, 4, 3, num_seeds, 2)
    values, status = np.full(shape, np.nan), np.full(shape[:-1], -1)
    for place in np.ndindex(*shape[:-1]):
        at = [axis[i] for axis, i in zip(axes.values(), place[:3], strict=True)]
        bottleneck, rank, route = at
        if route == "direct" or rank == bottleneck or (route == "stepwise" and rank < bottleneck):
            values[place] = symmetry(*at, place[3]), -1.0
            status[place] = 1
    nulls = {"": values, "_untrained": 0 * values + 0.1, "_noise": 0 * values + 0.3}
    nulls |= {"_noise_low": 0 * values + 0.2, "_noise_high": 0 * values + noise_high}
    measures = ("rotational_symmetry", "orientation_selectivity")
    cells = {f"{name}{ending}": a for name in measures for ending, a in nulls.items()}
    cells |= {"num_counted": 0 * values + 3, "num_units": 0 * values + 4}
    scan = xr.Dataset({name: labels.variable(DIMS, a, "1", name) for name, a in cells.items()})
    scan["test_accuracy"] = labels.variable(DIMS[:-1], 0 * values[..., 0] + 0.9, "1", "accuracy")
    scan["status"] = labels.variable(DIMS[:-1], status, "1", "state of the cell")
    layers = np.array(["retina_2", "retina_1"], object)
    return scan.assign_coords(axes | {"seed": range(num_seeds), "layer": layers})


def falls(bottleneck, rank, route, seed):
    """Return a symmetry that falls with rank on the way step by step, and rises on the direct."""
    slope = {"stepwise": -0.1, "direct": 0.02, "exact": 0.0}[route]
    return 0.6 + slope * np.log2(rank) - 0.01 * np.log2(bottleneck) + 0.001 * seed


@pytest.fixture(scope="module")
def tiny_run():
    """Train a tiny network whose error is narrow, and say that two of its units have learnt."""
    config = load_recipe(f"{RECIPE}::surface")(bottleneck=4, rank=2, route="stepwise")
    tree = run(change(config, TINY | {"seed": "2"}), progress=False)
    node = tree["receptive_field/retina_2"].dataset  # shares its arrays with the tree
    node["status"].values[:] = ["ok", "truncated", "unmoved", "dead"]
    for name in ("moved", "alive"):
        node[name].values[:] = [1, 1, 0, 0]
    return tree


@pytest.mark.parametrize("route", ["exact", "stepwise", "direct"])
def test_routes_differ_in_one_map(route):
    config = load_recipe(f"{RECIPE}::surface")(bottleneck=4, rank=2, route=route)
    rule = {"exact": "exact", "stepwise": "low_rank", "direct": "direct"}[route]
    assert config.feedback.rule == rule
    assert config.feedback_layers == (() if route == "exact" else ("vvs_1",))
    assert config.network.bottleneck == 4
    config = change(config, TINY)
    assert np.isfinite(run(config, progress=False)["test_loss"])


def test_a_route_or_a_rank_that_is_not_there():
    surface = load_recipe(f"{RECIPE}::surface")
    with pytest.raises(ValueError, match="route='round' must be 'exact', 'stepwise' or 'direct'"):
        surface(route="round")
    config = change(surface(bottleneck=4, rank=8), TINY)
    with pytest.raises(ValueError, match="rank=8 is larger"):
        build(config, config.data.load())


def test_the_study_asks_for_each_condition_once():
    command = load_recipe(f"{RECIPE}::surface").__globals__["__doc__"].split("::\n", 1)[1]
    words = shlex.split(command.split("\n\n")[0].replace("\\\n", " "))
    pairs = list(itertools.pairwise(words))
    axes = make_axes(dict(parse_axis(value) for word, value in pairs if word == "--over"))
    where = next(value for word, value in pairs if word == "--where")
    found = [
        tuple(cell.labels[dim] for dim in ("bottleneck", "rank", "route"))
        for cell in cells_of(axes, where)
        if cell.labels["seed"] == 0
    ]
    widths, ranks = ([int(label) for label in axis.labels] for axis in axes[:2])
    expected = {(width, width, "exact") for width in widths}
    expected |= {(width, rank, "direct") for width in widths for rank in ranks}
    expected |= {(w, r, "stepwise") for w in widths for r in ranks if r <= w}
    assert set(found) == expected
    assert len(found) == len(expected) == 38
    assert re.search(r"analyses/receptive_fields\.py", command)


def test_a_cell_is_the_medians_of_a_run_with_both_nulls(tiny_run):
    per_run = load_recipe(f"{ROOT / 'analyses' / 'receptive_fields.py'}::per_run")
    cell = per_run(tiny_run, num_draws=3)
    assert cell["layer"].values.tolist() == ["retina_2", "retina_1"]
    table = tiny_run["receptive_field/retina_2"].to_dataset(inherit=False)
    medians, one = population_medians(table), cell.sel(layer="retina_2")
    for name in ("rotational_symmetry", "orientation_selectivity", "dc_ratio"):
        assert float(one[name]) == float(medians[name]) == float(table[name][:2].mean())
        before = tiny_run[f"receptive_field/retina_2/untrained/{name}"]
        assert float(one[f"{name}_untrained"]) == pytest.approx(float(before.median()))
    draws = []
    for seed in (6, 7, 8):  # three draws of a run with seed 2
        noise = shape_measures(spectrum_matched_noise(table, seed), fits=False, bars=False)
        draws.append(float(noise["rotational_symmetry"][:2].mean()))
    for ending, share in (("", 0.5), ("_low", 0.05), ("_high", 0.95)):
        value = float(one[f"rotational_symmetry_noise{ending}"])
        assert value == pytest.approx(np.quantile(draws, share))
    assert (int(one["num_counted"]), int(one["num_units"])) == (2, 4)
    assert float(cell["test_accuracy"]) == float(tiny_run["test_accuracy"])
    for name, values in cell.variables.items():
        assert values.attrs.get("units"), name
        assert values.attrs.get("long_name"), name


def test_a_run_without_receptive_fields_is_no_cell(tiny_run):
    per_run = load_recipe(f"{ROOT / 'analyses' / 'receptive_fields.py'}::per_run")
    tree = xr.DataTree(tiny_run.to_dataset())
    with pytest.raises(ValueError, match="no receptive fields"):
        per_run(tree)


def analyse(scan):
    return load_recipe(f"{ANALYSIS}::analyse")(scan)


def test_known_trends_are_found(capsys, tmp_path):
    found, figures = analyse(made_up(falls))
    assert found["route"].values.tolist() == ["exact", "stepwise", "direct"]
    assert str(found["layer"].values) == "retina_2"
    np.testing.assert_allclose(found["trend_as_rank_falls"].sel(route="stepwise", bottleneck=8), 1)
    np.testing.assert_allclose(found["trend_as_rank_falls"].sel(route="direct", bottleneck=8), -1)
    assert found["trend_as_rank_falls"].sel(route="exact").isnull().all()
    np.testing.assert_allclose(found["trend_as_bottleneck_narrows"].sel(route="direct"), 1)
    holds = dict(zip(found["statement"].values, found["statement_holds"].values, strict=True))
    assert {text.split(" (")[0]: bool(value) for text, value in holds.items()} == {
        "stepwise: rounder as the rank falls": True,
        "stepwise: rounder as the bottleneck narrows": True,
        "direct: rounder as the rank falls": False,
        "direct: rounder as the bottleneck narrows": True,
        "exact: rounder as the bottleneck narrows": True,
        "stepwise at rank 1: rounder than exact": False,
        "direct at rank 1: rounder than exact": False,
        "direct at rank 8: less round than exact": False,
    }
    np.testing.assert_allclose(
        found["statement_difference"].sel(statement=list(holds)[-1]), -0.06, atol=1e-12
    )
    assert set(figures) == {"surface", "orientation"}
    for name, values in found.variables.items():
        assert values.attrs.get("units"), name
        assert values.attrs.get("long_name"), name
    for suffix in ("zarr", "nc"):
        labels.save(found, tmp_path / f"a.{suffix}")
        labels.load(tmp_path / f"a.{suffix}")
    printed = capsys.readouterr().out
    assert "120 of 120 cells are done" in printed
    assert "stepwise: rounder as the rank falls (mean over bottlenecks): holds (5 of 5" in printed


def test_seeds_are_compared_with_their_own_null():
    scan = made_up(lambda bottleneck, rank, route, seed: 0.4 + 0.05 * seed, noise_high=0.52)
    found, _ = analyse(xr.DataTree(scan))
    at = found.sel(route="direct", bottleneck=4, rank=2)
    assert float(at["rotational_symmetry_median"]) == pytest.approx(0.5)
    assert float(at["rotational_symmetry_num_above_noise"]) == 2  # 0.55 and 0.6
    assert float(at["rotational_symmetry_num_above_untrained"]) == 5
    assert float(at["rotational_symmetry_minus_noise"]) == pytest.approx(0.2)
    assert float(at["rotational_symmetry_minus_untrained"]) == pytest.approx(0.4)


def test_what_is_not_done_stays_missing(capsys):
    scan = made_up(falls)
    at = {"route": "stepwise", "bottleneck": 8, "rank": 2}
    for where, state in ((at, 0), ({**at, "rank": 4}, 0), ({**at, "rank": 1, "seed": [1, 2]}, 2)):
        scan["status"].loc[where] = state
        for name in scan.data_vars:
            if name != "status":
                scan[name].loc[where] = np.nan
    found, _ = analyse(scan)
    assert np.isnan(found["rotational_symmetry_median"].sel(at))
    assert float(found["rotational_symmetry_median"].sel({**at, "rank": 1})) == pytest.approx(
        np.median([falls(8, 1, "stepwise", seed) for seed in (0, 3, 4)])
    )
    trends = found["trend_as_rank_falls"].sel(route="stepwise", bottleneck=8)
    np.testing.assert_array_equal(trends, [1, np.nan, np.nan, 1, 1])
    printed = capsys.readouterr().out
    assert "108 of 120 cells are done" in printed
    assert "8   0.57 (3/3)            -            -   0.27 (0/5)" in printed


def test_a_store_before_its_first_cell():
    scan = made_up(falls)
    for name in scan.data_vars:
        scan[name] = scan[name] if name == "status" else scan[name] * np.nan
    scan["status"] = scan["status"].where(scan["status"] < 0, 0)
    found, _ = analyse(scan)
    assert not found["statement_holds"].any()
    with pytest.raises(ValueError, match="the scan has no 'rotational_symmetry'"):
        analyse(scan.drop_vars("rotational_symmetry"))
