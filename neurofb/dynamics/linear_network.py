"""Learning of linear networks from sufficient statistics: rules, ranks and seeds all at once."""

import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
import xarray as xr

from neurofb import labels as naming
from neurofb.dynamics.linear_rules import RULES
from neurofb.dynamics.linear_settings import LinearCondition, LinearTraining
from neurofb.dynamics.linear_start import LinearStart, initial_weights
from neurofb.dynamics.linear_state import LinearState, normalised, rule_and_size
from neurofb.dynamics.linear_task import LinearTask

#: a loss of this many times that of a silent network counts as diverged
DIVERGED = 100.0


def simulate_linear(
    task: LinearTask,
    conditions: Sequence[LinearCondition],
    training: LinearTraining = LinearTraining(),
    *,
    starts: Sequence[LinearStart] | None = None,
) -> xr.Dataset:
    """Train linear networks of any depth by full-batch gradient descent, every condition at once.

    y = W_L … W_1 x learns by ΔW_l = η (δ_l h_{l-1}ᵀ − λ W_l), mean over samples, where the error
    δ_{l-1} = B_l δ_l goes back by Wᵀ, a fixed B or Q P, as each condition's rule has it (equations
    after Hanut & Kadmon 2025, arXiv:2502.20580; see `neurofb.dynamics.RULES`). Everything is exact
    for the task's statistics; no data are visited. Conditions of one rule and similar rank
    run as one, with ranks padded by zeros, which stay zero.

    Parameters
    ----------
    task
        The seeds' tasks; its precision and device are those of the simulation.
    conditions
        Rules, ranks, and their own rates.
    training
        What all conditions share.
    starts
        Where each condition starts; None: `initial_weights`.

    Returns
    -------
    xr.Dataset
        - ``overlap`` (condition, seed, step, mode): Λ_i = u_iᵀ W v_i / s_i, the share of a mode
          that the network's product W has learned.
        - ``loss`` (condition, seed, step): mean squared error over samples and outputs.
        - ``feedback_gap`` (condition, seed, step): ‖Wᵀ − B‖ / ‖W‖ over all layers but the first.
        - ``diverged_at`` (condition, seed): the first record whose loss is not finite or above 100
          times that of a silent network; NaN if none. From there on the others are NaN.

        Coordinates ``rule``, ``rank`` of each condition (without one: of the full map),
        ``singular_value`` (seed, mode).

    Raises
    ------
    ValueError
        If `conditions` is no list or empty, two have the same name, a rank is impossible, or
        `starts` do not fit.

    Warns
    -----
    RuntimeWarning
        If a step is beyond the stability of the solution: η ≥ 2 / λ_max with λ_max of the loss'
        Hessian at the balanced solution, or for Oja's rules a feedback rate ≥ 1 / λ_max(C), C the
        second moment of the targets (normalised where the condition's is).

    Examples
    --------
    >>> from neurofb.dynamics import random_task
    >>> training = LinearTraining(hidden=(8,), num_steps=600, learning_rate=0.02)
    >>> conditions = [LinearCondition(rule="BP"), LinearCondition(rule="LDFA fixed P", rank=1)]
    >>> task = random_task(8, 6, 3, num_samples=None, seeds=(0, 1))
    >>> answer = simulate_linear(task, conditions, training)
    >>> dict(answer.overlap.sizes)
    {'condition': 2, 'seed': 2, 'step': 61, 'mode': 3}
    >>> answer.overlap.sel(condition="BP", seed=0).isel(step=-1).round(2).values
    array([1., 1., 1.])
    """
    if not isinstance(conditions, Sequence):
        raise ValueError(f"conditions={conditions} must be a list, such as [condition]")
    began, cpu_began = time.perf_counter(), time.process_time()
    names = [condition.name for condition in conditions]
    if not conditions or len(set(names)) < len(names):
        raise ValueError(f"conditions must be at least one and have different names, not {names}")
    default = initial_weights(task, conditions, training)
    drawn = starts is None
    starts = default if drawn else starts
    _check_starts(starts, default, names)
    warn_if_unstable(task, conditions, training)
    order = sorted(range(len(names)), key=lambda i: rule_and_size(conditions[i]))
    with torch.no_grad():
        sorted_starts = [starts[i] for i in order]
        network = LinearState(task, [conditions[i] for i in order], sorted_starts, training)
        records = [network.record()]
        steps = [0]
        for step in range(1, training.num_steps + 1):
            network.step()
            if step % training.record_every == 0 or step == training.num_steps:
                records.append(network.record())
                steps.append(step)
        back = torch.tensor(order).argsort()
        overlap, loss, gap = (
            torch.stack(series, dim=2).transpose(0, 1).cpu()[back]
            for series in zip(*records, strict=True)
        )
        silent = task.mean_squared_error(torch.zeros_like(task.teacher)).cpu()
    diverged = ~(loss <= DIVERGED * silent[None, :, None]).cummin(dim=2).values.bool()
    diverged_at = torch.where(
        diverged.any(2),
        torch.tensor(steps, dtype=torch.float64)[diverged.int().argmax(2)],
        math.nan,
    )
    overlap[diverged], loss[diverged], gap[diverged] = math.nan, math.nan, math.nan
    full = min(*training.hidden, task.num_outputs)
    config = {
        "task": {
            "num_inputs": task.num_inputs,
            "num_outputs": task.num_outputs,
            "num_modes": network.modes.singular_value.shape[1],
            "seeds": list(task.seeds),
            "dtype": str(task.teacher.dtype),
        },
        "conditions": [asdict(condition) for condition in conditions],
        "training": asdict(training),
        "starts": "drawn" if drawn else "given",
    }
    along = ("condition", "seed", "step")
    return xr.Dataset(
        {
            "overlap": naming.variable((*along, "mode"), overlap, "1", "share of the mode learned"),
            "loss": naming.variable(along, loss, "1", "mean squared error"),
            "feedback_gap": naming.variable(along, gap, "1", "distance of feedback and weight"),
            "diverged_at": naming.variable(along[:2], diverged_at, "1", "step of divergence"),
        },
        coords={
            "condition": naming.coordinate("condition", names),
            "seed": naming.coordinate("seed", list(task.seeds)),
            "step": naming.coordinate("step", steps),
            "mode": naming.coordinate("mode", np.arange(1, overlap.shape[3] + 1)),
            "rule": naming.variable("condition", [c.rule for c in conditions], "1", "rule"),
            "rank": naming.variable("condition", [c.rank or full for c in conditions], "1", "rank"),
            "singular_value": naming.variable(
                ("seed", "mode"), network.modes.singular_value, "1", "strength of the mode"
            ),
        },
        attrs=naming.provenance(
            title="learning of linear networks",
            config=json.dumps(config, default=lambda number: number.item()),
            device=str(task.teacher.device),
            references="arXiv:2502.20580",
            wall_seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu_began,
        ),
    )


