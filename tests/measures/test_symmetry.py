import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.transform import rotate

from neurofb.measures.symmetry import energy_disc, rotation_correlation, rotational_symmetry


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_symmetry_is_the_mean_rotation_correlation_over_all_angles(seed):
    """Parseval: power at m = 0 is the mean over rotations of the uncentred correlation."""
    y, x = np.mgrid[-10:11, -10:11]
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((21, 21)), 2.0)
    field = noise * np.exp(-(x**2 + y**2) / 18.0)
    angles = tuple(np.arange(72) * 5.0)
    mean = rotation_correlation(field, angles=angles).mean()
    assert rotational_symmetry(field)[0] == pytest.approx(mean, abs=0.06)


def test_rotation_correlation_against_scikit_image(shapes):
    field = shapes["mixed_gabor"] + shapes["dog_shifted"]
    disc = energy_disc(field)
    rows, columns = np.indices(field.shape)
    inside = np.hypot(rows - disc.y, columns - disc.x) <= disc.radius
    expected = []
    for angle in range(15, 166, 15):
        turned = rotate(field, angle, center=(disc.x, disc.y), order=3, preserve_range=True)
        one, two = field[inside], turned[inside]
        expected.append(one @ two / np.sqrt((one @ one) * (two @ two)))
    np.testing.assert_allclose(rotation_correlation(field), expected, atol=0.01)


def test_spectrum_of_a_pure_harmonic():
    y, x = np.mgrid[-12:13, -12:13]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    for m in range(5):
        field = np.cos(m * angle) * radius**m * np.exp(-(radius**2) / 18.0)
        symmetry, spectrum = rotational_symmetry(field)
        assert spectrum[m] > 0.99
        assert symmetry == pytest.approx(float(m == 0), abs=0.01)


def test_spectrum_sums_to_one_for_smooth_fields(shapes):
    for name, field in shapes.items():
        spectrum = rotational_symmetry(field)[1]
        assert 0.99 < spectrum.sum() <= 1 + 1e-9, name
        assert (spectrum >= 0).all()


def test_disc_is_at_the_centroid_of_the_energy(shapes):
    disc = energy_disc(shapes["dog_shifted"])
    assert (disc.y, disc.x) == pytest.approx((10, 7), abs=0.05)
    assert disc.coverage == 1


def test_symmetry_about_the_border_uses_the_part_on_the_map():
    """A radial field whose centre lies one pixel from the border stays symmetric."""
    y, x = np.mgrid[0:15, 0:15]
    whole = np.exp(-((x - 7) ** 2 + (y - 7) ** 2) / 32.0)
    cut = np.hypot(x - 7, y - 7) < 7.5
    assert rotational_symmetry(whole * cut)[0] > 0.99
    half = np.exp(-((x - 7) ** 2 + (y - 2) ** 2) / 8.0)
    assert rotational_symmetry(half)[0] > 0.95
    assert rotation_correlation(half).min() > 0.85
