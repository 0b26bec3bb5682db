"""Balanced network with a delay: where it begins to oscillate, and the balance of least error.

In both the gain β of the neurons follows from the balance, by the mean field: noise and chaos lower
it, and so raise the balance that a network tolerates. Our derivation, as all of
`neurofb.theory.balanced_mean_field`.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar, root_scalar

from neurofb.theory.arguments import positive
from neurofb.theory.balanced_delay import critical_balance
from neurofb.theory.balanced_mean_field import MeanField, mean_field
from neurofb.theory.balanced_neurons import Readout
from neurofb.theory.balanced_readout import total_error
from neurofb.theory.hermite import Nonlinearity

_NUM_GRID = 48
#: Largest balance that is looked at, in units of the critical loop gain.
_LARGEST = 1e4


def network_critical_balance(
    delay: float | int,
    disorder: float | int = 0.0,
    noise: float | int = 0.0,
    drive: float | int = 0.0,
    *,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
) -> float:
    """Return the balance at which a network begins to oscillate: b β(b) = B_c(d).

    Parameters
    ----------
    delay
        d, in membrane time constants, positive.
    disorder, noise, drive, nonlinearity, readout
        As in `neurofb.theory.mean_field`.

    Returns
    -------
    float
        b_c; infinite if the neurons saturate before. It is the linear threshold, from the
        stationary state; an oscillation that exists already may go on below it.

    Raises
    ------
    ValueError
        If the delay is not positive, or as `neurofb.theory.mean_field`.

    Examples
    --------
    >>> [round(network_critical_balance(0.1, noise=each), 2) for each in (0.1, 0.75, 1.5)]
    [16.43, 20.15, 27.99]
    """
    solve = solver(disorder, noise, drive, nonlinearity, readout)
    positive(delay=delay)
    critical = float(critical_balance(delay)[0])

    def excess(balance: float) -> float:
        return solve(balance).loop_gain - critical

    high = critical
    while excess(high) < 0:
        high *= 2
        if high > _LARGEST * critical:
            return np.inf
    if disorder == 0 and drive == 0 and noise == 0:
        return critical / solve(critical).gain
    return float(root_scalar(excess, bracket=(0.0, high), xtol=1e-12, rtol=1e-10).root)


def optimal_total(
    num_units: float | int,
    delay: float | int,
    disorder: float | int = 0.0,
    noise: float | int = 0.0,
    drive: float | int = 0.0,
    *,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
) -> tuple[float, float]:
    """Return the balance of least root mean squared error, and that error.

    The bias falls with the balance; the fluctuations of a delayed loop rise beyond
    `optimal_balance`. For more and more neurons the optimum moves from there to the critical
    balance, and the error to the bias at the critical balance.

    Parameters
    ----------
    num_units
        N, positive.
    delay, disorder, noise, drive, nonlinearity, readout
        As in `network_critical_balance`.

    Returns
    -------
    balance, error : float
        b, and √(bias² + Var x̂) (`neurofb.theory.total_error`).

    Raises
    ------
    ValueError
        As `network_critical_balance`, or if a number of units is not positive.

    Examples
    --------
    >>> balance, error = optimal_total(1400, 0.1, noise=1.0, drive=0.2)
    >>> round(balance, 2), round(error, 5)
    (18.98, 0.0168)
    """
    positive(num_units=num_units)
    settings = (disorder, noise, drive, nonlinearity, readout)
    kinds = {"nonlinearity": nonlinearity, "readout": readout}
    critical = network_critical_balance(delay, disorder, noise, drive, **kinds)
    highest = min(critical, _LARGEST)
    solve = solver(*settings)

    def error(logarithm: float) -> float:
        return float(total_error(solve(np.exp(logarithm)), num_units, delay))

    # finer towards the critical balance, where the error diverges
    grid = np.log(highest * (1 - np.geomspace(0.999, 1e-4, _NUM_GRID)))
    errors = np.array([error(each) for each in grid])
    best = int(np.argmin(errors))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(error, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x)), float(found.fun)


def solver(
    disorder: float | int,
    noise: float | int,
    drive: float | int,
    nonlinearity: Nonlinearity,
    readout: Readout,
) -> Callable[[float], MeanField]:
    """Return the mean field as a function of the balance; without disorder no lags are needed.

    Examples
    --------
    >>> solver(0.0, 1.0, 0.0, "linear", "signs")(3.0).gain.__round__(9)
    1.0
    """
    grid = {"num_lags": 4, "lag_step": 100.0} if disorder == 0 else {}

    def solve(balance: float) -> MeanField:
        return mean_field(
            balance, disorder, noise, drive, nonlinearity=nonlinearity, readout=readout, **grid
        )

    return solve
