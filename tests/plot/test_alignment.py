import numpy as np
import pytest
import xarray as xr

from neurofb.plot import alignment_curves


@pytest.fixture
def study() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("condition", "seed", "epoch", "layer")
    angle = rng.uniform(0, 90, (2, 3, 4, 9))
    angle[:, :, :, 0] = np.nan
    angle[0] = np.nan
    cosine = rng.uniform(0, 1, angle.shape)
    return xr.Dataset(
        {
            "delta_angle": (dims, angle, {"units": "degree", "long_name": "delta angle"}),
            "gradient_cosine": (dims, cosine, {"units": "1", "long_name": "cosine"}),
        },
        coords={
            "condition": ["BP", "FA"],
            "seed": [0, 1, 2],
            "epoch": [0.0, 1.0, 2.0, 4.0],
            "layer": [f"layer_{i}" for i in range(9)],
        },
    )


def test_a_row_a_measure_and_a_column_a_layer(study):
    figure = alignment_curves(study, layers=["layer_2", "layer_8"])
    assert [axes.get_title() for axes in figure.axes] == ["layer_2", "layer_8", "", ""]
    assert figure.axes[2].get_ylabel() == "delta angle (degree)"
    for axes, name, layer in zip(
        figure.axes,
        ["gradient_cosine"] * 2 + ["delta_angle"] * 2,
        ["layer_2", "layer_8"] * 2,
        strict=True,
    ):
        one = study[name].sel(layer=layer, condition="FA")
        mean = next(line for line in axes.lines if line.get_gid() == "FA")
        np.testing.assert_allclose(mean.get_xdata(), study["epoch"])
        np.testing.assert_allclose(mean.get_ydata(), one.mean("seed"))
        seeds = [line.get_ydata() for line in axes.lines if line.get_gid() == "seed"]
        np.testing.assert_allclose(seeds[-3:], one)


def test_chance_is_marked_and_a_condition_without_values_is_not_drawn(study):
    axes = alignment_curves(study, measures=("delta_angle",), layers=["layer_3"]).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [90]
    assert "BP" not in [line.get_gid() for line in axes.lines]


def test_many_layers_are_thinned_and_those_without_values_left_out(study):
    figure = alignment_curves(study, measures=("delta_angle",))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "layer_1"
    assert titles[-1] == "layer_8"
    assert len(titles) == 6
    assert "3 of 9 layers not shown" in figure.legends[0].get_title().get_text()


def test_what_is_refused(study):
    with pytest.raises(ValueError, match="no layer 'stem'"):
        alignment_curves(study, layers=["stem"])
    with pytest.raises(ValueError, match="no variable 'weight_angle'"):
        alignment_curves(study, measures=("weight_angle",))
    with pytest.raises(ValueError, match="nothing to draw"):
        alignment_curves(study.isel(layer=[0]), measures=("delta_angle",))
    with pytest.raises(ValueError, match="no dim 'seed'"):
        alignment_curves(study.isel(seed=0))
