r"""Balanced predictive coding with noise, chaos and delays (arXiv:2006.14178): the page's studies.

Of the paper the abstract and the caption of its Figure 1 were readable; the equations, and so
everything here beyond that caption's settings, are our reconstruction (docs/balanced_coding.md)::

    neurofb run models/balanced_coding.py::against_balance --out out/balanced_against_balance
    neurofb run models/balanced_coding.py::scaling --out out/balanced_scaling
    neurofb run models/balanced_delay.py::delay_phase --out out/balanced_delay
    neurofb run models/balanced_delay.py::noise_stabilises --out out/balanced_noise
    neurofb run models/balanced_delay.py::hysteresis --out out/balanced_hysteresis
    neurofb run models/balanced_delay.py::tracking --out out/balanced_tracking

and the functions of these names in analyses/balanced_coding.py put theory beside them and draw.
"""

import math
import warnings
from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.dynamics import BalancedNetwork, balanced_statistics
from neurofb.dynamics.balanced_input import check_rising

#: where fluctuations come from: (disorder g, noise sigma, input x); the first two are the caption's
SOURCES = {
    "noise": (0.0, 0.75, 0.2),
    "chaos, g = 1.6": (1.6, 0.0, 0.2),
    "chaos, g = 2.5": (2.5, 0.0, 0.0),
}
#: laws of the balance over the number of neurons
LAWS = {
    "b = 5": lambda num_units: 5.0,
    "b = √N": lambda num_units: math.sqrt(num_units),
    "b = N/10": lambda num_units: num_units / 10,
}
#: what is kept of a run
KEPT = ("bias", "std", "rmse")
#: largest balance × time step, and the largest time step
_LOOP, _LONGEST = 0.05, 0.02


def against_balance(
    sources: tuple[str, ...] = tuple(SOURCES),
    balances: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0),
    num_units: int = 1400,
    num_matrices: int = 6,
    num_trials: int = 6,
    duration: float = 100.0,
    burn_in: float = 20.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Measure bias and fluctuations of the estimate over the balance, for noise and for chaos.

    Parameters
    ----------
    sources
        Of `SOURCES`.
    balances
        Rising; a network without feedback is run besides (``std_open``). Chaos is not run above 30.
    num_units
        N.
    num_matrices, num_trials
        Realisations of the weights, and trials of each.
    duration, burn_in
        Time measured (at b above 20: 2000/b, since fluctuations then are faster), and time before.
    seed
        Of weights, noise and starts.
    device
        A torch device.
    """
    for source in sources:
        check_choice("sources", source, tuple(SOURCES))
    check_rising(balances=balances)
    columns = []
    for source in sources:
        disorder, noise, drive = SOURCES[source]
        cells = []
        for balance in (0.0, *balances):
            if disorder and balance > 30:
                cells.append(xr.full_like(cells[-1], np.nan))
                continue
            network = BalancedNetwork(
                num_units=num_units, balance=balance, disorder=disorder, noise=noise
            )
            # chaos is slow: it does not feel the delay of half a step that the warning is about
            loop = 3 * _LOOP if disorder else _LOOP
            cells.append(
                _statistics(
                    *(network, drive),
                    loop=loop,
                    duration=min(duration, 2000 / max(balance, 1e-9)),
                    burn_in=burn_in,
                    num_matrices=num_matrices,
                    num_trials=num_trials,
                    seed=seed,
                    device=device,
                )
            )
        column = xr.concat(cells[1:], labels.coordinate("balance", np.array(balances, float)))
        column["std_open"] = cells[0]["std"].assign_attrs(
            long_name="standard deviation of the estimate without feedback"
        )
        for name, value in (("disorder", disorder), ("noise", noise), ("drive", drive)):
            units, long_name = labels.COORDINATES[name]
            column[name] = labels.variable((), value, units, long_name)
        columns.append(column)
    place = labels.coordinate("source", list(sources))
    found = xr.concat(columns, place, data_vars="all", combine_attrs="override")
    found = found.set_coords(["disorder", "noise", "drive"])
    return _named(found, num_units, "Balanced coding: bias and fluctuations over the balance")


def scaling(
    sizes: tuple[int, ...] = (50, 100, 200, 400, 800, 1600),
    laws: tuple[str, ...] = tuple(LAWS),
    noise: float = 0.75,
    drive: float = 0.2,
    num_trials: int = 16,
    num_times: int = 400,
    burn_in: float = 8.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Measure the error over the number of neurons, with the balance fixed, as √N and as N.

    Parameters
    ----------
    sizes
        Numbers of neurons, rising.
    laws
        Of `LAWS`.
    noise, drive
        σ and x; there is no disorder and no delay.
    num_trials, seed
        Trials of each cell, and where their numbers start.
    num_times
        Time measured, in relaxation times 1/(1 + b) of the loop, but at least 20 membrane time
        constants.
    burn_in
        Time before.
    device
        A torch device.
    """
    check_rising(sizes=sizes)
    rows = []
    for law in laws:
        check_choice("laws", law, tuple(LAWS))
        cells = []
        for num_units in sizes:
            balance = LAWS[law](num_units)
            cell = _statistics(
                BalancedNetwork(num_units=num_units, balance=balance, noise=noise),
                drive,
                duration=max(20.0, num_times / (1 + balance)),
                burn_in=burn_in,
                num_matrices=1,
                num_trials=num_trials,
                seed=seed,
                device=device,
            ).squeeze("matrix", drop=True)
            cell["balance"] = labels.variable((), balance, *labels.COORDINATES["balance"])
            cells.append(cell)
        rows.append(xr.concat(cells, labels.coordinate("num_units", list(sizes)), data_vars="all"))
    place = labels.coordinate("law", list(laws))
    found = xr.concat(rows, place, data_vars="all", combine_attrs="override")
    found = found.set_coords("balance")
    for name, value in (("noise", noise), ("drive", drive)):
        found = found.assign_coords({name: labels.variable((), value, *labels.COORDINATES[name])})
    return _named(found, None, "Balanced coding: error over the number of neurons")


def _statistics(
    network: BalancedNetwork,
    drive: float,
    *,
    loop: float = _LOOP,
    duration: float,
    burn_in: float,
    **how: Any,
) -> xr.Dataset:
    """Simulate with a step that fits the balance, and keep bias, fluctuations and error."""
    time_step = min(_LONGEST, loop / max(network.balance, 1e-9))
    with warnings.catch_warnings():
        if loop > _LOOP:
            warnings.filterwarnings(
                "ignore", message="balance=.*above 0.05", category=RuntimeWarning
            )
        # whole numbers of steps
        times = {"duration": duration, "burn_in": burn_in}
        how |= {name: round(value / time_step) * time_step for name, value in times.items()}
        found = balanced_statistics(network, drive, time_step=time_step, **how)
    return found[list(KEPT)].drop_vars([n for n in found.coords if n not in ("matrix", "trial")])


def _named(found: xr.Dataset, num_units: int | None, title: str) -> xr.Dataset:
    """Give a study its attributes, and its number of neurons as a coordinate."""
    if num_units is not None:
        size = labels.variable((), num_units, *labels.COORDINATES["num_units"])
        found = found.assign_coords(num_units=size)
    return found.assign_attrs(labels.provenance(title=title, references="arXiv:2006.14178"))
