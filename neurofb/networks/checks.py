"""Checks that the settings of several networks share."""

from collections.abc import Mapping


def check_integers(settings: object, lowest: Mapping[str, int]) -> None:
    """Refuse settings that are no integers, or tuples of them, of at least the value given.

    Parameters
    ----------
    settings
        Any object with these attributes.
    lowest
        Attribute → lowest allowed value; every entry of a tuple must keep to it.

    Raises
    ------
    ValueError
        With the attribute's name, its value and what is allowed.

    Examples
    --------
    >>> check_integers(range(0, 8, 2), {"step": 3})
    Traceback (most recent call last):
    ValueError: step=2 must be an integer >= 3
    """
    for name, least in lowest.items():
        value = getattr(settings, name)
        many = isinstance(value, tuple)
        if not all(isinstance(one, int) and one >= least for one in (value if many else (value,))):
            kind = "hold integers" if many else "be an integer"
            raise ValueError(f"{name}={value!r} must {kind} >= {least}")


def check_probability(name: str, value: float) -> None:
    """Refuse the probability of a dropout outside [0, 1).

    Raises
    ------
    ValueError
        With the name and the value.

    Examples
    --------
    >>> check_probability("dropout", 1.0)
    Traceback (most recent call last):
    ValueError: dropout=1.0 must be in [0, 1)
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} must be in [0, 1)")
