import numpy as np
import pytest
import xarray as xr

from neurofb.plot import figure5


def test_columns_rows_and_panels(study: xr.Dataset) -> None:
    figure = figure5(study)
    fields, panels = figure.axes[: 7 * 2], figure.axes[7 * 2 :]
    titles = [axes.get_title().replace("\n", " ") for axes in fields[:7]]
    assert titles == ["untrained", *study["condition"].values]
    assert [axes.get_ylabel() for axes in fields[::7]] == ["seed 0", "seed 1"]
    assert [axes.get_title(loc="left").strip()[:1] for axes in panels] == ["b", "c"]
    assert figure.subfigs[0].get_suptitle().startswith("a ")
    assert all(axes.images[0].get_clim() == (-1.0, 1.0) for axes in fields)


def test_untrained_column_shows_the_fields_before_training(study: xr.Dataset) -> None:
    figure = figure5(study)
    before = study["receptive_field_untrained"].values[0, 0]
    scaled = before / np.abs(before).max(axis=(1, 2), keepdims=True)
    canvas = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    drawn = np.sort(canvas[np.isfinite(canvas)])
    assert np.allclose(drawn, np.sort(scaled.ravel()))
    assert {patch.get_gid() for patch in figure.axes[0].patches} == {"ok"}


def test_columns_carry_their_medians_and_counts(study: xr.Dataset) -> None:
    study["rotational_symmetry"][1] = [[0.25] * 8, [0.35] * 8]
    lines = figure5(study).axes[7 + 2].get_xlabel().splitlines()
    assert lines[0] == "sym. 0.30"
    assert lines[2] == "10/16 count"


def test_counts_say_what_the_seeds_do(study: xr.Dataset) -> None:
    for name, value in (("BP wide", 0.5), ("LDFA r=1", 0.9), ("BP narrow", 0.4)):
        study["rotational_symmetry"].loc[{"condition": name}] = value
    study["rotational_symmetry"].loc[{"condition": "LDFA r=1", "seed": 1}] = 0.2
    study["rotational_symmetry"].loc[{"condition": "dLDFA narrow"}] = 0.1
    assert figure5(study).axes[14].get_title(loc="right").splitlines() == [
        "LDFA r=1 > BP wide: 1 of 2 seeds",
        "BP narrow > BP wide: 0 of 2 seeds",
        "BP narrow > dLDFA narrow: 2 of 2 seeds",
    ]


def test_seed_without_measurable_units_is_not_counted(failed: xr.Dataset) -> None:
    figure = figure5(failed.sel(condition=["BP wide", "LDFA r=2"]))
    assert figure.axes[6].get_title(loc="right").endswith("of 1 seeds")


def test_all_units_unmeasured_draws_a_dash(failed: xr.Dataset) -> None:
    one = failed.sel(condition=["LDFA r=2"], seed=[1])
    figure = figure5(one)
    assert figure.axes[1].get_xlabel() == "sym. –\ngOSI –\n0/8 count"
    assert figure.axes[2].get_title(loc="right") == ""


@pytest.mark.parametrize(("seeds", "units"), [(1, 8), (3, 6), (5, 4)])
def test_fewer_units_for_more_seeds(study: xr.Dataset, seeds: int, units: int) -> None:
    repeated = xr.concat([study.isel(seed=[0], condition=[0])] * seeds, "seed")
    repeated = repeated.assign_coords(seed=np.arange(seeds))
    assert len(figure5(repeated).axes[1].patches) == units


@pytest.mark.parametrize(
    "name",
    ["receptive_field_untrained", "orientation_selectivity", "rotational_symmetry_untrained"],
)
def test_missing_variable_is_named(study: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        figure5(study.drop_vars(name))


def test_many_conditions_show_one_series_of_fields(study: xr.Dataset) -> None:
    more = study.sel(condition=["LDFA r=4", "LDFA r=2", "LDFA r=1"])
    more = more.assign_coords(condition=[f"{name}, Q" for name in more["condition"].values])
    both = xr.concat([study, more], "condition")
    titles = [axes.get_title().replace("\n", " ") for axes in figure5(both).axes[:7]]
    assert titles[1:] == study["condition"].values.tolist()
    few = figure5(both, columns=["LDFA r=1, Q", "BP narrow"])
    titles = [axes.get_title().replace("\n", " ") for axes in few.axes[:3]]
    assert titles == ["untrained", "LDFA r=1, Q", "BP narrow"]
    counts = few.axes[6].get_title(loc="right").splitlines()
    assert [line.split(" >")[0] for line in counts[:2]] == ["LDFA r=1", "LDFA r=1, Q"]
    with pytest.raises(ValueError, match="no condition 'FA'; the dataset has BP wide"):
        figure5(both, columns=["FA"])


def test_bad_number(study: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="num_units=0 must be at least 1"):
        figure5(study, num_units=0)
