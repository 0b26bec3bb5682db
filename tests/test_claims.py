"""Verdicts over seeds on made-up numbers, and medians over the units that count."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.measures import contrast, counted_units, population_medians, rank_trend
from neurofb.measures.claims import verdict
from neurofb.measures.statements import statements, statements_text
from neurofb.plot import example_study
from neurofb.recipes import load_recipe

ANALYSIS = Path(__file__).parents[1] / "analyses" / "receptive_fields.py"
NAN = np.nan


def seeds(values, first=0):
    return xr.DataArray(values, coords={"seed": np.arange(first, first + len(values))})


@pytest.mark.parametrize(
    ("differences", "holds", "agreeing"),
    [
        ([1, 1], True, 2),
        ([1, -1], False, 1),
        ([1, 1, 1, -1], False, 3),
        ([1, 1, 1, 1, -1], True, 4),
        ([1, 1, 1, -1, -1], False, 3),
        ([1, 1, 1, 1, NAN], True, 4),
        ([1, 1, NAN], False, 2),
        ([NAN, NAN], False, 0),
        ([0, 0], False, 0),
    ],
)
def test_verdict_counts_seeds(differences, holds, agreeing):
    found = verdict(np.arange(len(differences)), np.array(differences, float), "more")
    assert (bool(found.holds), int(found.num_agreeing)) == (holds, agreeing)
    assert int(found.num_seeds) == len(differences)
    np.testing.assert_array_equal(found.difference, differences)
    np.testing.assert_equal(
        float(found.median_difference), float(xr.DataArray(differences).median())
    )


def test_contrast_pairs_by_the_seeds_label():
    found = contrast(seeds([5.0, 6.0, 7.0], first=1), seeds([9.0, 1.0, 2.0, 3.0]), "more")
    np.testing.assert_array_equal(found.seed, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.difference, [NAN, 4.0, 4.0, 4.0])
    assert not found.holds  # a seed that one condition lacks counts against
    assert found.attrs["statement"] == "more"
    missing = contrast(seeds([1.0, NAN]), seeds([0.0, 0.0]), "more")
    assert not missing.holds
    assert int(missing.num_agreeing) == 1


def test_rank_trend():
    ranks = xr.DataArray([32.0, 4.0, 2.0, 1.0], dims="condition")
    values = [[0.1, 0.4, 0.1], [0.2, 0.3, NAN], [0.3, 0.2, NAN], [0.4, 0.1, NAN]]
    rows = xr.DataArray(values, dims=("condition", "seed"), coords={"seed": [0, 1, 2]})
    found = rank_trend(rows, ranks, "rises")
    np.testing.assert_allclose(found.difference, [1.0, -1.0, NAN])
    assert not found.holds
    constant = rank_trend(rows * 0 + 1, ranks, "rises")
    assert np.isnan(constant.difference).all()
    assert not constant.holds


def test_medians_are_over_the_units_that_count():
    value = labels.variable("unit", [1.0, 2.0, 3.0, 50.0, 60.0, NAN], "1", "value")
    status = labels.variable(
        "unit", ["ok", "ok", "truncated", "ok", "dead", "absent"], "1", "status"
    )
    moved = labels.variable("unit", [1.0, 1.0, 1.0, 0.0, 1.0, NAN], "1", "moved")
    table = xr.Dataset({"value": value, "value_untrained": value, "status": status, "moved": moved})
    assert counted_units(table).values.tolist() == [True, True, True, False, False, False]
    medians = population_medians(table, ("value",))
    assert float(medians.value) == 2.0
    assert float(medians.value_untrained) == 3.0
    assert (int(medians.num_counted), int(medians.num_units)) == (3, 5)
    none = population_medians(table.assign(moved=moved * 0), ("value",))
    assert np.isnan(none.value)
    with pytest.raises(ValueError, match=r"measures=\['bogus'\] are not in the dataset"):
        population_medians(table, ("bogus",))


def test_statements_of_a_synthetic_study():
    study = example_study(num_seeds=5, num_units=8)
    study["dc_ratio"] = study["rotational_symmetry"] * 0
    medians = population_medians(study)
    claims = load_recipe(f"{ANALYSIS}::statements")(medians)
    assert claims["statement"].values.tolist() == [
        "narrow BP is more symmetric than wide BP",
        "wide BP is oriented above its null",
        "most units of wide BP count (moved and alive)",
        "symmetry rises as the LDFA rank falls",
        "dLDFA narrow is less symmetric than narrow BP",
    ]
    assert claims["difference"].sizes == {"statement": 5, "seed": 5}
    assert bool(claims["holds"].sel(statement="wide BP is oriented above its null"))
    for name, variable in claims.variables.items():
        assert variable.attrs.get("units"), name
        assert variable.attrs.get("long_name"), name
    text = load_recipe(f"{ANALYSIS}::claims_table")(claims)
    assert len(text.splitlines()) == 5
    assert text.splitlines()[0].startswith("narrow BP is more symmetric than wide BP: holds (")


def test_statements_without_any_condition_that_is_compared():
    study = example_study(num_seeds=2).sel(condition=["LDFA r=1", "LDFA r=2"])
    study["dc_ratio"] = study["rotational_symmetry"] * 0
    with pytest.raises(ValueError, match="none of the statements"):
        load_recipe(f"{ANALYSIS}::statements")(population_medians(study))


@pytest.mark.parametrize("num_seeds", [0, 1])
def test_nothing_holds_on_fewer_than_two_seeds(num_seeds):
    assert not verdict(np.arange(num_seeds), np.ones(num_seeds), "more").holds


def test_one_seed_is_no_verdict():
    said = statements_text(statements([verdict(np.arange(1), np.array([0.02]), "more")]))
    assert said == "more: no verdict from one seed (1 of 1 seeds; +0.02)"
