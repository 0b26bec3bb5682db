"""Bias, spread and spectrum of balanced networks' estimates, in constant memory."""

import math
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

_MOMENTS = {
    "bias": "mean over time of x - x̂",
    "std": "standard deviation over time of x - x̂",
    "rmse": "root mean square over time of x - x̂",
}


def balanced_statistics(
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
    num_windows: int | None = None,
    segment: float | int | None = None,
    start: Start = "normal",
    chunk: int = 1000,
    dtype: Literal["float32", "float64"] = "float32",
    device: str = "cpu",
) -> xr.Dataset:
    """Simulate balanced networks and return the moments of their error, every step counted.

    The networks, their numbers and all arguments that are not named below are those of
    `simulate_balanced`. Memory does not grow with the duration.

    Parameters
    ----------
    network, signal, duration, time_step, num_trials, num_matrices, seed, burn_in, balance
        See `simulate_balanced`.
    num_windows
        Into how many windows of equal length time is cut, each with moments of its own: 2 tell
        whether the network had settled, more follow a ramp of the balance. None: one, without the
        dim ``time``.
    segment
        Length of the segments of the power spectrum (Hann, half overlapping, their mean taken off),
        in membrane time constants; it resolves angular frequencies 2π/segment apart. None: none.
    start, chunk, dtype, device
        See `simulate_balanced`.

    Returns
    -------
    xarray.Dataset
        ``bias``, ``std``, ``rmse`` (matrix, trial), rmse² = bias² + std²; with windows a last dim
        ``time``, their middles; with several signals a last dim ``signal``; of a list of networks a
        first dim as in `simulate_balanced`. The standard deviation is over time within a trial: how
        the bias differs among realisations is not in it, and a short time makes it too small. With
        `segment` also ``spectrum`` (matrix, trial, angular_frequency) of x̂, two-sided: its
        integral over dω/2π from -∞ to ∞ is the variance.

    Warns
    -----
    RuntimeWarning
        As `simulate_balanced`.

    Raises
    ------
    ValueError
        As `simulate_balanced`; if there are more windows than steps, or a segment is shorter than
        four steps or longer than the duration.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=100, balance=4.0, noise=0.5)
    >>> moments = balanced_statistics(network, 0.2, duration=2.0, time_step=0.01, num_trials=3)
    >>> dict(moments["std"].sizes)
    {'matrix': 1, 'trial': 3}
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    course = course_of(
        network, signal, duration=duration, time_step=time_step, burn_in=burn_in, balance=balance
    )
    windows = 1 if num_windows is None else num_windows
    if not (isinstance(windows, int | np.integer) and 1 <= windows <= course.num_steps):
        raise ValueError(f"num_windows={num_windows!r} must be 1 to {course.num_steps} (steps)")
    check_counts(chunk=chunk)
    spectrum = None if segment is None else Spectrum(_segment_steps(segment, course), time_step)
    batch = batch_of(course, num_trials, num_matrices, seed, start, dtype, device)
    edges = np.round(np.linspace(0, course.num_steps, windows + 1)).astype(int)
    num_signals = course.networks[0].num_signals
    sums = torch.zeros(
        2, windows, *batch.shape, num_signals, dtype=torch.float64, device=batch.potential.device
    )
    balances = np.zeros(windows)
    for first, found in chunks_of(course, batch, chunk):
        last = first + len(found)
        values = torch.as_tensor(course.signal(first, last), device=found.device)
        error = values[:, None, :, None, :] - found
        balance_now = course.balances(first, last)[:, 0]
        for window in np.flatnonzero((edges[:-1] < last) & (edges[1:] > first)):
            part = slice(max(edges[window] - first, 0), edges[window + 1] - first)
            sums[0, window] += error[part].sum(0)
            sums[1, window] += error[part].square().sum(0)
            balances[window] += balance_now[part].sum()
        if spectrum is not None:
            spectrum.add(found)

    counts = np.diff(edges)
    mean, square = sums / torch.as_tensor(counts, device=sums.device)[:, None, None, None, None]
    moments = {"bias": mean, "std": (square - mean**2).clamp(min=0).sqrt(), "rmse": square.sqrt()}
    variables = {
        name: _variable(values, course, "time" if num_windows else None, _MOMENTS[name])
        for name, values in moments.items()
    }
    coordinates = labels_of(course, batch)
    if num_windows:
        middles = (edges[:-1] + edges[1:] - 1) / 2 * course.time_step
        coordinates["time"] = naming.coordinate("time", middles)
        if balance is not None:
            label = naming.COORDINATES["balance"]
            coordinates["balance"] = naming.variable("time", balances / counts, *label)
    if spectrum is not None:
        dim = "angular_frequency"
        variables["spectrum"] = _variable(
            spectrum.mean(), course, dim, "power spectrum of the estimate", "membrane time constant"
        )
        coordinates[dim] = naming.coordinate(dim, spectrum.angular_frequencies())
    return xr.Dataset(
        variables,
        coords=coordinates,
        attrs=attributes_of(
            course, batch, "Errors of balanced networks", dtype, began=began, began_cpu=began_cpu
        ),
    )


class Spectrum:
    """Mean power spectrum of segments (Hann, half overlapping), of a course given in pieces.

    Two-sided: the variance is the integral over dω/2π from -∞ to ∞, for a real course ∫ dω/π over
    positive ω.

    Parameters
    ----------
    num_steps
        Of a segment.
    time_step
        Between two samples.

    Examples
    --------
    >>> spectrum = Spectrum(200, 0.1)
    >>> spectrum.add(torch.sin(torch.arange(1000) * 0.2 * torch.pi))
    >>> round(float(spectrum.angular_frequencies()[spectrum.mean().argmax()] / math.pi), 3)
    2.0
    """

    def __init__(self, num_steps: int, time_step: float | int) -> None:
        self.num_steps, self.time_step = num_steps, float(time_step)
        self.waiting: list[Tensor] = []
        self.total: Tensor | float = 0.0
        self.num_segments = 0

    def add(self, values: Tensor) -> None:
        """Take in the next values (step, …)."""
        self.waiting.append(values)
        if sum(map(len, self.waiting)) < self.num_steps:
            return
        values = torch.cat(self.waiting)
        window = torch.hann_window(self.num_steps, dtype=torch.float64, device=values.device)
        window = (window * math.sqrt(self.time_step / window.square().sum())).view(
            -1, *[1] * (values.ndim - 1)
        )
        while len(values) >= self.num_steps:
            part = values[: self.num_steps].double()
            transformed = torch.fft.rfft(window * (part - part.mean(0)), dim=0)
            self.total = self.total + transformed.abs().square()
            self.num_segments += 1
            values = values[self.num_steps // 2 :]
        self.waiting = [values.clone()]

    def mean(self) -> Tensor:
        """Return the mean spectrum (angular_frequency, …)."""
        return torch.as_tensor(self.total / self.num_segments)

    def angular_frequencies(self) -> np.ndarray:
        """Return ω, in radian per unit of the time step."""
        return 2 * math.pi * np.fft.rfftfreq(self.num_steps, self.time_step)


def _segment_steps(segment: float | int, course: Course) -> int:
    """Return the number of steps of a segment."""
    least, longest = 4 * course.time_step, course.num_steps * course.time_step
    if not least <= segment <= longest * (1 + 1e-9):
        raise ValueError(
            f"segment={segment} must be between four steps ({least:g}) and the duration "
            f"({longest:g})"
        )
    return min(round(segment / course.time_step), course.num_steps)


def _variable(
    values: Tensor, course: Course, dim: str | None, long_name: str, units: str = "1"
) -> xr.Variable:
    """Return (dim, matrix, network, trial, signal) as a variable ([network], matrix, trial, …)."""
    values = values.permute(2, 1, 3, 0, 4)
    dims = [course.dim, "matrix", "trial", str(dim), "signal"]
    if values.shape[-1] == 1:
        values, dims = values[..., 0], dims[:-1]
    if dim is None:
        values, dims = values[:, :, :, 0], [each for each in dims if each != str(dim)]
    if course.is_single:
        values, dims = values[0], dims[1:]
    return naming.variable(dims, values, units, long_name)
