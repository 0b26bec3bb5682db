"""Theory beside simulations of balanced networks: bias, fluctuations and stability of each cell."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.theory import critical_balance, mean_field, optimal_balance, readout_variance

#: what a cell is, and what it is where the dataset does not say
_PARAMETERS = ("balance", "num_units", "disorder", "noise", "drive", "delay")
_DEFAULTS = {"disorder": 0.0, "noise": 0.0, "drive": 0.0, "delay": 0.0}
#: words that a cell may have, the default first
_KINDS = {"nonlinearity": ("tanh", "linear", "erf"), "readout": ("signs", "normal")}
_TIME = labels.COORDINATES["time"][0]


def balanced_theory(cells: xr.Dataset) -> xr.Dataset:
    """Return what the mean field says of each cell of a study: bias, fluctuations, stability.

    Parameters
    ----------
    cells
        With ``balance`` and ``num_units``, and where they are not zero ``disorder``, ``noise``,
        ``drive`` and ``delay``, as coordinates or variables over any dims (without NaN); and
        ``nonlinearity`` and ``readout`` as `neurofb.theory.mean_field` names them, without which
        neurons are tanh, readouts signs. The simulators' datasets carry all of them.

    Returns
    -------
    xr.Dataset
        Over the dims of these parameters: ``bias_theory``, ``std_theory`` (in time, NaN from the
        critical balance on), ``frozen_std_theory`` (of the bias, over realisations of the weights),
        ``rmse_theory`` (of all three), ``gain``, ``critical_balance``, ``critical_frequency`` and
        ``optimal_balance`` (the least variance under white noise, if the gain did not depend on the
        balance).

    Raises
    ------
    ValueError
        If ``balance`` or ``num_units`` is missing or a parameter NaN; for what there is no theory
        of here: a nonlinearity that is a function, several signals, an input that moves.

    Examples
    --------
    >>> cells = xr.Dataset(coords={"balance": [1.0, 10.0], "num_units": 1400, "noise": 0.75})
    >>> balanced_theory(cells).std_theory.values.round(5).tolist()
    [0.00865, 0.00389]
    """
    for name in ("balance", "num_units"):
        if name not in cells.variables:
            have = ", ".join(map(str, cells.variables))
            raise ValueError(f"the dataset has no {name!r}; it has: {have or 'none'}")
    _check_covered(cells)
    defaults = _DEFAULTS | {name: words[0] for name, words in _KINDS.items()}
    given = [
        cells[name].drop_attrs().reset_coords(drop=True)
        if name in cells.variables
        else xr.DataArray(defaults[name])
        for name in (*_PARAMETERS, *_KINDS)
    ]
    together = xr.broadcast(*given)
    solved: dict[Hashable, tuple[float, ...]] = {}
    rows = zip(*(one.values.ravel().tolist() for one in together), strict=True)
    values = np.array([_cell(tuple(map(float, row[:-2])), row[-2:], solved) for row in rows])
    dims, shape = [str(dim) for dim in together[0].dims], together[0].shape
    found = xr.Dataset(coords={dim: cells[dim] for dim in dims if dim in cells.coords})
    for number, (name, units, text) in enumerate(_FOUND):
        column = values[:, number].reshape(shape)
        found[name] = labels.variable(dims, column, units, f"{text}, theory")
    return found


_FOUND = (
    ("bias_theory", "1", "bias of the estimate, x - mean"),
    ("std_theory", "1", "standard deviation of the estimate in time"),
    ("frozen_std_theory", "1", "standard deviation of the bias over realisations of the weights"),
    ("rmse_theory", "1", "root mean square error of the estimate"),
    ("gain", "1", "mean slope of the neurons"),
    ("critical_balance", "1", "balance from which the network oscillates"),
    ("critical_frequency", f"radian / {_TIME}", "angular frequency at the critical balance"),
    ("optimal_balance", "1", "balance of the least variance under white noise"),
)


def _check_covered(cells: xr.Dataset) -> None:
    """Refuse networks that the theory does not describe."""
    for name in _PARAMETERS:
        if name in cells.variables and cells[name].isnull().any():
            moves = ": the input moves, for which there is neurofb.theory.tracking_transfer"
            raise ValueError(
                f"{name} is NaN{moves if name == 'drive' else ''}; allowed: numbers alone"
            )
    for name, words in _KINDS.items():
        for word in np.unique(cells[name].values) if name in cells.variables else ():
            if word not in words:
                direct = "; neurofb.theory.mean_field takes functions of numpy arrays"
                raise ValueError(
                    f"{name}={str(word)!r} has no theory here; allowed: {', '.join(words)}"
                    f"{direct if name == 'nonlinearity' else ''}"
                )
    many = int(cells["num_signals"].max()) if "num_signals" in cells.variables else 1
    if many > 1:
        raise ValueError(f"num_signals={many} has no theory here; allowed: 1")


def _cell(
    parameters: tuple[float, ...],
    kinds: tuple[Any, ...],
    solved: dict[Hashable, tuple[float, ...]],
) -> tuple[float, ...]:
    """Return one cell's numbers, in the order of `_FOUND`; the same cell is solved once."""
    if (parameters, kinds) not in solved:
        balance, num_units, disorder, noise, drive, delay = parameters
        how = dict(zip(_KINDS, kinds, strict=True))
        field = mean_field(balance, disorder, noise, drive, **how)
        critical, frequency = critical_balance(delay, field.gain)
        optimal = optimal_balance(np.array([delay]), field.gain)[0]
        moving = float(readout_variance(field, num_units, delay, frozen=False))
        both = float(readout_variance(field, num_units, delay))
        stable = moving < np.inf
        std, total = (np.sqrt(v) if stable else np.nan for v in (moving, field.bias**2 + both))
        frozen = np.sqrt(max(both - moving, 0.0)) if stable else np.nan
        places = (float(each) for each in (field.gain, critical, frequency, optimal))
        solved[parameters, kinds] = (field.bias, std, frozen, total, *places)
    return solved[parameters, kinds]
