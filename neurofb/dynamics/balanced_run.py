"""A run of balanced networks: the batch at its start, chunk by chunk, and its labels."""

import json
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import neurofb.labels as naming
from neurofb.choices import check_choice
from neurofb.dynamics.balanced_batch import BalancedBatch
from neurofb.dynamics.balanced_input import Course

Start = Literal["normal", "zero"] | np.ndarray | Tensor


def batch_of(
    course: Course,
    num_trials: int,
    num_matrices: int,
    seed: int,
    start: Start,
    dtype: str,
    device: str,
) -> BalancedBatch:
    """Check counts and words, and return the batch at its start.

    Examples
    --------
    >>> from neurofb.dynamics import BalancedNetwork
    >>> from neurofb.dynamics.balanced_input import course_of
    >>> course = course_of(
    ...     BalancedNetwork(num_units=10, balance=2.0), 0.2, duration=1.0, time_step=0.01
    ... )
    >>> batch_of(course, 3, 2, 0, "zero", "float32", "cpu").potential.shape
    torch.Size([2, 1, 3, 10])
    """
    check_counts(num_trials=num_trials, num_matrices=num_matrices)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 on")
    check_choice("dtype", dtype, ("float32", "float64"))
    if isinstance(start, str):
        check_choice("start", start, ("normal", "zero"))
    _check_device(device)
    return BalancedBatch(
        course.networks,
        time_step=course.time_step,
        num_trials=num_trials,
        num_matrices=num_matrices,
        seed=int(seed),
        start=start,
        dtype=getattr(torch, dtype),
        device=device,
    )


def chunks_of(
    course: Course,
    batch: BalancedBatch,
    chunk: int,
    kept: Tensor | None = None,
    record_every: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """Run the burn-in, then give the first step of each chunk and the estimates in it.

    With `kept` (record, matrix, network, trial, unit), h of the first units at every
    `record_every`-th step is written there.

    Examples
    --------
    >>> from neurofb.dynamics import BalancedNetwork
    >>> from neurofb.dynamics.balanced_input import course_of
    >>> network = BalancedNetwork(num_units=10, balance=2.0)
    >>> course = course_of(network, 0.2, duration=0.05, time_step=0.01)
    >>> batch = batch_of(course, 3, 2, 0, "zero", "float32", "cpu")
    >>> [(first, tuple(found.shape)) for first, found in chunks_of(course, batch, 3)]
    [(0, (3, 2, 1, 3, 1)), (3, (2, 2, 1, 3, 1))]
    """
    for begin, end in ((-course.num_burn_in, 0), (0, course.num_steps)):
        for first in range(begin, end, chunk):
            last = min(first + chunk, end)
            part = None if kept is None or first < 0 else kept[first // record_every :]
            found = batch.advance(
                course.signal(first, last), course.balances(first, last), part, record_every
            )
            if not found[-1].isfinite().all():
                raise ValueError(
                    f"the estimate is not finite by time {last * course.time_step:g}: the network "
                    "is unstable; allowed: a bounded nonlinearity, or less disorder or delay"
                )
            if first >= 0:
                yield first, found


def labels_of(course: Course, batch: BalancedBatch) -> dict[str, Any]:
    """Return the coordinates that courses in time and their moments share.

    Examples
    --------
    >>> from neurofb.dynamics import BalancedNetwork
    >>> from neurofb.dynamics.balanced_input import course_of
    >>> network = BalancedNetwork(num_units=10, balance=2.0)
    >>> course = course_of(network, 0.2, duration=0.05, time_step=0.01)
    >>> list(labels_of(course, batch_of(course, 3, 2, 0, "zero", "float32", "cpu")))[:6]
    ['balance', 'disorder', 'noise', 'delay', 'drive', 'num_units']
    """
    num_matrices, _, num_trials = batch.shape
    first = course.networks[0]
    num_units = naming.variable((), first.num_units, *naming.COORDINATES["num_units"])
    many = first.num_signals
    kinds = {
        "nonlinearity": (first.nonlinearity_name, "nonlinearity φ of the neurons"),
        "readout": (first.readout, "distribution of the readout weights w"),
        "num_signals": (many, "signals that are coded at once"),
    }
    return {
        **course.coordinates(),
        "num_units": num_units,
        **{name: naming.variable((), value, "1", text) for name, (value, text) in kinds.items()},
        "matrix": naming.coordinate("matrix", np.arange(num_matrices)),
        "trial": naming.coordinate("trial", np.arange(num_trials)),
        **({"signal": naming.coordinate("signal", np.arange(many))} if many > 1 else {}),
    }


def attributes_of(
    course: Course, batch: BalancedBatch, title: str, dtype: str, *, began: float, began_cpu: float
) -> dict[str, Any]:
    """Return provenance with all settings, and how long it took since `began` (seconds).

    Examples
    --------
    >>> from neurofb.dynamics import BalancedNetwork
    >>> from neurofb.dynamics.balanced_input import course_of
    >>> network = BalancedNetwork(num_units=10, balance=2.0)
    >>> course = course_of(network, 0.2, duration=0.05, time_step=0.01)
    >>> batch = batch_of(course, 3, 2, 0, "zero", "float32", "cpu")
    >>> attributes_of(course, batch, "Title", "float32", began=0.0, began_cpu=0.0)["title"]
    'Title'
    """
    config = {
        "networks": [network.settings() for network in course.networks],
        "time_step": course.time_step,
        "duration": course.num_steps * course.time_step,
        "burn_in": course.num_burn_in * course.time_step,
        "dtype": dtype,
    }
    return naming.provenance(
        title=title,
        config=json.dumps(config, default=lambda number: number.item()),
        seed=batch.seed,
        device=str(batch.potential.device),
        references="arXiv:2006.14178",
        wall_seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - began_cpu,
    )


def check_counts(**counts: int) -> None:
    """Refuse what is no whole number from 1 on.

    Examples
    --------
    >>> check_counts(num_trials=3)
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name}={count!r} must be at least 1, and whole")


def _check_device(name: str) -> None:
    """Refuse a device that torch does not know or that is not here."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        here = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
        raise ValueError(
            f"device={name!r} is not available; here: {', '.join(['cpu', *here])}"
        ) from error
