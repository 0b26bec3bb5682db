"""Balanced predictive coding with noise, chaos and delay: estimates in time."""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import neurofb.labels as naming
from neurofb.dynamics.balanced_input import Course, Signal, course_of
from neurofb.dynamics.balanced_run import (
    Start,
    attributes_of,
    batch_of,
    check_counts,
    chunks_of,
    labels_of,
)
from neurofb.dynamics.balanced_settings import BalancedNetwork


def simulate_balanced(
    network: BalancedNetwork | Sequence[BalancedNetwork],
    signal: Signal | Sequence[Signal] = 0.0,
    *,
    duration: float | int,
    time_step: float | int,
    num_trials: int = 1,
    num_matrices: int = 1,
    seed: int = 0,
    burn_in: float | int = 0.0,
    balance: Signal | None = None,
    record_every: int = 1,
    keep_units: int = 0,
    start: Start = "normal",
    chunk: int = 1000,
    dtype: Literal["float32", "float64"] = "float32",
    device: str = "cpu",
) -> xr.Dataset:
    """Simulate balanced networks and return their estimates of the signal in time.

    All networks, realisations and trials step together; with disorder all trials of a realisation
    are one matrix product. See `BalancedNetwork` for the equations,
    `neurofb.dynamics.balanced_batch.BalancedBatch` for the step. `balanced_statistics` keeps no
    course in time, only its moments.

    **Same numbers.** Noise and start belong to (seed, matrix, trial), weights to (seed, matrix);
    networks of one call share them. `chunk`, `record_every`, `keep_units` and a longer duration
    change no bit. Other trials, matrices or networks in the batch, and the dtype, change rounding
    only; in chaos and beyond the onset of oscillations rounding grows, so that there only
    statistics agree. Another kind of device draws other noise.

    Parameters
    ----------
    network
        One, or several that differ in balance, disorder, noise or delay only.
    signal
        x, for all networks or as a list with one for each: a number; an array (step,), for K
        signals (step, signal), of a value for each recorded step, the first of which holds in the
        burn-in; or a function of the time in membrane time constants (negative in the burn-in) that
        returns a number or K of them.
    duration, time_step, burn_in
        Time that is recorded, dt, and time before that; in membrane time constants.
    num_trials, num_matrices, seed
        Trials (noise, start) of each realisation (J, w), realisations, and their seed.
    balance
        In the place of the networks' own balance: a function of the time, or an array (step,).
    record_every
        Steps between two records.
    keep_units
        Of how many units h and φ(h) are kept.
    start
        h at the start of the burn-in: ``"normal"``, N(0, 1); ``"zero"``; or an array that is
        broadcast to (matrix, network, trial, unit).
    chunk
        Steps computed at once; decides on memory alone.
    dtype, device
        Of the computation.

    Returns
    -------
    xarray.Dataset
        ``estimate`` x̂ (matrix, trial, time), ``input_signal`` x (time); with several signals a last
        dim ``signal``. Of a list of networks a first dim: ``balance``, ``disorder``, ``noise``,
        ``delay`` or ``drive``, if they differ in that alone, otherwise ``condition`` with these as
        its coordinates; a drive of NaN moves in time. With `keep_units` also ``potential`` h and
        ``activity`` φ(h) (…, time, unit). Time 0 is the end of the burn-in.

    Warns
    -----
    RuntimeWarning
        If time_step · balance · (`BalancedNetwork.largest_loop_gain`) is above 0.05: a delay of
        time_step/2 more. If a duration or burn-in is no whole number of steps (it is rounded).

    Raises
    ------
    ValueError
        If an argument is out of range, a delay is no whole number of steps, time_step · balance ·
        gain is above 1, networks differ in more than they may, or h is no longer finite.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=100, balance=4.0, noise=0.5)
    >>> result = simulate_balanced(network, 0.2, duration=2.0, time_step=0.01, num_trials=3)
    >>> dict(result.estimate.sizes)
    {'matrix': 1, 'trial': 3, 'time': 200}
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    check_counts(record_every=record_every, chunk=chunk)
    course = course_of(
        network, signal, duration=duration, time_step=time_step, burn_in=burn_in, balance=balance
    )
    num_units = course.networks[0].num_units
    if not (isinstance(keep_units, int | np.integer) and 0 <= keep_units <= num_units):
        raise ValueError(f"keep_units={keep_units!r} must be 0 to num_units={num_units}")
    batch = batch_of(course, num_trials, num_matrices, seed, start, dtype, device)
    num_records = -(-course.num_steps // record_every)
    num_signals = course.networks[0].num_signals
    estimates = torch.empty(num_records, *batch.shape, num_signals, dtype=getattr(torch, dtype))
    kept = torch.empty(num_records, *batch.shape, keep_units, dtype=getattr(torch, dtype))
    chunk = max(1, chunk // record_every) * record_every
    for first, found in chunks_of(course, batch, chunk, kept if keep_units else None, record_every):
        records = found[::record_every]
        estimates[first // record_every :][: len(records)] = records

    along = (*([] if course.is_single else [course.dim]), "matrix", "trial", "time")
    is_many = num_signals > 1
    variables = {
        "estimate": naming.variable(
            (*along, *["signal"] * is_many), _ordered(estimates, course, is_many), "1", "estimate x̂"
        ),
        "input_signal": _input_signal(course, record_every),
    }
    if keep_units:
        potential = _ordered(kept, course, True)
        rates = course.networks[0].rates(potential)
        dims = (*along, "unit")
        variables["potential"] = naming.variable(dims, potential, "1", "membrane potential h")
        variables["activity"] = naming.variable(dims, rates, "1", "rate φ(h)")
    coordinates = labels_of(course, batch)
    coordinates["time"] = naming.coordinate(
        "time", course.times(0, course.num_steps)[::record_every]
    )
    if balance is not None:
        values = course.balances(0, course.num_steps)[::record_every, 0]
        coordinates["balance"] = naming.variable("time", values, *naming.COORDINATES["balance"])
    return xr.Dataset(
        variables,
        coords=coordinates,
        attrs=attributes_of(
            course, batch, "Balanced networks in time", dtype, began=began, began_cpu=began_cpu
        ),
    )


def _ordered(values: Tensor, course: Course, keeps_last: bool) -> Tensor:
    """Return (time, matrix, network, trial, last) as (network, matrix, trial, time, last)."""
    values = values.permute(2, 1, 3, 0, 4).contiguous()
    values = values if keeps_last else values[..., 0]
    return values[0] if course.is_single else values


def _input_signal(course: Course, record_every: int) -> xr.Variable:
    """Return x in time, per network where they differ in it."""
    values = course.signal(0, course.num_steps)[::record_every].transpose(1, 0, 2)
    dims = [course.dim, "time", "signal"]
    if values.shape[-1] == 1:
        values, dims = values[..., 0], dims[:2]
    if course.is_single or not {"drive", "signal"} & set(course.varied):
        values, dims = values[0], dims[1:]
    return naming.variable(dims, values, "1", "input signal x")
