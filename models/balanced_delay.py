"""Balanced coding with a delay of the feedback: oscillations, noise, hysteresis, moving signals.

The commands are in models/balanced_coding.py, the page is docs/balanced_coding.md.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice, check_same_length
from neurofb.dynamics import BalancedNetwork, balanced_statistics, simulate_balanced
from neurofb.dynamics.balanced_input import check_rising
from neurofb.measures import oscillation_frequency

#: where fluctuations come from: (disorder g, noise sigma)
SOURCES = {"noise": (0.0, 0.75), "chaos": (2.5, 0.0)}
#: largest balance × time step: the feedback is held for a step, which acts as a delay of half of it
_LOOP = 0.025
_BALANCES = tuple(float(b) for b in np.geomspace(1, 60, 25).round(2))


def delay_phase(
    delays: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0),
    balances: tuple[float, ...] = _BALANCES,
    noise: float = 0.75,
    num_units: int = 1400,
    num_trials: int = 4,
    duration: float = 30.0,
    burn_in: float = 20.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Measure fluctuations and the frequency of oscillations over delay and balance.

    The input is zero, there is no disorder; trials of different delays share their noise.

    Parameters
    ----------
    delays
        Whole multiples of the first.
    balances
        Rising.
    noise, num_units, num_trials, seed
        σ, N, trials of each cell, and where their numbers start.
    duration, burn_in
        Time measured (at b below 30 longer by 30/b, at most four times: fluctuations then are
        slower) and time before.
    device
        A torch device.
    """
    check_rising(balances=balances)
    cells: list[xr.Dataset] = []
    for balance in balances:
        time_step = _time_step(balance, delays[0])
        every = max(1, round(min(delays) / 4 / time_step))
        networks = [
            BalancedNetwork(num_units=num_units, balance=balance, noise=noise, delay=delay)
            for delay in delays
        ]
        run = simulate_balanced(
            networks,
            duration=_whole(duration * min(max(1.0, 30 / balance), 4.0), time_step),
            burn_in=_whole(burn_in, time_step),
            time_step=time_step,
            record_every=every,
            num_trials=num_trials,
            seed=seed,
            device=device,
        )
        run = run.squeeze("matrix", drop=True)
        if len(delays) == 1:
            run = run.drop_vars("delay").rename(condition="delay")
        run = run.assign_coords(delay=labels.coordinate("delay", list(delays)))
        estimate = run["estimate"]
        text = "standard deviation of the estimate in time"
        cell = xr.Dataset({"std": estimate.std("time").assign_attrs(units="1", long_name=text)})
        cell["frequency"] = oscillation_frequency(estimate)
        kept = ("delay", "trial")
        cells.append(cell.drop_vars([name for name in cell.coords if name not in kept]))
    found = xr.concat(cells, labels.coordinate("balance", list(balances)), data_vars="all")
    return _named(found, "Balanced coding: delay and balance", noise=noise, num_units=num_units)


def noise_stabilises(
    noises: tuple[float, ...] = (
        0.1,
        0.25,
        0.5,
        0.6,
        0.65,
        0.7,
        0.75,
        0.85,
        1.0,
        1.25,
        1.5,
        2.0,
        3.0,
    ),
    balance: float = 20.0,
    delay: float = 0.1,
    drive: float = 0.2,
    num_units: int = 1400,
    num_trials: int = 6,
    duration: float = 100.0,
    burn_in: float = 20.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Measure the error of a delayed network over the noise of its neurons.

    Parameters
    ----------
    noises
        σ, rising; trials share their random numbers.
    balance, delay, drive, num_units
        b, d, x and N of all.
    num_trials, seed
        Trials of each, and where their numbers start.
    duration, burn_in
        Time measured and time before.
    device
        A torch device.
    """
    check_rising(noises=noises)
    networks = [
        BalancedNetwork(num_units=num_units, balance=balance, noise=noise, delay=delay)
        for noise in noises
    ]
    time_step = _time_step(balance, delay)
    found = balanced_statistics(
        *(networks, drive),
        duration=_whole(duration, time_step),
        burn_in=_whole(burn_in, time_step),
        time_step=time_step,
        num_trials=num_trials,
        seed=seed,
        device=device,
    )
    found = found[["bias", "std", "rmse"]].squeeze("matrix", drop=True)
    known = {"balance": balance, "delay": delay, "drive": drive, "num_units": num_units}
    return _named(found, "Balanced coding: noise stabilises a delayed loop", **known)


def hysteresis(
    sources: tuple[str, ...] = tuple(SOURCES),
    balances: tuple[float, ...] = tuple(float(b) for b in range(14, 50, 2)),
    delay: float = 0.1,
    num_units: int = 1000,
    num_matrices: int = 2,
    num_trials: int = 4,
    hold: float = 6.0,
    burn_in: float = 30.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Move the balance of delayed networks up in steps and down again, and measure fluctuations.

    Parameters
    ----------
    sources
        Of `SOURCES`; the input is zero.
    balances
        The steps, rising.
    delay, num_units, num_matrices, num_trials, seed
        d, N, realisations of the weights, trials of each, and where their numbers start.
    hold
        Time on each step; the first half is left out.
    burn_in
        Time at the first step before.
    device
        A torch device.
    """
    check_rising(balances=balances)
    columns = []
    for source in sources:
        check_choice("sources", source, tuple(SOURCES))
        disorder, noise = SOURCES[source]
        # chaos, slow and costly, with longer steps: they add 1 % to the delay
        time_step = _time_step(max(balances), delay, 0.1 if disorder else _LOOP)
        levels = np.concatenate([balances, balances[::-1]])
        course = np.repeat(levels, round(hold / time_step))
        network = BalancedNetwork(
            num_units=num_units, balance=balances[0], disorder=disorder, noise=noise, delay=delay
        )
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="balance=.*above 0.05", category=RuntimeWarning
            )
            run = balanced_statistics(
                network,
                balance=course,
                duration=len(course) * time_step,
                burn_in=_whole(burn_in, time_step),
                time_step=time_step,
                num_windows=2 * len(levels),
                num_matrices=num_matrices,
                num_trials=num_trials,
                seed=seed,
                device=device,
            )
        settled = run["std"].values[..., 1::2].reshape(num_matrices, num_trials, 2, -1)
        settled[:, :, 1] = settled[:, :, 1, ::-1].copy()
        columns.append(settled.transpose(2, 3, 0, 1))
    dims = ("source", "ramp", "balance", "matrix", "trial")
    text = "standard deviation of the estimate in time"
    found = xr.Dataset({"std": labels.variable(dims, np.stack(columns), "1", text)})
    places = (list(sources), ["up", "down"], list(balances), range(num_matrices), range(num_trials))
    for dim, values in zip(dims, places, strict=True):
        found = found.assign_coords({dim: labels.coordinate(dim, list(values))})
    for number, name in enumerate(("disorder", "noise")):
        values = [SOURCES[source][number] for source in sources]
        units, long_name = labels.COORDINATES[name]
        found = found.assign_coords({name: labels.variable("source", values, units, long_name)})
    title = "Balanced coding: the balance moved up and down"
    return _named(found, title, delay=delay, num_units=num_units)


