import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from neurofb.plot import accuracy_against_rank, compute_against_accuracy, rule_table

RULES = ["BP", "FA", "LDFA r=4"]


def dots(axes: Axes, gid: str) -> np.ndarray:
    """Positions of all dots with an id, in the order of drawing."""
    return np.concatenate([c.get_offsets() for c in axes.collections if c.get_gid() == gid])


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def table() -> xr.Dataset:
    values = np.random.default_rng(0).uniform(0.5, 0.9, (2, 3, 4))
    values[1, 1] = np.nan
    return xr.Dataset(
        {"test_accuracy": (("network", "condition", "seed"), values)},
        coords={"network": ["MLP", "ViT"], "condition": RULES, "seed": range(4)},
    )


def test_every_seed_of_every_rule_is_a_dot(table):
    figure = rule_table(table)
    for axes, network in zip(figure.axes, ["MLP", "ViT"], strict=True):
        for rule in ("BP", "LDFA r=4"):
            expected = table["test_accuracy"].sel(network=network, condition=rule)
            np.testing.assert_allclose(dots(axes, rule)[:, 0], expected)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == RULES
    assert not [c for c in axes.collections if c.get_gid() == "FA"], "it has no run there"


def test_numbers_and_lines_are_mean_and_spread(table):
    axes = rule_table(table, chance=0.25).axes[0]
    bp = table["test_accuracy"].sel(network="MLP", condition="BP")
    assert texts(axes)[0] == f"{float(bp.mean()):.3f} ± {float(bp.std(ddof=1)):.3f}"
    upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert upright[:2] == pytest.approx([float(bp.mean()), 0.25])


def test_one_seed_has_no_spread(table):
    assert "±" not in texts(rule_table(table.isel(seed=[0])).axes[0])[0]


def test_rule_table_refuses(table):
    with pytest.raises(ValueError, match="reference='KP' is no condition; those are: BP, FA"):
        rule_table(table, reference="KP")
    with pytest.raises(ValueError, match="no dim 'network'"):
        rule_table(table.isel(network=0))


@pytest.fixture
def ranks() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("rank", "num_classes", "width", "seed")
    return xr.Dataset(
        {
            "test_accuracy": (dims, rng.random((3, 2, 2, 4))),
            "bp_test_accuracy": (dims[1:], rng.random((2, 2, 4))),
        },
        coords={"rank": [1, 4, 16], "num_classes": [2, 10], "width": [8, 32], "seed": range(4)},
    )


def test_lines_are_means_over_seeds_and_marks_stand_at_the_number_of_classes(ranks):
    figure = accuracy_against_rank(ranks)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["width 8", "width 32"]
    for axes, width in zip(figure.axes, (8, 32), strict=True):
        for number in (2, 10):
            one = ranks.sel(width=width, num_classes=number)
            name = f"{number} classes"
            line = next(line for line in axes.lines if line.get_label() == name)
            np.testing.assert_allclose(line.get_xdata(), [1, 4, 16])
            np.testing.assert_allclose(line.get_ydata(), one["test_accuracy"].mean("seed"))
            drawn = dots(axes, name).reshape(4, 3, 2)[:, :, 1]
            np.testing.assert_allclose(drawn, one["test_accuracy"].transpose("seed", "rank"))
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert marks == [2, 10]


def test_band_is_backpropagation(ranks):
    axes = accuracy_against_rank(ranks.sel(width=8, num_classes=2)).axes[0]
    bp = ranks["bp_test_accuracy"].sel(width=8, num_classes=2)
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.y0 + band.y1) / 2 == pytest.approx(float(bp.mean()))
    assert (band.y1 - band.y0) / 2 == pytest.approx(float(bp.std()))


def test_width_may_be_the_series(ranks):
    axes = accuracy_against_rank(ranks.sel(num_classes=10), series="width").axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["width 8", "width 32"]


def test_too_many_dims(ranks):
    with pytest.raises(ValueError, match=r"dims \['num_classes', 'width'\] are too many"):
        accuracy_against_rank(ranks, series="depth")


@pytest.fixture
def costs() -> xr.Dataset:
    flops = [[1e9, 2e9], [3e9, np.nan], [np.nan, np.nan]]
    last = [[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]]
    dims = ("condition", "seed")
    return xr.Dataset(
        {"flops_reached": (dims, flops), "last_accuracy": (dims, last)},
        coords={"condition": RULES, "seed": [0, 1]},
    )


def test_cost_and_accuracy_of_every_seed(costs):
    axes = compute_against_accuracy(costs).axes[0]
    np.testing.assert_allclose(dots(axes, "BP"), [[1e9, 0.9], [2e9, 0.8]])
    np.testing.assert_allclose(dots(axes, "FA"), [[3e9, 0.7]])
    crosses = {str(x.get_gid()): list(x.get_ydata()) for x in axes.lines if x.get_marker() == "x"}
    assert crosses == {
        "not reached BP": [],
        "not reached FA": [0.6],
        "not reached LDFA r=4": [0.5, 0.4],
    }
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["BP", "FA (1 of 2 seeds)", "LDFA r=4 (0 of 2 seeds)"]
    assert axes.get_xlim()[0] > 1e8


def test_cost_of_nothing_reached(costs):
    axes = compute_against_accuracy(costs.sel(condition=["LDFA r=4"])).axes[0]
    assert dots(axes, "LDFA r=4").size == 0
