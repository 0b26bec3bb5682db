import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofb.measures.orientation import (
    FREQUENCIES,
    ORIENTATIONS,
    linear_grating_response,
    orientation_tuning,
    wave_vector,
)

GRID = np.mgrid[-10:11, -10:11]


def stripes(orientation, frequency, phase):
    down, right = wave_vector(orientation)
    window = np.exp(-(GRID[0] ** 2 + GRID[1] ** 2) / 18.0)
    return window * np.cos(2 * np.pi * frequency * (down * GRID[0] + right * GRID[1]) + phase)


@settings(max_examples=40)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    frequency=st.floats(0.15, 0.35),
    phase=st.floats(0, 6.28),
)
def test_preferred_grating_is_that_of_the_stripes(orientation, frequency, phase):
    field = stripes(orientation, frequency, phase)
    tuning = orientation_tuning(linear_grating_response(field[None]))
    difference = (tuning.preferred_orientation[0] - orientation + 90) % 180 - 90
    assert abs(difference) <= 5
    assert tuning.preferred_frequency[0] == pytest.approx(frequency, abs=0.011)
    assert tuning.gosi[0] > 0.7


def test_orientation_is_counter_clockwise_on_a_displayed_image():
    field = np.zeros((11, 11))
    field[range(11), range(10, -1, -1)] = 1.0  # from bottom left to top right
    tuning = orientation_tuning(linear_grating_response(field[None]))
    assert tuning.preferred_orientation[0] == 45
    level = np.zeros((1, 11, 11))
    level[0, 5] = 1.0
    assert orientation_tuning(linear_grating_response(level)).preferred_orientation[0] == 0


def test_response_is_the_amplitude_over_all_phases():
    field = np.random.default_rng(0).standard_normal((1, 21, 21))
    phases = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    down, right = wave_vector(30.0)
    cycles = 2 * np.pi * 0.12 * (down * GRID[0] + right * GRID[1])
    best = max((field[0] * np.cos(cycles + phase)).sum() for phase in phases)
    assert linear_grating_response(field, (30.0,), (0.12,))[0, 0, 0] == pytest.approx(best, 1e-4)


def test_gosi_of_known_curves():
    angles = np.deg2rad(ORIENTATIONS)
    cosine = 1 + np.cos(2 * (angles - np.deg2rad(40)))
    flat = np.ones_like(angles)
    peak = np.where(np.asarray(ORIENTATIONS) == 40, 1.0, 0.0)
    tuning = orientation_tuning(np.stack([cosine, flat, peak])[:, :, None], frequencies=(0.1,))
    np.testing.assert_allclose(tuning.gosi, [0.5, 0, 1], atol=1e-12)
    np.testing.assert_allclose(tuning.osi, [1, 0, 1], atol=1e-12)
    assert tuning.preferred_orientation[[0, 2]].tolist() == [40, 40]


def test_unit_without_response_is_nan():
    tuning = orientation_tuning(-np.ones((1, len(ORIENTATIONS), len(FREQUENCIES))))
    assert np.isnan(tuning.gosi).all()
    assert np.isnan(tuning.preferred_orientation).all()


def test_frequencies_stay_below_the_anisotropy_of_the_grid():
    assert max(FREQUENCIES) <= 0.4
