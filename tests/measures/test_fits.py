import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from neurofb.measures.fits import _dog, _gabor, fit_dog, fit_gabor

GRID = np.mgrid[0:17, 0:17].astype(float)


def dog(y, x, centre, surround, amplitudes):
    square = (GRID[0] - y) ** 2 + (GRID[1] - x) ** 2
    return amplitudes[0] * np.exp(-square / (2 * centre**2)) + amplitudes[1] * np.exp(
        -square / (2 * surround**2)
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, -50.0])
def test_dog_parameters_are_found(scale):
    fit = fit_dog(scale * dog(7.3, 9.1, 1.4, 2.9, (1.0, -0.3)))
    assert fit.status == "ok"
    assert fit.r2 == pytest.approx(1, abs=1e-6)
    expected = {"y": 7.3, "x": 9.1, "sigma_centre": 1.4, "sigma_surround": 2.9}
    for name, value in expected.items():
        assert fit.parameters[name] == pytest.approx(value, abs=0.01), name
    assert fit.parameters["centre"] == pytest.approx(scale, rel=0.01)
    assert fit.parameters["surround"] == pytest.approx(-0.3 * scale, rel=0.02)


@pytest.mark.parametrize("orientation", [0, 35, 90, 140])
@pytest.mark.parametrize("phase", [0.0, 90.0, 200.0])
def test_gabor_parameters_are_found(orientation, phase):
    angle = np.deg2rad(orientation)
    dy, dx = GRID[0] - 8.2, GRID[1] - 7.6
    across, along = np.cos(angle) * dy + np.sin(angle) * dx, np.cos(angle) * dx - np.sin(angle) * dy
    field = 2 * np.exp(-(across**2) / 8 - along**2 / 18)
    field *= np.cos(2 * np.pi * 0.17 * across + np.deg2rad(phase))
    fit = fit_gabor(field)
    assert fit.r2 == pytest.approx(1, abs=1e-6)
    assert (fit.parameters["orientation"] - orientation + 90) % 180 - 90 == pytest.approx(0, abs=1)
    assert fit.parameters["frequency"] == pytest.approx(0.17, abs=0.005)
    assert fit.parameters["amplitude"] == pytest.approx(2, rel=0.02)
    assert fit.parameters["sigma_across"] == pytest.approx(2, rel=0.03)
    assert fit.parameters["sigma_along"] == pytest.approx(3, rel=0.03)
    np.testing.assert_allclose(fit.prediction, field, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(_dog, [8.1, 7.2, 1.5, 3.1]), (_gabor, [8.1, 7.2, 0.4, 0.15, 1.8, 2.6])],
)
def test_derivatives_of_the_functions(model, parameters):
    rows, columns = (index.ravel() for index in GRID)
    slope = model(np.asarray(parameters), rows, columns)[1]
    for i in (0, 1):
        expected = approx_fprime(
            np.asarray(parameters), lambda p, i=i: model(p, rows, columns)[0][:, i], 1e-7
        )
        np.testing.assert_allclose(slope[:, :, i].T, expected, atol=1e-5)


def test_projection_finds_the_same_optimum_as_a_search_over_all_parameters():
    generator = np.random.default_rng(0)
    field = dog(8, 8, 1.5, 3, (1, -0.3)) + 0.05 * generator.standard_normal((17, 17))

    def loss(p):
        return ((dog(p[0], p[1], p[2], p[3], p[4:]) - field) ** 2).sum()

    full = minimize(loss, [8, 8, 1.5, 3, 1, -0.3], tol=1e-12)
    rest = ((fit_dog(field).prediction - field) ** 2).sum()
    assert rest == pytest.approx(full.fun, rel=1e-5)


def test_r2_and_aic_are_those_of_the_prediction():
    field = np.random.default_rng(1).standard_normal((11, 13))
    for fit, parameters in ((fit_dog(field), 6), (fit_gabor(field), 8)):
        rest = ((field - fit.prediction) ** 2).sum()
        assert fit.r2 == pytest.approx(1 - rest / ((field - field.mean()) ** 2).sum())
        assert len(fit.parameters) == parameters
        assert fit.aic == pytest.approx(143 * np.log(rest / 143) + 2 * parameters)


@pytest.mark.parametrize("fit", [fit_dog, fit_gabor])
def test_dead_flat_and_broken_fields(fit):
    assert fit(np.zeros((5, 5))).status == "dead"
    flat = fit(np.ones((5, 5)))
    assert flat.status == "flat"
    assert np.isnan(flat.r2)
    assert flat.parameters == {}
    with pytest.raises(ValueError, match=r"rf of shape \(5, 5\) must be \(y, x\) and finite"):
        fit(np.full((5, 5), np.nan))


@pytest.mark.parametrize("fit", [fit_dog, fit_gabor])
@pytest.mark.parametrize("size", [(1, 2), (3, 3), (5, 12)])
def test_small_and_oblong_fields_do_not_raise(fit, size):
    field = np.random.default_rng(0).standard_normal(size)
    assert fit(field).r2 <= 1
