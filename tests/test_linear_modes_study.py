"""The study of linear modes: recipes at tiny size, their analyses, their figures."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.cli import main
from neurofb.recipes import load_recipe
from neurofb.simulation import arguments_of, simulate

ROOT = Path(__file__).parents[1]
MODELS, ANALYSES = ROOT / "models/linear_modes.py", ROOT / "analyses/linear_modes.py"
SIZE = {"num_inputs": "12", "num_outputs": "6", "num_hidden": "6", "num_modes": "3", "seeds": "0,1"}


def computed(name, **settings):
    address = f"{MODELS}::{name}"
    return simulate(address, arguments_of(address, {**SIZE, **settings}))


def analysed(name, dataset):
    return load_recipe(f"{ANALYSES}::{name}")(xr.DataTree(dataset))


@pytest.fixture(scope="module")
def authors():
    return computed("authors", ranks="1,2,6", num_steps="150", record_every="50")


def test_every_rule_stands_at_every_rank_with_theory_beside(authors):
    names = set(authors["condition"].values)
    assert {"BP", "FA", "LDFA fixed P r=1", "LDFA normative r=6"} < names
    assert len(names) == 2 + 3 * 3
    assert authors["overlap"].dims == authors["overlap_theory"].dims
    start = abs(authors["overlap"] - authors["overlap_theory"]).isel(step=0)
    assert float(start.max()) < 0.01  # the very weights, but for the samples' covariance
    assert float(abs(authors["overlap"] - authors["overlap_theory"]).max()) < 0.03
    full = authors.sel(condition="LDFA normative r=6")
    assert float(full["feedback_gap"].isel(step=0).max()) < 1e-6  # svd at full rank: Wᵀ itself


def test_with_unlimited_samples_theory_is_the_simulation():
    dataset = computed("authors", ranks="1,2", num_samples="None", num_steps="400")
    assert float(dataset["overlap"].isel(step=-1).max()) > 0.5
    assert float(abs(dataset["overlap"] - dataset["overlap_theory"]).max()) < 1e-10


def test_analysis_of_authors(authors, capsys, tmp_path):
    labels.save(authors, tmp_path / "result.zarr")
    words = ["analyse", str(ANALYSES), str(tmp_path / "result.zarr"), "--out", str(tmp_path)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "LDFA fixed P, r = 1, 2, 6: share of a mode within 0.03 of theory at all steps" in text
    assert "r = 2: normative learns more of the first r modes than fixed P" in text
    assert "r = 6: normative" not in text  # there are three modes
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "linear_modes.png",
        "linear_modes_rank.png",
    }
    found = labels.load(tmp_path / "analysis.zarr")
    last = authors.isel(step=-1).sel(condition="LDFA fixed P r=2")
    one = found.to_dataset().sel(condition="LDFA fixed P r=2")
    np.testing.assert_allclose(one["leading_overlap"], last["overlap"][:, :2].mean("mode"))
    np.testing.assert_allclose(one["other_overlap"], last["overlap"][:, 2])
    np.testing.assert_allclose(one["final_loss"], last["loss"])


def test_a_distance_to_theory_is_found_wherever_it_is(authors, capsys):
    off = authors.copy(deep=True)
    off["overlap"][{"condition": 3, "seed": 1, "step": 1, "mode": 2}] += 0.5
    found, _ = analysed("analyse", off)
    distance = found["distance"]
    assert 0.4 < float(distance[3, 1]) < 0.6
    assert int((distance > 0.4).sum()) == 1
    assert 0.2 < float(found["distance_of_mean"][3]) < 0.3  # of two seeds
    assert int((found["distance_of_mean"] > 0.2).sum()) == 1
    rule = str(authors["rule"].values[3])
    assert f"{rule}, r = 1, 2, 6: share of a mode within 0.03 of theory at all steps: does" in (
        capsys.readouterr().out
    )


def test_what_diverged_does_not_agree_with_theory(authors, capsys):
    lost = authors.copy(deep=True)
    lost["overlap"][{"condition": 0, "seed": 0}] = np.nan
    analysed("analyse", lost)
    assert "BP: share of a mode within 0.03 of theory at all steps: does not hold (1 of 2" in (
        capsys.readouterr().out
    )


def test_oja(capsys):
    dataset = computed("oja", rank="1", error_rates="0.001", num_steps="60", record_every="30")
    found, figures = analysed("analyse_oja", dataset)
    assert list(figures) == ["linear_modes_oja"]
    assert list(dataset["condition"].values)[-1] == "LDFA Oja error r=1, normalised 0.01"
    text = capsys.readouterr().out
    assert "LDFA Oja error r=1, 0.001: more of all modes than Oja on targets" in text
    assert int(found["statement_num_seeds"].max()) == 2


def test_endpoints(capsys):
    dataset = computed("endpoints", ranks="1,2", num_steps="6000", start_scale="0.001")
    found, figures = analysed("analyse_endpoints", dataset)
    total = dataset["endpoint"].sum("mode")
    np.testing.assert_allclose(total, np.broadcast_to([[1], [2]] * 2, (4, 2)))
    assert float(found["distance"].max()) < 0.01
    assert float(dataset["overlap"].isel(step=0).max()) < 0.01  # it did not start there
    assert "LDFA fixed P r=2: every mode's share ends within 0.03 of R_ii: holds" in (
        capsys.readouterr().out
    )
    assert list(figures) == ["linear_modes_endpoints"]


def test_a_dataset_for_another_function_is_named(authors, capsys, tmp_path):
    ends = authors.rename(overlap_theory="endpoint")
    with pytest.raises(ValueError, match=r"is for analyse_endpoints of .*; analyse is for results"):
        analysed("analyse", ends)
    with pytest.raises(ValueError, match="is for analyse or analyse_oja of"):
        analysed("analyse_endpoints", authors)
    with pytest.raises(ValueError, match=r"is for analyse of .*; analyse_oja is for results of"):
        analysed("analyse_oja", authors.isel(condition=[0]))
    with pytest.raises(ValueError, match="is none of models"):
        analysed("analyse", authors[["loss"]])
    seeds = str(ROOT / "results/linear_modes_seeds.nc")
    assert main(["analyse", str(ANALYSES), seeds, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "what an analysis returned" in said[0]


@pytest.mark.parametrize("name", ["authors", "endpoints"])
def test_no_rank_is_refused(name):
    with pytest.raises(ValueError, match=r"ranks=\(\) is empty"):
        computed(name, ranks="")


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rules='DFA' must be one of BP, FA"):
        computed("authors", rules="DFA")
