"""Which neurons of a layer are meant: a fraction of them, a number, or their indices."""

from typing import Any

import numpy as np

#: A fraction (float), a number of neurons (int), or the neurons themselves (tuple of indices).
Chosen = float | int | tuple[int, ...]


def check_chosen(name: str, chosen: Any) -> None:
    """Refuse what cannot be a choice of neurons, however many there are.

    Parameters
    ----------
    name
        Of the argument, as the error says it.
    chosen
        A fraction (a real number that is no integer type: 1.0 is all), a number of neurons (any
        integer type: 1 is one), or a tuple of indices.

    Raises
    ------
    ValueError
        If a fraction lies outside [0, 1], a number is negative, an index is negative, no integer or
        named twice, or it is none of the three.

    Examples
    --------
    >>> check_chosen("readout", 0.3)
    >>> check_chosen("readout", 1.5)
    Traceback (most recent call last):
    ValueError: readout=1.5 must be a fraction from 0 to 1
    """
    if isinstance(chosen, tuple):
        whole = all(_is_whole(index) and index >= 0 for index in chosen)
        if not whole or len(set(chosen)) != len(chosen):
            raise ValueError(f"{name}={chosen} must be different indices from 0 on")
    elif _is_whole(chosen):
        if chosen < 0:
            raise ValueError(f"{name}={chosen} must be a number of neurons, at least 0")
    elif not _is_number(chosen):
        raise ValueError(
            f"{name}={chosen!r} must be a fraction from 0 to 1, a number of neurons or a tuple of "
            "indices"
        )
    elif not 0 <= chosen <= 1:
        raise ValueError(f"{name}={chosen} must be a fraction from 0 to 1")


def chosen_neurons(name: str, chosen: Any, size: int) -> list[int]:
    """Return the indices of the chosen neurons out of `size`.

    Of a fraction (to the nearest number of neurons, of halves the even one) or a number, the first.

    Parameters
    ----------
    name, chosen
        As in `check_chosen`.
    size
        How many neurons there are.

    Raises
    ------
    ValueError
        As `check_chosen`, and if there are not that many neurons.

    Examples
    --------
    >>> chosen_neurons("readout", 0.5, 4), chosen_neurons("readout", 1, 4)
    ([0, 1], [0])
    >>> chosen_neurons("readout", (3, 1), 4)
    [3, 1]
    """
    check_chosen(name, chosen)
    if isinstance(chosen, tuple):
        indices = [int(index) for index in chosen]
    else:
        indices = list(range(int(chosen) if _is_whole(chosen) else round(chosen * size)))
    if max(indices, default=-1) >= size:
        raise ValueError(f"{name}={chosen} must choose among {size} neurons (0 to {size - 1})")
    return indices


def check_strength(strength: Any) -> None:
    """Refuse a strength ρ of flips, D = 1 − 2ρ, outside [0, 1].

    Raises
    ------
    ValueError
        With the value.

    Examples
    --------
    >>> check_strength(0.5)
    """
    if not _is_number(strength) or not 0 <= strength <= 1:
        raise ValueError(f"strength={strength!r} must lie from 0 to 1 (D = 1 − 2·strength)")


def _is_whole(value: Any) -> bool:
    """Return whether it is of an integer type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Return whether it is a real number."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