def warn_if_unstable(
    task: LinearTask, conditions: Sequence[LinearCondition], training: LinearTraining
) -> None:
    """Warn of steps beyond the stability of what is learned, with the largest stable number.

    At the balanced solution of depth L the Hessian of half the summed squared error has the largest
    eigenvalue λ_max = L s^(2 − 2/L) λ_x (our derivation; exact for Σ_xx = I, else an upper bound),
    s the largest singular value of the teacher, λ_x that of Σ_xx. Feedback that is no transpose has
    other solutions, which may be steeper. Oja's rule leaves its fixed points at a rate of
    1 / λ_max(C); the error's C starts as that of the targets, but grows where feedback
    that turns raises the error, so that "LDFA Oja error" may diverge below this limit too.

    Examples
    --------
    >>> task = LinearTask(torch.ones(1, 1, 1), torch.ones(1, 1, 1), seeds=(0,))
    >>> warn_if_unstable(task, [LinearCondition(rule="BP")], LinearTraining(learning_rate=0.99))
    """
    depth = len(training.hidden) + 1
    strength = torch.linalg.matrix_norm(task.teacher, 2)
    steepness = torch.linalg.matrix_norm(task.input_covariance, 2)
    limit = float((2 / (depth * strength ** (2 - 2 / depth) * steepness)).min())
    moments = torch.stack([task.output_covariance] * 2)  # as it is, and normalised
    moments[1] = normalised(moments[1], torch.tensor(True, device=moments.device))
    oja_limits = (1 / torch.linalg.matrix_norm(moments, 2)).amin(-1).tolist()
    for condition in conditions:
        rate = condition.rate("learning_rate", training)
        if rate >= limit:
            warnings.warn(
                f"condition {condition.name!r}: learning_rate={rate:g} is beyond stability, "
                f"2 / lambda_max = {limit:.4g} at the solution",
                RuntimeWarning,
                stacklevel=3,
            )
        rate = condition.rate("feedback_rate", training)
        oja_limit = oja_limits[condition.normalise]
        if RULES[condition.rule].learns_moment and rate >= oja_limit:
            warnings.warn(
                f"condition {condition.name!r}: feedback_rate={rate:g} is beyond the stability of "
                f"Oja's rule, 1 / lambda_max = {oja_limit:.4g} of the targets' second moment",
                RuntimeWarning,
                stacklevel=3,
            )


def _check_starts(
    starts: Sequence[LinearStart], default: Sequence[LinearStart], names: Sequence[str]
) -> None:
    """Refuse matrices of other shapes than those that would have been drawn."""
    if len(starts) != len(default):
        raise ValueError(f"starts must be one a condition, {len(default)}, not {len(starts)}")
    for name, start, expected in zip(names, starts, default, strict=True):
        for field in LinearStart._fields:
            found, wanted = ([tuple(x.shape) for x in getattr(s, field)] for s in (start, expected))
            if found != wanted:
                raise ValueError(
                    f"starts: {field} of condition {name!r} has shapes {found}, must be {wanted}"
                )
