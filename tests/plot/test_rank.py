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
    line = next(line for line in axes.lines if line.get_gid() == "median")
    order = ("LDFA r=1", "LDFA r=2", "LDFA r=4", "BP wide")
    medians = [np.median(expected(study, "rotational_symmetry", name)) for name in order]
    assert np.allclose(line.get_xdata(), [0, 1, 2, 5])
    assert np.allclose(line.get_ydata(), medians)


def test_a_seed_without_measurable_unit_is_marked_and_drawn_nowhere_else(
    failed: xr.Dataset,
) -> None:
    axes = symmetry_against_rank(failed).axes[0]
    assert len(dots(axes, "LDFA r=2")) == 1
    crosses = [line for line in axes.lines if line.get_gid() == "no measurable unit"]
    assert [float(np.ravel(line.get_xdata())[0]) for line in crosses] == [1.0]


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
