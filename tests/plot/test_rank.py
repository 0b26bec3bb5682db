import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from neurofb.plot import symmetry_against_rank


def dots(axes: Axes, condition: str) -> np.ndarray:
    return np.asarray(next(c for c in axes.collections if c.get_gid() == condition).get_offsets())


def expected(study: xr.Dataset, measure: str, condition: str) -> list[float]:
    one = study.sel(condition=condition)
    return [
        float(np.median(one[measure].values[s][one["status"].values[s] == "ok"]))
        for s in range(study.sizes["seed"])
    ]


def test_every_seed_stands_at_log2_of_its_rank(study: xr.Dataset) -> None:
    figure = symmetry_against_rank(study)
    for axes, measure in zip(
        figure.axes, ("rotational_symmetry", "orientation_selectivity"), strict=True
    ):
        for name, place in (("LDFA r=1", 0.0), ("LDFA r=4", 2.0), ("BP wide", 5.0)):
            assert np.allclose(dots(axes, name)[:, 0], place)
            assert np.allclose(dots(axes, name)[:, 1], expected(study, measure, name))


def test_conditions_without_rank_stand_at_the_side(study: xr.Dataset) -> None:
    axes = symmetry_against_rank(study).axes[0]
    narrow, direct = dots(axes, "BP narrow"), dots(axes, "dLDFA narrow")
    assert 5.0 < narrow[0, 0] < direct[0, 0]
    assert np.allclose(narrow[:, 1], expected(study, "rotational_symmetry", "BP narrow"))
    labels = {
        round(x, 3): t.get_text()
        for x, t in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    assert labels[0.0] == "1"
    assert labels[5.0] == "32\nBP"
    assert labels[round(direct[0, 0], 3)] == "dLDFA\nnarrow"


def test_thick_line_is_the_median_over_seeds(study: xr.Dataset) -> None:
    axes = symmetry_against_rank(study).axes[0]
    line = next(line for line in axes.lines if line.get_gid() == "median 0")
    order = ("LDFA r=1", "LDFA r=2", "LDFA r=4", "BP wide")
    medians = [np.median(expected(study, "rotational_symmetry", name)) for name in order]
    assert np.allclose(line.get_xdata(), [0, 1, 2, 5])
    assert np.allclose(line.get_ydata(), medians)


def test_a_seed_without_measurable_unit_is_marked_and_drawn_nowhere_else(
    failed: xr.Dataset,
) -> None:
    axes = symmetry_against_rank(failed).axes[0]
    assert len(dots(axes, "LDFA r=2")) == 1
    crosses = [line for line in axes.lines if line.get_gid() == "no unit counts"]
    assert [float(np.ravel(line.get_xdata())[0]) for line in crosses] == [1.0]


def test_low_rank_conditions_of_two_kinds_make_two_lines(study: xr.Dataset) -> None:
    more = study.sel(condition=["LDFA r=2", "LDFA r=1"])
    more = more.assign_coords(condition=[f"{name}, Q" for name in more["condition"].values])
    axes = symmetry_against_rank(xr.concat([study, more], "condition")).axes[0]
    lines = {line.get_gid(): np.asarray(line.get_xdata()) for line in axes.lines}
    assert np.allclose(lines["median 0"], [-0.1, 0.9, 1.9, 5.0])
    assert np.allclose(lines["median 1"], [0.1, 1.1, 5.0])
    assert [text.get_text() for text in axes.get_xticklabels()][:4] == ["1", "2", "4", "32\nBP"]


def test_units_that_count_are_the_studys_own(study: xr.Dataset) -> None:
    study["counted"] = study["unit"].broadcast_like(study["status"]) == 2
    axes = symmetry_against_rank(study).axes[0]
    drawn = study["rotational_symmetry"].sel(condition="BP wide", unit=2).values
    assert np.allclose(dots(axes, "BP wide")[:, 1], drawn)


def test_moved_and_alive_decide_where_the_study_has_no_count(study: xr.Dataset) -> None:
    study["status"][:] = "truncated"
    study["moved"] = xr.where(study["unit"] <= 3, 1.0, 0.0).broadcast_like(study["status"])
    study["alive"] = xr.where(study["unit"] >= 3, 1.0, np.nan).broadcast_like(study["status"])
    axes = symmetry_against_rank(study).axes[0]
    drawn = study["rotational_symmetry"].sel(condition="BP wide", unit=3).values
    assert np.allclose(dots(axes, "BP wide")[:, 1], drawn)


def test_only_ranked_only_side_one_seed(study: xr.Dataset) -> None:
    ranked = symmetry_against_rank(study.isel(condition=[1], seed=[0])).axes[0]
    assert dots(ranked, "LDFA r=4").shape == (1, 2)
    side = symmetry_against_rank(study.isel(condition=[4, 5])).axes[0]
    assert side.get_xlabel() == "condition"
    assert len(dots(side, "BP narrow")) == 2


@pytest.mark.parametrize(
    "name", ["feedback_rank", "status", "orientation_selectivity_untrained", "rotational_symmetry"]
)
def test_missing_variable_is_named(study: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        symmetry_against_rank(study.drop_vars(name))


def test_bad_rank(study: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="must be NaN or at least 1"):
        symmetry_against_rank(study.assign_coords(feedback_rank=study["feedback_rank"] * 0))
    with pytest.raises(ValueError, match="measures=\\(\\) is empty"):
        symmetry_against_rank(study, measures=())
