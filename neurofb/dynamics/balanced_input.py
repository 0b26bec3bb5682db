"""What drives balanced networks in time, which networks share a batch, and what is refused."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
import xarray as xr

import neurofb.labels as naming
from neurofb.dynamics.balanced_settings import BalancedNetwork

#: A constant, one value per step (step,) or (step, signal), or a function of the time.
Signal = float | int | np.ndarray | Callable[[float], Any]
#: What networks of one batch may differ in.
VARIED = ("balance", "disorder", "noise", "delay")

_LARGEST_QUIET_LOOP = 0.05
#: Steps of a balance in time that are looked at together.
_CHECKED = 1000


@dataclass(frozen=True)
class Course:
    """What a batch is driven by: its networks, their signals and balances, and the time.

    Parameters
    ----------
    networks, signals
        One signal per network.
    balance
        Of all networks as a function of time, or None: each has its own.
    time_step
        dt.
    num_steps, num_burn_in
        Steps that are recorded, and steps before time 0.
    is_single
        Whether one network was given, and not a list.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=10, balance=2.0)
    >>> course_of(network, 0.2, duration=1.0, time_step=0.01).signal(0, 5).shape
    (5, 1, 1)
    """

    networks: tuple[BalancedNetwork, ...]
    signals: tuple[Signal, ...]
    balance: Signal | None
    time_step: float | int
    num_steps: int
    num_burn_in: int
    is_single: bool

    def times(self, first: int, last: int) -> np.ndarray:
        """Return the times of steps first to last - 1; step 0 is at time 0, burn-in is before."""
        return np.arange(first, last) * float(self.time_step)

    def signal(self, first: int, last: int) -> np.ndarray:
        """Return x (step, network, signal) of steps first to last - 1."""
        num_signals = self.networks[0].num_signals
        found: dict[int, np.ndarray] = {}
        for signal in self.signals:
            if id(signal) not in found:
                values = self._values("signal", signal, first, last, num_signals)
                found[id(signal)] = values
        return np.stack([found[id(signal)] for signal in self.signals], axis=1)

    def balances(self, first: int, last: int) -> np.ndarray:
        """Return b (step, network) of steps first to last - 1."""
        if self.balance is None:
            own = np.array([float(network.balance) for network in self.networks])
            return np.broadcast_to(own, (last - first, len(own)))
        values = self._values("balance", self.balance, first, last, 1)
        if not np.all(values >= 0):
            raise ValueError(f"balance reaches {values.min():g}; it must be at least 0 at any time")
        return np.broadcast_to(values, (last - first, len(self.networks)))

    def _values(self, name: str, given: Signal, first: int, last: int, width: int) -> np.ndarray:
        """Return a constant, array or function as numbers (step, width)."""
        if callable(given):
            values = [given(float(t)) for t in self.times(first, last)]
            table = np.asarray(values, dtype=float).reshape(last - first, -1)
            if table.shape[1] not in (1, width):
                raise ValueError(
                    f"{name} as a function returns {table.shape[1]} numbers; allowed: 1 or {width}"
                )
            table = np.broadcast_to(table, (last - first, width))
        else:
            table = np.asarray(given, dtype=float)
            if table.ndim == 0:
                table = np.broadcast_to(table, (last - first, width))
            else:
                table = table.reshape(len(table), -1)
                allowed = (self.num_steps,) if width == 1 else (self.num_steps, width)
                if table.shape != (self.num_steps, width):
                    raise ValueError(
                        f"{name} of shape {np.shape(given)} must be a number, a function of time, "
                        f"or an array of shape {allowed}: a value for each recorded step"
                    )
                table = table[np.arange(first, last).clip(0)]
        if not np.isfinite(table).all():
            worst = first + int(np.argmax(~np.isfinite(table).all(axis=1)))
            raise ValueError(
                f"{name} is not finite at time {worst * self.time_step:g} (step {worst}; the "
                "burn-in is before step 0)"
            )
        return table

    @property
    def varied(self) -> list[str]:
        """Return what the networks differ in: fields, and ``drive`` for constant signals."""
        if self.is_single:
            return []
        fields = [name for name in VARIED if not (name == "balance" and self.balance is not None)]
        varied = [name for name in fields if len({getattr(n, name) for n in self.networks}) > 1]
        if len({id(s) if isinstance(s, np.ndarray) else s for s in self.signals}) > 1:
            varied.append("drive" if self.has_constant_drive else "signal")
        return varied

    @property
    def has_constant_drive(self) -> bool:
        """Return whether all signals are plain numbers."""
        return all(_is_number(signal) for signal in self.signals)

    @property
    def dim(self) -> str:
        """Return the dim of the networks: what alone they differ in, otherwise ``condition``."""
        if len(self.varied) == 1 and self.varied[0] != "signal":
            values = self._column(self.varied[0])
            if len(set(values)) == len(values):
                return self.varied[0]
        return "condition"

    def coordinates(self) -> dict[str, xr.Variable]:
        """Return balance, disorder, noise, delay and drive (NaN: it moves), all labelled."""
        names = [name for name in VARIED if not (name == "balance" and self.balance is not None)]
        made, varied = {}, {*self.varied, self.dim}
        if "signal" in varied:
            varied.add("drive")
        for name in (*names, "drive"):
            values = self._column(name)
            units, long_name = naming.COORDINATES[name]
            single = self.is_single or name not in varied
            dims = () if single else (self.dim,)
            made[name] = naming.variable(dims, values[0] if single else values, units, long_name)
        if not self.is_single and self.dim == "condition":
            made["condition"] = naming.coordinate("condition", np.arange(len(self.networks)))
        return made

    def _column(self, name: str) -> list[float]:
        """Return a parameter of every network."""
        if name == "drive":
            return [float(x) if _is_number(x) else math.nan for x in self.signals]
        return [float(getattr(each, name)) for each in self.networks]


def _is_number(signal: Signal) -> TypeGuard[float]:
    """Return whether a signal is a plain number."""
    return isinstance(signal, float | int | np.number)


def course_of(
    network: BalancedNetwork | Sequence[BalancedNetwork],
    signal: Signal | Sequence[Signal],
    *,
    duration: float | int,
    time_step: float | int,
    burn_in: float | int = 0.0,
    balance: Signal | None = None,
) -> Course:
    """Check what was given to a simulation, and return it as a `Course`.

    Warns
    -----
    RuntimeWarning
        If balance · gain · time_step, which delays the feedback by time_step/2, is above 0.05; if
        a duration or burn-in is no whole number of steps (it is rounded to one).

    Raises
    ------
    ValueError
        If networks do not fit together, a time is out of range, a delay is no whole number of
        steps, or balance · gain · time_step is above 1.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=10, balance=2.0, delay=0.1)
    >>> course_of(network, 0.2, duration=1.0, time_step=0.02, burn_in=1.0).num_burn_in
    50
    """
    is_single = isinstance(network, BalancedNetwork)
    networks = (network,) if isinstance(network, BalancedNetwork) else _listed(network)
    if not networks:
        raise ValueError("network=() must name at least one network")
    for name in ("num_units", "readout", "num_signals", "nonlinearity"):
        values = [getattr(each, name) for each in networks]
        if any(value != values[0] for value in values):
            raise ValueError(f"{name}={values} must be the same in all networks of a simulation")
    signals: Any = signal if isinstance(signal, list | tuple) else (signal,) * len(networks)
    if len(signals) != len(networks):
        raise ValueError(
            f"signal lists {len(signals)} signals for {len(networks)} networks; allowed: one for "
            "all, or a list with one for each"
        )
    for name, value in (("time_step", time_step), ("duration", duration), ("burn_in", burn_in)):
        if not isinstance(value, int | float | np.number):
            raise ValueError(f"{name}={value!r} must be a number, in membrane time constants")
    if not 0 < time_step < math.inf:
        raise ValueError(f"time_step={time_step} must be positive and finite")
    if not time_step <= duration < math.inf:
        raise ValueError(f"duration={duration} must be finite and at least time_step={time_step}")
    if not 0 <= burn_in < math.inf:
        raise ValueError(f"burn_in={burn_in} must be finite and at least 0")
    for each in networks:
        _check_delay(float(each.delay), float(time_step))
    for name, value in (("duration", duration), ("burn_in", burn_in)):
        steps = float(value) / float(time_step)
        if abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
            warnings.warn(
                f"{name}={value:g} is not a whole number of steps of time_step={time_step:g}; "
                f"taken: the nearest, {name}={round(steps) * time_step:g} ({round(steps)} steps)",
                RuntimeWarning,
                stacklevel=3,
            )
    num_steps, num_burn_in = round(duration / time_step), round(burn_in / time_step)
    course = Course(networks, tuple(signals), balance, time_step, num_steps, num_burn_in, is_single)
    _check_loop(course)
    return course


def check_rising(**lists: Sequence[float | int]) -> None:
    """Refuse lists of a study that do not rise, or are empty, negative or not finite.

    Raises
    ------
    ValueError
        With the name and what was given.

    Examples
    --------
    >>> check_rising(balances=(1.0, 3.0))
    >>> check_rising(balances=(3.0, 1.0))
    Traceback (most recent call last):
    ValueError: balances=(3.0, 1.0) must be finite numbers from 0 on, rising, at least one
    """
    for name, values in lists.items():
        numbers = all(isinstance(v, int | float | np.number) and 0 <= v < math.inf for v in values)
        if not (numbers and values and all(a < b for a, b in pairwise(values))):
            raise ValueError(
                f"{name}={values} must be finite numbers from 0 on, rising, at least one"
            )


def _listed(network: Any) -> tuple[BalancedNetwork, ...]:
    """Return networks that were given as a list; refuse what is none."""
    networks = tuple(network) if isinstance(network, Iterable) else (network,)
    wrong = [each for each in networks if not isinstance(each, BalancedNetwork)]
    if wrong:
        raise ValueError(
            f"network={network!r} has {wrong[0]!r}; allowed: a BalancedNetwork, or a list of them"
        )
    return networks


def _check_delay(delay: float, time_step: float) -> None:
    """Refuse a delay that is no whole number of steps."""
    steps = delay / time_step
    if abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
        nearest = max(1, round(steps))
        raise ValueError(
            f"delay={delay:g} is not a whole number of steps of time_step={time_step:g}; nearest: "
            f"delay={nearest * time_step:g} ({nearest} steps), or time_step={delay / nearest:g}"
        )


def _check_loop(course: Course) -> None:
    """Warn where holding the feedback for a step matters, refuse where it is unstable."""
    if course.balance is None:
        largest = max(float(network.balance) for network in course.networks)
    else:
        edges = [*range(-course.num_burn_in, course.num_steps, _CHECKED), course.num_steps]
        largest = max(float(course.balances(*pair).max()) for pair in pairwise(edges))
    step, gain = float(course.time_step), course.networks[0].largest_loop_gain
    loop = largest * gain * step
    words = f"balance={largest:g} times a gain of {gain:.3g} times time_step={step:g} is {loop:.3g}"
    if loop > 1:
        raise ValueError(
            f"{words}; above 1 the step is unstable or close to it: allowed time_step up to "
            f"{1 / (largest * gain):.3g}, better {_LARGEST_QUIET_LOOP / (largest * gain):.3g}"
        )
    if loop > _LARGEST_QUIET_LOOP * (1 + 1e-9):
        warnings.warn(
            f"{words}, above {_LARGEST_QUIET_LOOP}: feedback held for a step acts as a delay of "
            f"{step / 2:g} more; time_step={_LARGEST_QUIET_LOOP / (largest * gain):.3g} is small "
            "enough",
            RuntimeWarning,
            stacklevel=4,
        )
