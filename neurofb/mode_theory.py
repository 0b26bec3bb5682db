"""What theory says of a simulation of linear networks: the modes' equations from the same start."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.dynamics import (
    LinearCondition,
    LinearStart,
    LinearTask,
    LinearTraining,
    initial_weights,
)
from neurofb.theory import in_mode_frame, integrate_modes

#: names of rates that theory and simulation share
RATES = ("learning_rate", "feedback_rate", "feedback_decay", "weight_decay")


def mode_theory(
    task: LinearTask,
    conditions: Sequence[LinearCondition],
    training: LinearTraining = LinearTraining(),
    *,
    starts: Sequence[LinearStart] | None = None,
) -> xr.DataArray:
    """Return the shares of modes that theory expects of a simulation, to lay over its own.

    `neurofb.theory.integrate_modes` from the very weights of each condition, at its rates and with
    the task's modes. It leaves out the covariance of the inputs, for which theory has 1, and the
    training's `gradient_clip`.

    Parameters
    ----------
    task, conditions, training, starts
        As given to `neurofb.dynamics.simulate_linear`.

    Returns
    -------
    xr.DataArray
        ``overlap_theory`` (condition, seed, step, mode), dims and coordinates those of the
        simulation's ``overlap``. NaN for conditions with `normalise`, of which there is no theory,
        and from where a number is not finite.

    Raises
    ------
    ValueError
        If the network has more than one hidden layer, there is no condition, two have the same
        name, a rank is impossible, or `starts` do not fit.

    Examples
    --------
    >>> from neurofb.dynamics import random_task, simulate_linear
    >>> task = random_task(8, 6, 3, num_samples=None, seeds=(0, 1))
    >>> conditions = [LinearCondition(rule="BP"), LinearCondition(rule="LDFA fixed P", rank=1)]
    >>> training = LinearTraining(hidden=(8,), num_steps=100)
    >>> theory = mode_theory(task, conditions, training)
    >>> dict(theory.sizes)
    {'condition': 2, 'seed': 2, 'step': 11, 'mode': 3}
    >>> found = simulate_linear(task, conditions, training)
    >>> bool(abs(found["overlap"] - theory).max() < 1e-10)
    True
    """
    if len(training.hidden) != 1:
        raise ValueError(f"hidden={training.hidden} must be one layer, for which theory is")
    names = [condition.name for condition in conditions]
    if not conditions or len(set(names)) < len(names):
        raise ValueError(f"conditions must be at least one and have different names, not {names}")
    starts = initial_weights(task, conditions, training) if starts is None else starts
    if len(starts) != len(names):
        raise ValueError(f"starts must be one a condition, {len(names)}, not {len(starts)}")
    strengths = task.modes()[1].cpu().numpy()
    curves, steps = [], np.array([])
    for condition, start in zip(conditions, starts, strict=True):
        rates = {name: condition.rate(name, training) for name in RATES}
        how = {"num_steps": training.num_steps, "record_every": training.record_every}
        frame = mode_frame(task, start)
        share, steps = integrate_modes(frame, strengths, condition.rule, **rates, **how)
        curves.append(np.where(condition.normalise, np.nan, share))
    along = {
        "condition": names,
        "seed": list(task.seeds),
        "step": steps,
        "mode": np.arange(1, strengths.shape[1] + 1),
    }
    return xr.DataArray(
        labels.variable(
            tuple(along), np.stack(curves), "1", "share of the mode learned, in theory"
        ),
        {name: labels.coordinate(name, values) for name, values in along.items()},
        name="overlap_theory",
    )


def mode_frame(task: LinearTask, start: LinearStart) -> dict[str, np.ndarray]:
    """Return where a condition starts as the functions of `neurofb.theory` want it.

    Parameters
    ----------
    task
        Whose modes are the frame.
    start
        Of a network with one hidden layer of k units; n inputs, m outputs.

    Returns
    -------
    dict[str, ndarray]
        "W1" (seed, k, n), "W2" (seed, m, k), and as far as the rule has them "Q" (seed, k, r) and
        "P" (seed, r, m), or "B" (seed, k, m).

    Raises
    ------
    ValueError
        If there is more than one hidden layer.

    Examples
    --------
    >>> from neurofb.dynamics import random_task
    >>> task = random_task(6, 4, 2, seeds=(0, 1))
    >>> condition = LinearCondition(rule="LDFA fixed P", rank=3)
    >>> (start,) = initial_weights(task, [condition], LinearTraining(hidden=(5,)))
    >>> {name: matrix.shape for name, matrix in mode_frame(task, start).items()}
    {'W1': (2, 5, 6), 'W2': (2, 4, 5), 'Q': (2, 5, 3), 'P': (2, 3, 4)}
    """
    output, _, inputs = (part.cpu().numpy() for part in task.modes())
    weights = [weight.cpu().numpy() for weight in start.weights]
    q, p = (part[0].cpu().numpy() if part else None for part in (start.q, start.p))
    return in_mode_frame(weights, q, p, output, inputs)
