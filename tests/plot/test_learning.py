import numpy as np
import pytest
import xarray as xr

from neurofb.plot import learning_curves


def test_unsmoothed_lines_are_the_records(study: xr.Dataset) -> None:
    left, right = learning_curves(study, smooth=1).axes
    for axes, name in ((left, "loss"), (right, "accuracy")):
        seeds = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_gid() == "seed"]
        assert np.allclose(np.array(seeds), study[name].values.reshape(12, -1))
        median = next(line for line in axes.lines if line.get_gid() == "BP narrow")
        assert np.allclose(
            np.asarray(median.get_ydata()),
            np.median(study[name].sel(condition="BP narrow").values, axis=0),
        )
        assert np.array_equal(np.asarray(median.get_xdata()), study["step"].values)


def test_smoothing_is_said_on_the_axis(study: xr.Dataset) -> None:
    rough, smooth = learning_curves(study, smooth=1), learning_curves(study, smooth=3)
    assert rough.axes[0].get_ylabel() == "training loss (nat)"
    assert smooth.axes[0].get_ylabel() == "training loss (nat)\nmean of 3 records"
    assert smooth.axes[0].get_xlabel() == "training step (number of updates done)"
    drawn = next(line for line in smooth.axes[0].lines if line.get_gid() == "seed").get_ydata()
    record = study["loss"].values[0, 0]
    assert np.asarray(drawn)[10] == pytest.approx(record[9:12].mean())


def test_test_accuracy_stands_right_of_the_curves(study: xr.Dataset) -> None:
    right = learning_curves(study).axes[1]
    drawn = next(c for c in right.collections if c.get_gid() == "test LDFA r=1")
    at, value = np.asarray(drawn.get_offsets()).T
    assert np.allclose(value, study["test_accuracy"].sel(condition="LDFA r=1").values)
    assert (at > study["step"].values.max()).all()


def test_one_seed_one_condition_with_gaps(study: xr.Dataset) -> None:
    one = study.isel(condition=[3], seed=[1]).copy(deep=True)
    one["loss"][..., 20:] = np.nan
    one["accuracy"][:] = np.nan
    left, right = learning_curves(one).axes
    assert len(left.lines) == 2
    assert [text.get_text() for text in right.texts] == ["test"]


@pytest.mark.parametrize("name", ["loss", "accuracy", "test_accuracy"])
def test_missing_variable_is_named(study: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        learning_curves(study.drop_vars(name))


def test_bad_smoothing(study: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="smooth=0 must be at least 1"):
        learning_curves(study, smooth=0)
