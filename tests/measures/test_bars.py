import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from neurofb.measures.bars import bar_orientedness


def literal(field):
    """Score every bar by itself, on the whole 32×32 square."""
    square = np.zeros((32, 32))
    height, width = field.shape
    top, left = (32 - height) // 2, (32 - width) // 2
    square[top : top + height, left : left + width] = field
    y, x = np.indices((32, 32))
    cube = np.zeros((50, 30, 30))
    for i, angle in enumerate(np.arange(50) * 2 * np.pi / 50):
        for k, offset in enumerate(np.linspace(0, 31, 30)):
            n = np.cos(angle) * (x - offset) + np.sin(angle) * (y - offset)
            for j, wide in enumerate(np.linspace(4, 16, 30)):
                bar = ((n >= 0) & (n <= wide)).astype(float)
                cube[i, j, k] = abs(((bar - bar.mean()) * (square - square.mean())).mean())
    cube = np.maximum(cube[:25], cube[25:])
    for axis, mode in enumerate(("wrap", "nearest", "nearest")):
        cube = uniform_filter1d(cube, 5, axis=axis, mode=mode)
    angle, wide, _ = np.unravel_index(cube.argmax(), cube.shape)
    curve = np.roll(cube[:, wide].max(1), -angle)
    return curve[0] / curve[13], (curve / curve.max()).std()


def test_same_as_the_literal_recipe(shapes):
    field = shapes["mixed_gabor"] + 0.3 * shapes["dog_shifted"]
    ratio, spread = bar_orientedness(field[None])
    expected = literal(field)
    assert (ratio[0], spread[0]) == pytest.approx(expected, rel=1e-3)


def test_flat_fields_are_nan_and_scale_does_not_matter(shapes):
    fields = np.stack([shapes["dog"], -1e5 * shapes["dog"], np.ones((17, 17)), np.zeros((17, 17))])
    ratio, spread = bar_orientedness(fields)
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-4)
    assert spread[0] == pytest.approx(spread[1], rel=1e-4)
    assert np.isnan(ratio[2:]).all()
    assert np.isnan(spread[2:]).all()


def test_units_do_not_depend_on_each_other(shapes):
    fields = np.stack([shapes["odd_gabor"], shapes["dog"], shapes["elongated"]])
    together = bar_orientedness(fields)[0]
    alone = [bar_orientedness(field[None])[0][0] for field in fields]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (34, 3), (33, 65)])
def test_any_size(size):
    field = np.random.default_rng(0).standard_normal((1, *size))
    ratio, _ = bar_orientedness(field)
    assert size == (1, 1) or ratio[0] >= 1 - 1e-6