def tracking(
    balances: tuple[float, ...] = (3.0, 10.0, 30.0, 10.0, 15.0),
    delays: tuple[float, ...] = (0.0, 0.0, 0.0, 0.1, 0.1),
    cycles: tuple[int, ...] = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128),
    amplitude: float = 0.1,
    noise: float = 0.75,
    num_units: int = 1400,
    num_trials: int = 4,
    duration: float = 40.0,
    burn_in: float = 10.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Let networks follow sinusoids, and measure what part of them arrives in the estimate.

    Parameters
    ----------
    balances, delays
        A condition each pair.
    cycles
        Periods of the sinusoids within the duration, rising.
    amplitude
        Of the sinusoids; the theory is that of small ones.
    noise, num_units, num_trials, seed
        σ, N, trials of each, and where their numbers start.
    duration, burn_in
        Time measured and time before.
    device
        A torch device.
    """
    check_same_length(balances=balances, delays=delays)
    check_rising(cycles=cycles)
    rates = 2 * math.pi * np.array(cycles) / duration
    rows = []
    for balance, delay in zip(balances, delays, strict=True):
        network = BalancedNetwork(num_units=num_units, balance=balance, noise=noise, delay=delay)
        longest = min(_LOOP / max(balance, rates[-1]), duration)
        time_step = _time_step(_LOOP / longest, delay or duration)
        run = simulate_balanced(
            *([network] * len(rates), [_sinusoid(amplitude, rate) for rate in rates]),
            duration=_whole(duration, time_step),
            burn_in=_whole(burn_in, time_step),
            time_step=time_step,
            num_trials=num_trials,
            seed=seed,
            device=device,
        )
        estimate = run["estimate"].isel(matrix=0).values  # (frequency, trial, time)
        waves = np.exp(-1j * rates[:, None] * run["time"].values)
        rows.append(2j / amplitude * np.einsum("ftn,fn->ft", estimate, waves) / waves.shape[1])
    response = np.stack(rows)
    dims = ("condition", "angular_frequency", "trial")
    found = xr.Dataset()
    for name, values, text in (
        ("response", abs(response), "amplitude of the estimate over that of the signal"),
        ("tracking_error", abs(1 - response), "amplitude of the error over that of the signal"),
    ):
        found[name] = labels.variable(dims, values, "1", text)
    names = [f"b = {b:g}, d = {d:g}" for b, d in zip(balances, delays, strict=True)]
    places = (names, rates, list(range(num_trials)))
    for dim, values in zip(dims, places, strict=True):
        found = found.assign_coords({dim: labels.coordinate(dim, values)})
    for name, values in (("balance", balances), ("delay", delays)):
        units, long_name = labels.COORDINATES[name]
        variable = labels.variable("condition", list(values), units, long_name)
        found = found.assign_coords({name: variable})
    title = "Balanced coding: signals that move"
    return _named(found, title, noise=noise, num_units=num_units)


def _sinusoid(amplitude: float, rate: float) -> Callable[[float], Any]:
    """Return a sinusoid in time."""
    return lambda time: amplitude * math.sin(rate * time)


def _time_step(balance: float, delay: float, loop: float = _LOOP) -> float:
    """Return the longest step that fits the balance and divides the delay."""
    return delay / math.ceil(delay * balance / loop * (1 - 1e-9))


def _whole(time: float, time_step: float) -> float:
    """Return the time of the nearest whole number of steps."""
    return round(time / time_step) * time_step


def _named(found: xr.Dataset, title: str, **known: float) -> xr.Dataset:
    """Give a study its attributes, and what all its cells share as coordinates."""
    for name, value in known.items():
        units, long_name = labels.COORDINATES[name]
        found = found.assign_coords({name: labels.variable((), value, units, long_name)})
    return found.assign_attrs(labels.provenance(title=title, references="arXiv:2006.14178"))
