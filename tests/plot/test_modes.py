"""Figures of linear modes: what is drawn is what the dataset holds."""

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import learned_modes, mode_endpoints, modes_against_rank

NAMES = ["BP", "LDFA r=1", "LDFA r=2"]


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    dims = ("condition", "seed", "step", "mode")
    share = rng.uniform(size=(3, 2, 4, 3))
    coords = {"condition": NAMES, "seed": [4, 7], "step": [0, 1, 10, 100], "mode": [1, 2, 3]}
    made = xr.Dataset({"overlap": (dims, share), "overlap_theory": (dims, share / 2)}, coords)
    return made.assign_coords(
        rule=("condition", ["BP", "LDFA", "LDFA"]), rank=("condition", [3, 1, 2])
    )


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_curves_are_one_seeds_and_ends_are_all(dataset):
    figure = learned_modes(dataset, conditions=["LDFA r=2", "BP"], seed=7)
    top, bottom = figure.axes[:2], figure.axes[2:4]
    assert [axes.get_title(loc="left") for axes in top] == ["LDFA r=2", "BP"]
    one = dataset.sel(condition="LDFA r=2")
    first = lines(top[0], "mode 2")[0]
    np.testing.assert_allclose(first.get_xdata(), [1, 10, 100])  # a log axis has no step 0
    np.testing.assert_allclose(first.get_ydata(), one["overlap"].sel(seed=7, mode=2)[1:])
    assert not lines(top[0], "mode 3")  # the third has no dimension of the feedback
    assert len(lines(top[0], "theory")) == 3
    theory = lines(bottom[0], "theory")[0]
    np.testing.assert_allclose(theory.get_ydata(), one["overlap_theory"][:, -1].median("seed"))
    drawn = np.concatenate([c.get_offsets()[:, 1] for c in bottom[0].collections[-2:]])
    np.testing.assert_allclose(drawn, one["overlap"].isel(step=-1).values.ravel())


def test_without_theory_there_is_none(dataset):
    figure = learned_modes(dataset.drop_vars("overlap_theory"))
    assert not any(lines(axes, "theory") for axes in figure.axes)


def test_against_rank(dataset):
    found = xr.Dataset({"loss": dataset["overlap"][:, :, -1, 0]}).assign_coords(
        rule=dataset["rule"], rank=dataset["rank"]
    )
    axes = modes_against_rank(found.isel(condition=[0, 2, 1]), ["loss"]).axes[0]
    drawn = [line for line in axes.lines if list(line.get_xdata()) == [1, 2]]
    medians = found["loss"].sel(condition=NAMES[1:]).median("seed")
    np.testing.assert_allclose(drawn[0].get_ydata(), medians)


def test_of_a_single_rank_theory_is_drawn_and_only_bp_is_a_horizontal_line(dataset):
    share = dataset["overlap"][:, :, -1, 0]
    found = xr.Dataset({"loss": share, "loss_theory": share / 2}).assign_coords(
        rule=dataset["rule"], rank=dataset["rank"]
    )
    axes = modes_against_rank(found.isel(condition=[0, 1]), ["loss"]).axes[0]
    across = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    medians = share.median("seed").values
    assert [line.get_ydata()[0] for line in across] == pytest.approx([medians[0], medians[0] / 2])
    theory = lines(axes, "theory")
    assert [line.get_ydata()[0] for line in theory] == pytest.approx(medians[:2] / 2)
    assert np.ptp(theory[1].get_xdata()) > 0
    alone = modes_against_rank(found.isel(condition=[1]), ["loss"]).axes[0]
    assert not [line for line in alone.lines if list(line.get_xdata()) == [0, 1]]
    assert lines(alone, "theory")


def test_endpoints_lie_where_the_dataset_says(dataset):
    last = dataset.isel(step=-1).rename(overlap_theory="endpoint")
    axes = mode_endpoints(last).axes[1]
    offsets = np.concatenate([c.get_offsets() for c in axes.collections])
    one = last.sel(condition="LDFA r=1")
    np.testing.assert_allclose(offsets[:, 0], one["endpoint"].values.ravel())
    np.testing.assert_allclose(offsets[:, 1], one["overlap"].values.ravel())


def test_wrong_requests_are_named(dataset):
    with pytest.raises(ValueError, match="'SSA' is none of BP, LDFA r=1"):
        learned_modes(dataset, conditions=["SSA"])
    with pytest.raises(ValueError, match=r"seed=5 is none of \[4, 7\]"):
        learned_modes(dataset, seed=5)
    with pytest.raises(ValueError, match="no variable 'overlap'"):
        learned_modes(dataset.drop_vars("overlap"))
    with pytest.raises(ValueError, match="is empty"):
        modes_against_rank(dataset, [])
    with pytest.raises(ValueError, match="no variable 'endpoint'"):
        mode_endpoints(dataset)
