import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from neurofb.measures import shape_measures
from neurofb.measures.shape import _leading_component

# SYM(m0), m±2, RSI mean, RSI min, gOSI, OSI, R² DoG, R² Gabor
CALIBRATION = {
    "gaussian": (1.00, 0.00, 1.00, 1.00, 0.00, 0.00, 1.00, 1.00),
    "dog": (1.00, 0.00, 1.00, 1.00, 0.00, 0.01, 1.00, 0.92),
    "dog_shifted": (1.00, 0.00, 1.00, 1.00, 0.00, 0.01, 1.00, 0.92),
    "dog_cut": (0.94, 0.02, 0.98, 0.97, 0.04, 0.03, 1.00, 0.95),
    "elongated": (0.92, 0.08, 0.91, 0.83, 0.03, 0.06, 0.87, 1.00),
    "even_gabor": (0.58, 0.39, 0.54, 0.22, 0.64, 0.96, 0.54, 1.00),
    "odd_gabor": (0.00, 0.00, 0.00, -0.92, 0.65, 1.00, 0.37, 1.00),
    "mixed_gabor": (0.32, 0.22, 0.30, 0.04, 0.61, 0.97, 0.52, 1.00),
}
NAMES = (
    "rotational_symmetry",
    "rotation_correlation",
    "rotation_correlation_min",
    "orientation_selectivity",
    "osi",
    "dog_r2",
    "gabor_r2",
)
INVARIANT = (
    "rotational_symmetry",
    "rotation_correlation",
    "rotation_correlation_min",
    "energy_radius",
    "disc_coverage",
    "orientation_selectivity",
    "osi",
    "preferred_frequency",
    "surround_ratio",
    "dc_ratio",
    "smoothness",
)


@pytest.fixture(scope="module")
def table(shapes):
    return shape_measures(np.stack(list(shapes.values())))


@pytest.mark.parametrize("shape", CALIBRATION)
def test_calibration_of_known_shapes(shapes, table, shape):
    row = table.isel(unit=list(shapes).index(shape))
    measured = [float(row[name]) for name in NAMES]
    measured.insert(1, float(row.angular_spectrum[2]))
    # the page's own shapes differ a little from these (width of the Gabors, place of the cut)
    np.testing.assert_allclose(measured, CALIBRATION[shape], atol=0.065)
    assert str(row.status.values) == "ok"


def test_calibration_of_noise():
    noise = np.random.default_rng(0).standard_normal((60, 17, 17))
    mean = shape_measures(noise, fits=False, bars=False).drop_vars("status").mean()
    fitted = shape_measures(noise[:10], bars=False).drop_vars("status").mean()
    measured = [float((fitted if name.endswith("r2") else mean)[name]) for name in NAMES]
    expected = [0.05, 0.02, -0.08, 0.16, 0.58, 0.05, 0.07]
    np.testing.assert_allclose(measured, expected, atol=0.05)
    assert abs(float(mean.smoothness)) < 0.05


def test_smooth_noise_is_between(shapes):
    noise = np.random.default_rng(0).standard_normal((60, 17, 17))
    noise = gaussian_filter(noise, (0, 1.3, 1.3)) * shapes["gaussian"] ** 0.4
    mean = shape_measures(noise, fits=False, bars=False).drop_vars("status").mean()
    fitted = shape_measures(noise[:10], bars=False)
    assert 0.2 < float(mean.rotational_symmetry) < 0.5
    assert 0.1 < float(mean.orientation_selectivity) < 0.3
    assert float(fitted.dog_r2.mean()) > 0.3  # a good fit alone says little
    assert float(fitted.gabor_r2.mean()) > 0.5


def test_bar_bank_as_measured_on_the_page(shapes, table):
    ratio = dict(zip(shapes, table.bar_ratio.values, strict=True))
    spread = dict(zip(shapes, table.bar_std.values, strict=True))
    assert ratio["gaussian"] == pytest.approx(1.03, abs=0.03)
    assert 1.05 < ratio["dog"] < 1.12
    assert ratio["elongated"] == pytest.approx(1.30, abs=0.05)
    assert ratio["even_gabor"] == pytest.approx(3.3, abs=0.3)
    assert 5 < ratio["odd_gabor"] < 10
    for shape, value in {"gaussian": 0.063, "elongated": 0.10, "even_gabor": 0.25}.items():
        assert spread[shape] == pytest.approx(value, abs=0.02)


def test_delta_aic_tells_the_shapes_apart(shapes, table):
    delta = dict(zip(shapes, table.delta_aic.values, strict=True))
    assert delta["dog"] < -100 < 100 < delta["even_gabor"]
    assert delta["gaussian"] == pytest.approx(-4.0)  # both perfect: two parameters less


def test_surround_and_dc(shapes, table):
    surround = dict(zip(shapes, table.surround_ratio.values, strict=True))
    dc = dict(zip(shapes, table.dc_ratio.values, strict=True))
    assert surround["gaussian"] == 0
    assert surround["dog"] == pytest.approx(1, abs=0.05)
    assert dc["dog"] < 0.05
    assert dc["odd_gabor"] < 1e-9
    # 0.03 cycles per pixel: the Gaussian's response is a little below that to uniform light
    assert dc["gaussian"] == pytest.approx(np.exp(2 * np.pi**2 * 4 * 0.03**2), abs=0.01)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    smooth=st.floats(0.0, 2.0),
    turns=st.integers(0, 3),
    scale=st.floats(1e-4, 1e4),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_sign_scale_and_quarter_turns_change_nothing(seed, smooth, turns, scale, sign):
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((11, 11)), smooth)
    changed = sign * scale * np.rot90(field, turns)
    one, two = (
        shape_measures(f[None].copy(), fits=False, bars=False).isel(unit=0)
        for f in (field, changed)
    )
    for name in INVARIANT:
        assert float(one[name]) == pytest.approx(float(two[name]), abs=2e-4), name
    np.testing.assert_allclose(one.angular_spectrum, two.angular_spectrum, atol=2e-4)
    turned = float(two.preferred_orientation - one.preferred_orientation - 90 * turns) % 180
    assert turned == pytest.approx(0)


