"""Rotational symmetry of a receptive field about the centroid of its energy.

Sign flips, scale and quarter turns change none of the indices. A two-lobed field has its energy
centroid between the lobes; it is used anyway.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates, spline_filter

NUM_HARMONICS = 9
ENERGY_SHARE = 0.95
SMALLEST_RADIUS = 2.0
ROTATIONS = tuple(range(15, 166, 15))


class Disc(NamedTuple):
    """The disc that an index is evaluated on: centre and radius in pixels, share on the map."""

    y: float
    x: float
    radius: float
    coverage: float


def energy_disc(rf: Float[np.ndarray, "y x"]) -> Disc:
    """Find the energy centroid and the radius (pixels) that holds 95 % of the energy.

    The centroid is that of f², never of f, whose sum is near 0 for a balanced centre-surround
    field. ``coverage`` is the share of the disc that lies on the map.

    Examples
    --------
    >>> energy_disc(np.eye(1, 9, 4).T * np.eye(1, 9, 4)).radius
    0.0
    """
    energy = (rf / np.abs(rf).max()) ** 2
    energy /= energy.sum()
    rows, columns = np.indices(rf.shape)
    y, x = float((energy * rows).sum()), float((energy * columns).sum())
    distance = np.hypot(rows - y, columns - x).ravel()
    order = np.argsort(distance, kind="stable")
    held = np.searchsorted(np.cumsum(energy.ravel()[order]), ENERGY_SHARE)
    radius = float(distance[order[min(held, len(order) - 1)]])
    return Disc(y, x, radius, _coverage(rf.shape, y, x, max(radius, SMALLEST_RADIUS)))


def rotational_symmetry(
    rf: Float[np.ndarray, "y x"], *, num_angles: int = 96
) -> tuple[float, Float[np.ndarray, "harmonic"]]:
    """Return the share of power in the angular harmonic m = 0, and the shares of m = 0 … 8.

    With polar samples P(r, t), F_m(r) their Fourier coefficients over t and
    A_m = Σ_r r |F_m(r)|², the symmetry is A_0 / Σ_m A_m (m = 1 stands for ± 1 and so on). It equals
    the mean over all angles of the correlation of the field with its rotation (Parseval). Where a
    circle leaves the map, its missing part is set to the mean of the rest, and deviations from
    the mean are scaled up for it. The radius is at least 2 pixels; below that it means little.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> round(rotational_symmetry(np.exp(-(x**2 + y**2) / 8.0))[0], 3)
    1.0
    """
    disc = energy_disc(rf)
    radius = max(disc.radius, SMALLEST_RADIUS)
    step = 0.25
    radii = np.arange(step / 2, radius, step)[:, None]
    angles = np.arange(num_angles)[None] * 2 * np.pi / num_angles
    y, x = disc.y + radii * np.sin(angles), disc.x + radii * np.cos(angles)
    valid = _on_map(rf.shape, y, x)
    samples = np.asarray(map_coordinates(rf, [y, x], order=3, mode="nearest")) / np.abs(rf).max()
    share = valid.mean(1, keepdims=True)
    rings = share[:, 0] > 0
    samples, valid, share, weight = samples[rings], valid[rings], share[rings], radii[rings]
    mean = (samples * valid).mean(1, keepdims=True) / share
    filled = mean + np.where(valid, samples - mean, 0.0) / np.sqrt(share)
    power = np.abs(np.fft.rfft(filled, axis=1) / num_angles) ** 2
    power[:, 1 : (num_angles + 1) // 2] *= 2
    # a circle partly on the map counts with its length there
    spectrum = (power * weight * share).sum(0)
    spectrum /= spectrum.sum()
    return float(spectrum[0]), spectrum[:NUM_HARMONICS]


def rotation_correlation(
    rf: Float[np.ndarray, "y x"], *, angles: tuple[float, ...] = ROTATIONS
) -> Float[np.ndarray, "angle"]:
    """Return the cosine of the field with itself turned by each angle (degrees), in the disc.

    <f, rot f> / (|f| |rot f|) over the pixels of the disc whose turned position is on the map; not
    centred, since subtracting a mean would make a blob's score depend on the disc. 180 degrees is
    left out by default: it would punish odd symmetry twice.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> odd = np.sin(0.8 * x) * np.exp(-(x**2 + y**2) / 18.0)
    >>> round(rotation_correlation(odd, angles=(180.0,))[0], 2)
    np.float64(-1.0)
    """
    disc = energy_disc(rf)
    grid = np.indices(rf.shape).reshape(2, -1) - np.array([[disc.y], [disc.x]])
    inside = np.hypot(*grid) <= max(disc.radius, SMALLEST_RADIUS)
    dy, dx = grid[:, inside]
    here = rf.ravel()[inside] / np.abs(rf).max()
    turn = np.deg2rad(np.asarray(angles, dtype=float))[:, None]
    y = disc.y + np.cos(turn) * dy + np.sin(turn) * dx
    x = disc.x - np.sin(turn) * dy + np.cos(turn) * dx
    valid = _on_map(rf.shape, y, x)
    coefficients = spline_filter(rf / np.abs(rf).max(), order=3, mode="nearest")
    turned = map_coordinates(coefficients, [y, x], order=3, mode="nearest", prefilter=False)
    turned, here = np.asarray(turned) * valid, here[None] * valid
    norm = np.sqrt(np.sum(turned**2, axis=1) * np.sum(here**2, axis=1))
    return np.sum(turned * here, axis=1) / np.maximum(norm, np.finfo(float).tiny)


def _on_map(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Say which points lie on the pixels of a map (half a pixel of margin)."""
    return (y > -0.5) & (y < shape[0] - 0.5) & (x > -0.5) & (x < shape[1] - 0.5)


def _coverage(shape: tuple[int, ...], y: float, x: float, radius: float) -> float:
    """Return the share of a disc's area that lies on the map."""
    radii = radius * np.sqrt((np.arange(16) + 0.5) / 16)[:, None]
    angles = np.arange(32)[None] * 2 * np.pi / 32
    inside = _on_map(shape, y + radii * np.sin(angles), x + radii * np.cos(angles))
    return float(inside.mean())
