"""The check of a setting that is one of a few words or numbers."""

from collections.abc import Iterable
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
