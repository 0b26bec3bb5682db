"""Checks of settings: one of a few words or numbers; several of one length."""

from collections.abc import Iterable, Sized
from typing import Any, get_args


def check_choice(name: str, value: object, allowed: Any) -> None:
    """Refuse what is none of the values that a setting may have.

    Parameters
    ----------
    name
        Of the argument, as the error says it.
    value
        What was given, of any type.
    allowed
        The values, or the `Literal` that lists them.

    Raises
    ------
    ValueError
        With the name, the value and what is allowed.

    Examples
    --------
    >>> from typing import Literal
    >>> check_choice("start", "normal", ["uniform", "normal"])
    >>> check_choice("start", "svd", Literal["uniform", "normal"])
    Traceback (most recent call last):
    ValueError: start='svd' must be one of uniform, normal
    """
    choices: Iterable[object] = get_args(allowed) or allowed
    if value not in list(choices):
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, choices))}")


def check_same_length(**arguments: Sized) -> None:
    """Refuse lists that should have an entry for each condition, and have not.

    Raises
    ------
    ValueError
        With the names and lengths, if these differ or one is 0.

    Examples
    --------
    >>> check_same_length(hidden=(0.1, 0.2), readout=(0, 0))
    >>> check_same_length(hidden=(0.1, 0.2), readout=(0,))
    Traceback (most recent call last):
    ValueError: hidden has 2, readout has 1 entries; one each a condition is needed, at least one
    """
    sizes = {name: len(values) for name, values in arguments.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        text = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"{text} entries; one each a condition is needed, at least one")
