"""Orientedness of a receptive field from a bank of single bars (Lindsey et al. 2019).

The recipe of the authors' notebook, facts only: it has no gratings and no free centre. Its bars
start on the diagonal, so some directions are covered worse than others; prefer gOSI.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import uniform_filter1d

NUM_ANGLES = 50
NUM_WIDTHS = 30
NUM_OFFSETS = 30
#: Side of the square (pixels), the size of the authors' images.
SQUARE = 32
_MOST_CACHED = 33 * 33  # pixels; larger banks of bars are made anew each time
_ORTHOGONAL = 13  # steps of 7.2 degrees: 93.6 degrees


def bar_orientedness(
    rf: Float[np.ndarray, "unit y x"],
) -> tuple[Float[np.ndarray, "unit"], Float[np.ndarray, "unit"]]:
    """Return preferred / orthogonal ratio and standard deviation of the scores over angles.

    Bars {0 ≤ n ≤ w}, n = cos a (x - p) + sin a (y - p), 50 angles × 30 widths × 30 offsets; score
    |mean((G - mean G)(f - mean f))|; opposite angles folded by the maximum; box smoothing 5×5×5;
    at the width of the overall maximum, the maximum over offsets for each angle, divided by the
    largest. Fields are set in the middle of a blank 32×32 square, as the authors' are; larger
    ones have a square of their own size. A field without contrast has NaN.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> odd = np.sin(0.9 * x) * np.exp(-(x**2 + y**2) / 12.5)
    >>> ratio, spread = bar_orientedness(odd[None])
    >>> bool(ratio[0] > 3), bool(spread[0] > 0.25)
    (True, True)
    """
    num_units, height, width = rf.shape
    peak = np.abs(rf).max((1, 2), initial=0)
    flat = (np.ptp(rf.reshape(num_units, height * width), axis=1) == 0) | (peak == 0)
    columns = (rf / np.where(peak > 0, peak, 1)[:, None, None]).reshape(num_units, height * width).T
    columns = columns.astype(np.float32)
    keep = height * width <= _MOST_CACHED
    # mean of the product minus product of the means, over the whole square
    total = columns.sum(0)
    scores = np.empty((NUM_ANGLES, NUM_WIDTHS * NUM_OFFSETS, num_units), dtype=np.float32)
    for i in range(NUM_ANGLES):
        masks, filled = (_bars if keep else _bars.__wrapped__)(i, height, width)
        scores[i] = np.abs(masks.astype(np.float32) @ columns - filled[:, None] * total)
    scores = scores.reshape(NUM_ANGLES, NUM_WIDTHS, NUM_OFFSETS, num_units)
    folded = np.maximum(scores[: NUM_ANGLES // 2], scores[NUM_ANGLES // 2 :])
    for axis, mode in enumerate(("wrap", "nearest", "nearest")):
        folded = uniform_filter1d(folded, 5, axis=axis, mode=mode)
    ratio, spread = np.full(num_units, np.nan), np.full(num_units, np.nan)
    for unit in np.flatnonzero(~flat):
        cube = folded[..., unit]
        angle, best_width, _ = np.unravel_index(cube.argmax(), cube.shape)
        curve = np.roll(cube[:, best_width].max(1), -int(angle))
        ratio[unit] = curve[0] / curve[_ORTHOGONAL]
        spread[unit] = (curve / curve.max()).std()
    return ratio, spread


@lru_cache(maxsize=2 * NUM_ANGLES)
def _bars(
    angle: int, height: int, width: int
) -> tuple[Bool[np.ndarray, "bar pixel"], Float32[np.ndarray, "bar"]]:
    """Return the bars of one angle on the pixels of the field, and what share they fill."""
    side = max(SQUARE, height, width)
    rows, columns = (index.ravel() for index in np.indices((side, side)))
    top, left = (side - height) // 2, (side - width) // 2
    here = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    turn = angle * 2 * np.pi / NUM_ANGLES
    widths = np.linspace(4, 2 * (side // 4), NUM_WIDTHS)[:, None, None]
    offset = np.linspace(0, side - 1, NUM_OFFSETS)[:, None]
    n = np.cos(turn) * (columns - offset) + np.sin(turn) * (rows - offset)
    bars = ((n >= 0) & (n <= widths)).reshape(NUM_WIDTHS * NUM_OFFSETS, side * side)
    return bars[:, here], bars.mean(1, dtype=np.float32)
