"""Ten simple shapes as signed distances, so that their edges can be antialiased at any angle."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

#: A distance in units of the shape's size, shape (image, y, x); negative inside.
Field = Float32[np.ndarray, "image y x"]


def _box(u: Field, v: Field, half_u: float, half_v: float) -> Field:
    return np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)


def _disc(u: Field, v: Field) -> Field:
    return np.hypot(u, v) - 0.85


def _square(u: Field, v: Field) -> Field:
    return _box(u, v, 0.75, 0.75)


def _triangle(u: Field, v: Field) -> Field:
    half = np.float32(3**0.5 / 2)
    return np.maximum(np.abs(u) * half - v / 2, v) - 0.5


def _bar(u: Field, v: Field) -> Field:
    return _box(u, v, 1.0, 0.25)


def _plus(u: Field, v: Field) -> Field:
    return np.minimum(_box(u, v, 0.95, 0.25), _box(u, v, 0.25, 0.95))


def _ring(u: Field, v: Field) -> Field:
    return np.abs(np.hypot(u, v) - 0.75) - 0.2


def _ell(u: Field, v: Field) -> Field:
    return np.minimum(_box(u + 0.5, v, 0.22, 0.85), _box(u, v + 0.63, 0.72, 0.22))


def _tee(u: Field, v: Field) -> Field:
    return np.minimum(_box(u, v - 0.6, 0.85, 0.22), _box(u, v, 0.22, 0.82))


def _half_disc(u: Field, v: Field) -> Field:
    return np.maximum(np.hypot(u, v + 0.4) - 0.95, -v - 0.4)


def _two_bars(u: Field, v: Field) -> Field:
    return _box(u, np.abs(v) - 0.5, 0.85, 0.2)


#: Shape name -> signed distance from its edge, for coordinates relative to the shape's size.
FIGURES: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "bar": _bar,
    "plus": _plus,
    "ring": _ring,
    "ell": _ell,
    "tee": _tee,
    "half-disc": _half_disc,
    "two bars": _two_bars,
}
