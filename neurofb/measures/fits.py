"""Difference-of-Gaussians and Gabor fits by variable projection.

The two amplitudes of either function are linear: for every guess of the other parameters they are
solved, and only the other parameters are searched (Golub & Pereyra 1973, with Kaufman's
derivative). A bare comparison of R² favours the Gabor function, which has more parameters and
contains the elongated Gaussian; compare AIC and require orientation selectivity.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from neurofb.measures.symmetry import energy_disc

#: A field whose largest weight is below this is dead.
DEAD_BELOW = 1e-8
_LEAST_RESIDUE = 1e-6  # of the total; better fits than that count as equally perfect

_Two = tuple[np.ndarray, np.ndarray]
_Model = Callable[[np.ndarray, np.ndarray, np.ndarray], _Two]


class Fit(NamedTuple):
    """One fit: status (ok, dead, flat), R², AIC, named parameters (pixels, degrees), prediction."""

    status: str
    r2: float
    aic: float
    parameters: dict[str, float]
    prediction: Float[np.ndarray, "y x"]


def fit_dog(rf: Float[np.ndarray, "y x"]) -> Fit:
    """Fit two concentric Gaussians (6 parameters, among them two amplitudes of any sign).

    Parameters: y, x (pixels from the first), sigma_centre, sigma_surround (the wider), and their
    amplitudes.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> fit = fit_dog(np.exp(-(x**2 + y**2) / 4.5) - 0.25 * np.exp(-(x**2 + y**2) / 18.0))
    >>> round(fit.r2, 3), round(fit.parameters["sigma_centre"], 2)
    (1.0, 1.5)
    """
    status = _status(rf)
    if status != "ok":
        return _nothing(status, rf)
    sizes = [(1.0, 2.0), (1.5, 3.0), (2.0, 4.0), (3.0, 4.5), (1.0, 4.0), (2.0, 2.5)]
    starts = [[y, x, *size] for y, x in _centres(rf) for size in sizes]
    reach = float(max(rf.shape))
    low, high = [-1.0, -1.0, 0.4, 0.4], [rf.shape[0], rf.shape[1], reach, reach]
    best, amplitudes, prediction = _search(rf, _dog, starts, low, high, refine=2)
    order: np.ndarray = np.argsort(best[2:])
    names = ("y", "x", "sigma_centre", "sigma_surround", "centre", "surround")
    values = [*best[:2], *best[2:][order], *amplitudes[order]]
    return _finish(rf, prediction, dict(zip(names, map(float, values), strict=True)))


def fit_gabor(rf: Float[np.ndarray, "y x"]) -> Fit:
    """Fit a Gabor function with an elliptic envelope along its stripes (8 parameters).

    Parameters: y, x (pixels), orientation (degrees, of the stripes, counter-clockwise on a
    displayed image), frequency (cycles per pixel), sigma_across and sigma_along the stripes,
    amplitude, phase (degrees).

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> fit = fit_gabor(np.cos(x) * np.exp(-(x**2 + y**2) / 12.5))
    >>> round(fit.r2, 3), round(fit.parameters["orientation"]) % 180
    (1.0, 90)
    """
    status = _status(rf)
    if status != "ok":
        return _nothing(status, rf)
    spread = max(energy_disc(rf).radius / 2, 1.0)
    starts = [
        [y, x, angle, frequency, spread * across, spread * along]
        for y, x in _centres(rf)
        for angle, frequency in _waves(rf)
        for across, along in ((1.0, 1.0), (0.7, 1.2), (1.2, 0.7))
    ]
    reach = float(max(rf.shape))
    low = [-1.0, -1.0, -np.inf, 0.0, 0.4, 0.4]
    high = [rf.shape[0], rf.shape[1], np.inf, 0.5, reach, reach]
    best, amplitudes, prediction = _search(rf, _gabor, starts, low, high, refine=3)
    names = ("y", "x", "orientation", "frequency", "sigma_across", "sigma_along")
    parameters: dict[str, float] = dict(zip(names, map(float, best), strict=True))
    parameters["orientation"] = float(np.rad2deg(best[2]) % 180)
    parameters["amplitude"] = float(np.hypot(*amplitudes))
    parameters["phase"] = float(np.rad2deg(np.arctan2(-amplitudes[1], amplitudes[0])))
    return _finish(rf, prediction, parameters)


def _dog(parameters: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> _Two:
    """Return the two Gaussians (pixel, 2) and their derivatives (parameter, pixel, 2)."""
    y, x, *sigmas = parameters
    dy, dx = rows - y, columns - x
    square = dy**2 + dx**2
    basis = np.stack([np.exp(-square / (2 * s**2)) for s in sigmas], axis=1)
    slope = np.zeros((4, *basis.shape))
    for i, sigma in enumerate(sigmas):
        slope[0, :, i] = basis[:, i] * dy / sigma**2
        slope[1, :, i] = basis[:, i] * dx / sigma**2
        slope[2 + i, :, i] = basis[:, i] * square / sigma**3
    return basis, slope


def _gabor(parameters: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> _Two:
    """Return envelope times cosine and sine (pixel, 2) and their derivatives."""
    y, x, angle, frequency, across, along = parameters
    dy, dx = rows - y, columns - x
    cosine, sine = np.cos(angle), np.sin(angle)
    u, v = cosine * dy + sine * dx, -sine * dy + cosine * dx  # across and along the stripes
    omega = 2 * np.pi * frequency
    envelope = np.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
    even, odd = envelope * np.cos(omega * u), envelope * np.sin(omega * u)
    basis = np.stack([even, odd], axis=1)
    wave = np.stack([-odd, even], axis=1)  # derivative with respect to omega u
    by_u = omega * wave - basis * (u / across**2)[:, None]
    by_v = -basis * (v / along**2)[:, None]
    slope = np.stack(
        [
            -cosine * by_u + sine * by_v,
            -sine * by_u - cosine * by_v,
            by_u * v[:, None] - by_v * u[:, None],
            2 * np.pi * u[:, None] * wave,
            basis * (u**2 / across**3)[:, None],
            basis * (v**2 / along**3)[:, None],
        ]
    )
    return basis, slope


def _search(
    rf: np.ndarray, model: _Model, starts: list, low: list, high: list, refine: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Screen the starts, refine the best few; return parameters, amplitudes and prediction."""
    from scipy.optimize import least_squares  # heavy, and fits are a setting

    rows, columns = (index.ravel().astype(float) for index in np.indices(rf.shape))
    target = rf.ravel() / np.abs(rf).max()
    floor, ceiling = np.asarray(low) + 1e-6, np.asarray(high) - 1e-6

    def project(
        parameters: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        basis, slope = model(parameters, rows, columns)
        norms = np.maximum(np.sqrt((basis**2).sum(0)), 1e-9)
        unit = basis / norms
        first = unit[:, 0]
        second = unit[:, 1] - first * (first @ unit[:, 1])
        length = np.sqrt(second @ second)
        # a second function equal to the first adds nothing
        second = second / length if length > 1e-6 else np.zeros_like(second)
        frame = np.stack([first, second], axis=1)
        onto = frame.T @ target
        amplitude = np.zeros(2)
        if length > 1e-6:
            amplitude[1] = onto[1] / length
        amplitude[0] = onto[0] - (first @ unit[:, 1]) * amplitude[1]
        return slope, frame, frame @ onto, amplitude / norms

    def residue(parameters: np.ndarray) -> np.ndarray:
        return project(parameters)[2] - target

    def jacobian(parameters: np.ndarray) -> np.ndarray:
        slope, frame, _, amplitude = project(parameters)
        moved = (slope @ amplitude).T
        return moved - frame @ (frame.T @ moved)

    starts = [np.clip(start, floor, ceiling) for start in starts]
    costs = np.array([np.sum(residue(start) ** 2) for start in starts])
    found = [
        least_squares(
            residue,
            starts[i],
            jac=jacobian,  # pyright: ignore[reportArgumentType]  (the stub knows only strings)
            bounds=(low, high),
            ftol=1e-7,
            xtol=1e-7,
            max_nfev=60,
        )
        for i in np.argsort(costs, kind="stable")[:refine]
    ]
    best = min(found, key=lambda fit: fit.cost).x
    _, _, prediction, amplitude = project(best)
    scale = np.abs(rf).max()
    return best, amplitude * scale, prediction.reshape(rf.shape) * scale


def _centres(rf: np.ndarray) -> list[tuple[float, float]]:
    """Return the centroid of the energy and the largest pixel."""
    disc = energy_disc(rf)
    row, column = divmod(int(np.abs(rf).argmax()), rf.shape[1])
    return [(disc.y, disc.x), (float(row), float(column))]


def _waves(rf: np.ndarray) -> list[tuple[float, float]]:
    """Return angles (radians, across the stripes) and frequencies of the strongest gratings."""
    power = np.abs(np.fft.fft2(rf, (64, 64)))
    y, x = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
    frequency = np.hypot(y, x)
    power[(frequency > 0.45) | (frequency < 0.04) | (y < 0)] = 0
    best = power.argmax()
    peak = (float(np.arctan2(x.flat[best], y.flat[best])), float(frequency.flat[best]))
    slow = [(angle, 0.02) for angle in np.arange(4) * np.pi / 4]
    return [peak, (peak[0], peak[1] / 2), *slow]


def _status(rf: np.ndarray) -> str:
    if rf.ndim != 2 or not np.isfinite(rf).all():
        raise ValueError(f"rf of shape {rf.shape} must be (y, x) and finite")
    if np.abs(rf).max() < DEAD_BELOW:
        return "dead"
    return "flat" if np.ptp(rf) == 0 else "ok"


def _nothing(status: str, rf: np.ndarray) -> Fit:
    return Fit(status, np.nan, np.nan, {}, np.full(rf.shape, np.nan))


def _finish(rf: np.ndarray, prediction: np.ndarray, parameters: dict[str, float]) -> Fit:
    """Compute R² = 1 - SS_res / SS_tot (about the mean) and AIC = n log(SS_res / n) + 2 k."""
    rest = float(((rf - prediction) ** 2).sum())
    total = float(((rf - rf.mean()) ** 2).sum())
    floor = max(rest, _LEAST_RESIDUE * total)
    aic = rf.size * np.log(floor / rf.size) + 2 * len(parameters)
    return Fit("ok", 1 - rest / total, float(aic), parameters, prediction)
