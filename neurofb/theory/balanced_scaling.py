"""Balanced network: how its error falls with the number of neurons, by the law of the balance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from neurofb.theory.arguments import positive
from neurofb.theory.balanced_neurons import Readout
from neurofb.theory.balanced_optimum import solver
from neurofb.theory.balanced_readout import Counts, readout_variance
from neurofb.theory.hermite import Nonlinearity

_LAWS: dict[str, Callable[[float], float]] = {
    "fixed": lambda num_units: 1.0,
    "sqrt": lambda num_units: num_units**0.5,
    "proportional": lambda num_units: num_units,
}


@dataclass(frozen=True, eq=False)
class ScalingCurve:
    """Errors over the number of neurons, shape (num_units,) each.

    Attributes
    ----------
    num_units
        N.
    balance
        b(N).
    bias, std, rmse
        x - x̂; standard deviation of the estimate around its mean; root of the sum of their squares.

    Examples
    --------
    >>> scaling_law("fixed", np.array([100, 400])).std
    array([0., 0.])
    """

    num_units: Float[np.ndarray, " num_units"]
    balance: Float[np.ndarray, " num_units"]
    bias: Float[np.ndarray, " num_units"]
    std: Float[np.ndarray, " num_units"]
    rmse: Float[np.ndarray, " num_units"]


def scaling_law(
    law: str | Callable[[float], float],
    num_units: Counts,
    *,
    scale: float | int = 1.0,
    disorder: float | int = 0.0,
    noise: float | int = 0.0,
    drive: float | int = 0.0,
    delay: float | int = 0.0,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
) -> ScalingCurve:
    """Return bias and fluctuations of networks whose balance grows with their size.

    Under noise and without delay (our derivation; the abstract of arXiv:2006.14178 has the
    classical 1/√N and the superclassical 1/N): a fixed balance gives fluctuations of 1/√N over a
    bias that stays; b ~ √N a bias of N^(-1/2) and fluctuations of N^(-3/4); b ~ N both of 1/N.

    Parameters
    ----------
    law
        ``"fixed"``, b = scale; ``"sqrt"``, b = scale √N; ``"proportional"``, b = scale N; or a
        function of N, times the scale.
    num_units
        N, positive; shape (num_units,) or a number.
    scale
        Positive.
    disorder, noise, drive, nonlinearity, readout
        As in `neurofb.theory.mean_field`.
    delay
        As in `neurofb.theory.readout_variance`.

    Returns
    -------
    ScalingCurve

    Raises
    ------
    ValueError
        If the law is unknown, or an argument out of range.

    Examples
    --------
    >>> curve = scaling_law("proportional", np.array([200, 800]), scale=0.1, noise=0.75, drive=0.2)
    >>> curve.rmse.round(5)
    array([0.01389, 0.00361])
    """
    if isinstance(law, str) and law not in _LAWS:
        names = ", ".join(_LAWS)
        raise ValueError(f"law={law!r} must be one of {names}, or a function of num_units")
    positive(scale=scale)
    (num,) = positive(num_units=np.atleast_1d(np.asarray(num_units, dtype=float)))
    function = _LAWS[law] if isinstance(law, str) else law
    balance = np.array([scale * float(function(float(each))) for each in num])
    solve = solver(disorder, noise, drive, nonlinearity, readout)
    states = {each: solve(each) for each in np.unique(balance).tolist()}
    bias = np.array([states[each].bias for each in balance.tolist()])
    variance = {each: float(readout_variance(state, 1, delay)) for each, state in states.items()}
    std = np.sqrt(np.array([variance[each] for each in balance.tolist()]) / num)
    return ScalingCurve(num, balance, bias, std, np.sqrt(bias**2 + std**2))