def test_dead_unit_is_kept_and_nan(shapes):
    table = shape_measures(np.stack([shapes["dog"], 0 * shapes["dog"], 1e-9 * shapes["dog"]]))
    assert table.status.values.tolist() == ["ok", "dead", "dead"]
    for name, values in table.drop_vars("status").data_vars.items():
        assert np.isfinite(values[0]).all(), name
        assert np.isnan(values[1:]).all(), name


def test_all_dead():
    table = shape_measures(np.zeros((2, 5, 5)), reference=np.zeros((2, 5, 5)))
    assert table.status.values.tolist() == ["dead", "dead"]
    assert not table.moved.any()


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_single_pixel_field_is_flagged_by_its_radius(size):
    field = np.zeros((1, size, size))
    field[0, size // 2, size // 2] = 1.0
    table = shape_measures(field)
    assert float(table.energy_radius[0]) < 2
    assert table.status.values.tolist() != ["dead"]


def test_flat_field_never_raises():
    table = shape_measures(np.ones((1, 9, 9)))
    assert np.isnan(table.dog_r2).all()
    assert np.isnan(table.smoothness).all()
    assert np.isnan(table.bar_ratio).all()


def test_field_cut_by_the_border_is_truncated():
    y, x = np.mgrid[0:17, 0:17]
    corner = np.exp(-(x**2 + y**2) / 50.0)[None]
    table = shape_measures(corner, fits=False, bars=False)
    assert table.status.values.tolist() == ["truncated"]
    assert float(table.disc_coverage[0]) < 0.7


def test_moved_needs_change_and_smoothness(shapes):
    noise = np.random.default_rng(0).standard_normal((17, 17))
    now = np.stack([shapes["dog"], shapes["dog"], noise, 0 * noise])
    start = np.stack([noise, shapes["dog"] * 2, noise[::-1], noise])
    table = shape_measures(now, reference=start, fits=False, bars=False)
    assert table.moved.values.tolist() == [True, False, False, False]
    assert table.status.values.tolist() == ["ok", "unmoved", "unmoved", "dead"]
    assert float(table.cosine_to_reference[1]) == pytest.approx(1)


def test_a_unit_that_was_zero_at_the_start_has_no_cosine(shapes):
    table = shape_measures(
        shapes["dog"][None], reference=0 * shapes["dog"][None], fits=False, bars=False
    )
    assert np.isnan(table.cosine_to_reference).all()
    assert table.status.values.tolist() == ["ok"]
    assert bool(table.moved[0])


def test_channels_are_reduced_to_the_leading_spatial_component(shapes):
    weights = np.array([0.2, -1.0, 0.5])
    colour = weights[:, None, None] * shapes["odd_gabor"]
    component = _leading_component(colour[None])[0]
    # the largest weight counts as positive
    np.testing.assert_allclose(
        component, -np.linalg.norm(weights) * shapes["odd_gabor"], atol=1e-12
    )
    one, two = (shape_measures(f[None], bars=False) for f in (colour, shapes["odd_gabor"]))
    for name in NAMES:
        assert float(one[name][0]) == pytest.approx(float(two[name][0]), abs=1e-6), name


def test_dataset_array_and_tensor_agree(shapes):
    array = np.stack([shapes["dog"], shapes["even_gabor"]])
    dataset = xr.Dataset(
        {"receptive_field": (("unit", "channel", "y", "x"), array[:, None])},
        coords={"unit": [7, 3]},
    )
    from_dataset = shape_measures(dataset, bars=False)
    assert from_dataset.unit.values.tolist() == [7, 3]
    for other in (array, array[:, None], torch.tensor(array)):
        xr.testing.assert_equal(
            from_dataset.drop_vars("unit"), shape_measures(other, bars=False).drop_vars("unit")
        )


def test_every_variable_says_what_it_is(table):
    for name, values in {**table.data_vars, **table.coords}.items():
        assert values.attrs["units"], name
        assert values.attrs["long_name"], name


@pytest.mark.parametrize(
    ("rf", "reference", "message"),
    [
        (np.full((1, 3, 3), np.nan), None, "rf has receptive fields that are not finite"),
        (np.full((1, 3, 3), np.inf), None, "rf has receptive fields that are not finite"),
        (np.ones((3, 3)), None, r"rf of shape \(3, 3\) must be \(unit, y, x\)"),
        (np.ones((0, 3, 3)), None, r"rf of shape \(0, 3, 3\)"),
        (np.ones((2, 3, 3)), np.ones((1, 3, 3)), r"reference of shape \(1, 1, 3, 3\) must be"),
        (np.ones((1, 3, 3)), np.full((1, 3, 3), np.nan), "reference has receptive fields"),
        (xr.Dataset({"other": ("unit", [1.0])}), None, "rf has no variable receptive_field"),
    ],
)
def test_errors(rf, reference, message):
    with pytest.raises(ValueError, match=message):
        shape_measures(rf, reference=reference)
