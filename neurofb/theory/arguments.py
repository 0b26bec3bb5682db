"""What formulas of numbers and arrays share: checks of their arguments, and bisection."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

#: A number, or an array of numbers; arrays are broadcast against each other.
Numbers = float | int | Float[np.ndarray, "..."]

_NUM_BISECTIONS = 100


def within_one(**arguments: Numbers) -> tuple[np.ndarray, ...]:
    """Return fractions, from 0 to 1, as arrays of one shape.

    Raises
    ------
    ValueError
        With the name and value of what is outside.

    Examples
    --------
    >>> within_one(share=0.5)
    (array(0.5),)
    """
    for name, value in arguments.items():
        array = np.asarray(value)
        if not np.all((array >= 0) & (array <= 1)):
            raise ValueError(f"{name}={value} must be between 0 and 1")
    return _together(arguments)


def positive(**arguments: Numbers) -> tuple[np.ndarray, ...]:
    """Return positive and finite numbers as arrays of one shape.

    Raises
    ------
    ValueError
        With the name and value of what is neither.

    Examples
    --------
    >>> positive(ratio=0.5, scale=np.ones(2))
    (array([0.5, 0.5]), array([1., 1.]))
    """
    for name, value in arguments.items():
        array = np.asarray(value)
        if not np.all((array > 0) & (array < np.inf)):
            raise ValueError(f"{name}={value} must be positive and finite")
    return _together(arguments)


def at_least(least: float | int, **arguments: float | int | np.ndarray) -> None:
    """Refuse numbers that are below a limit or not finite.

    Raises
    ------
    ValueError
        With the name and value of what is.

    Examples
    --------
    >>> at_least(0, rate=0.5, num_steps=np.arange(3))
    """
    for name, value in arguments.items():
        array = np.asarray(value)
        if not np.all((array >= least) & (array < np.inf)):
            raise ValueError(f"{name}={value} must be finite and at least {least}")


def bisect(
    is_below: Callable[[np.ndarray], Any],
    low: Numbers,
    high: Numbers,
) -> Float[np.ndarray, "..."]:
    """Return where a condition that holds below some point ceases to hold, between low and high.

    Examples
    --------
    >>> bisect(lambda x: x**2 < 2, np.zeros(1), np.ones(1) * 2)
    array([1.41421356])
    """
    for _ in range(_NUM_BISECTIONS):
        middle = np.asarray((low + high) / 2)
        below = is_below(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _together(arguments: Mapping[str, Numbers]) -> tuple[np.ndarray, ...]:
    """Return numbers as arrays that have been broadcast, in memory of their own."""
    arrays = (np.asarray(value, dtype=float) for value in arguments.values())
    return tuple(np.array(each) for each in np.broadcast_arrays(*arrays))
