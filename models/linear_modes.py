"""Linear networks with low-dimensional feedback: which modes are learned, and what theory says.

The simulations of Hanut & Kadmon (2025, arXiv:2502.20580): teachers of 32 modes, 128 inputs, 64
hidden units, 64 outputs. Every function computes a Dataset (`neurofb run FILE::NAME --out DIR`);
`analyses/linear_modes.py` draws it. The curves of theory start from the very weights of the
simulation; what they leave out is the covariance of the samples, for which theory has 1.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.dynamics import (
    RULES,
    LinearCondition,
    LinearTask,
    LinearTraining,
    authors_protocol,
    initial_weights,
    random_task,
    simulate_linear,
)
from neurofb.mode_theory import mode_frame, mode_theory
from neurofb.theory import fixed_feedback_endpoint

#: rules of the paper's figures 2 (Q and P follow the weights) and 4a (P by Oja), and their controls
FIGURE_RULES = ("BP", "FA", "LDFA fixed P", "LDFA Oja targets", "LDFA normative")


def authors(
    ranks: tuple[int, ...] = (2, 4, 8, 16, 64),
    rules: tuple[str, ...] = FIGURE_RULES,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    num_steps: int = 5000,
    record_every: int = 10,
    num_inputs: int = 128,
    num_outputs: int = 64,
    num_hidden: int = 64,
    num_modes: int = 32,
    num_samples: int | None = 100_000,
    device: str = "cpu",
) -> xr.Dataset:
    """Rules × ranks by the authors' protocol, with theory from the same start.

    Rates are those of the authors' code at each rank (`neurofb.dynamics.authors_protocol`): the
    rate of the feedback falls by 0.1 % a step, so that the backward path freezes. A rule without a
    rank stands once. The authors clamp directions of change at ±10, which theory does not; only
    Oja's P would ever meet that limit, and nothing is clamped here.
    """
    _check_ranks(ranks)
    for rule in rules:
        check_choice("rules", rule, RULES)
    conditions = [
        authors_protocol(rank, rule=rule, num_outputs=num_outputs)
        for rule in rules
        for rank in (ranks if RULES[rule].map == "low-rank" else (1,))
    ]
    task = random_task(
        num_inputs, num_outputs, num_modes, num_samples=num_samples, seeds=seeds, device=device
    )
    training = LinearTraining(
        hidden=(num_hidden,),
        num_steps=num_steps,
        record_every=record_every,
        gradient_clip=None,
    )
    return _with_theory("modes by the authors' protocol", task, conditions, training)


def oja(
    rank: int = 8,
    error_rates: tuple[float, ...] = (1e-5, 3e-5, 1e-4),
    normalised_rates: tuple[float, ...] = (1e-3, 1e-2),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    num_steps: int = 10_000,
    record_every: int = 40,
    num_inputs: int = 128,
    num_outputs: int = 64,
    num_hidden: int = 64,
    num_modes: int = 32,
    num_samples: int | None = 100_000,
    device: str = "cpu",
) -> xr.Dataset:
    """P by Oja's rule, driven by targets or by the error, against P that is fixed or normative.

    Learning rate 1e-3 for weights; rates of the feedback do not fall. Driven by the error, P is
    tried at each of `error_rates`, and with the error's moment normalised by its largest variance
    at each of `normalised_rates`, for which there is no theory.
    """
    pairs = [(rate, False) for rate in error_rates] + [(rate, True) for rate in normalised_rates]
    conditions = [
        LinearCondition(rule="LDFA fixed P", rank=rank),
        LinearCondition(rule="LDFA normative", rank=rank, feedback_rate=1e-3),
        LinearCondition(rule="LDFA Oja targets", rank=rank, feedback_rate=1e-3),
        *(
            LinearCondition(
                rule="LDFA Oja error",
                rank=rank,
                feedback_rate=rate,
                normalise=normalise,
                name=f"LDFA Oja error r={rank}, {'normalised ' * normalise}{rate:g}",
            )
            for rate, normalise in pairs
        ),
    ]
    task = random_task(
        num_inputs, num_outputs, num_modes, num_samples=num_samples, seeds=seeds, device=device
    )
    training = LinearTraining(
        hidden=(num_hidden,),
        learning_rate=1e-3,
        feedback_decay=1.0,
        num_steps=num_steps,
        record_every=record_every,
        gradient_clip=None,
    )
    return _with_theory("modes with P by Oja's rule", task, conditions, training)


def endpoints(
    ranks: tuple[int, ...] = (4, 8, 16),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    start_scale: float = 0.01,
    num_steps: int = 8000,
    num_inputs: int = 128,
    num_outputs: int = 64,
    num_hidden: int = 64,
    num_modes: int = 32,
    device: str = "cpu",
) -> xr.Dataset:
    """Where learning with a fixed P ends, from a small start: Λ_i = R_ii, R = (P S)⁺ (P S).

    Q is fixed or learns by Kolen-Pollack. Inputs are white and unlimited (Σ_xx = I), so that theory
    leaves nothing out but the size of the start.
    """
    _check_ranks(ranks)
    conditions = [
        LinearCondition(rule=rule, rank=rank)
        for rule in ("low-rank FA", "LDFA fixed P")
        for rank in ranks
    ]
    task = random_task(
        num_inputs, num_outputs, num_modes, num_samples=None, seeds=seeds, device=device
    )
    training = LinearTraining(
        hidden=(num_hidden,),
        weight_decay=0.0,
        num_steps=num_steps,
        record_every=max(num_steps // 20, 1),
        gradient_clip=None,
        start_scale=start_scale,
    )
    starts = initial_weights(task, conditions, training)
    found = simulate_linear(task, conditions, training, starts=starts)
    _, strengths, _ = (part.cpu().numpy() for part in task.modes())
    ends = [fixed_feedback_endpoint(mode_frame(task, start)["P"], strengths) for start in starts]
    found["endpoint"] = labels.variable(
        ("condition", "seed", "mode"), np.stack(ends), "1", "share of the mode in theory, Rᵢᵢ"
    )
    return found.assign_attrs(title="modes that are learned with a fixed P")


def _with_theory(
    title: str,
    task: LinearTask,
    conditions: Sequence[LinearCondition],
    training: LinearTraining,
) -> xr.Dataset:
    """Simulate, and integrate the modes' equations from the same start beside it."""
    found = simulate_linear(task, conditions, training)
    found["overlap_theory"] = mode_theory(task, conditions, training)
    return found.assign_attrs(title=title)


def _check_ranks(ranks: Sequence[int]) -> None:
    if not ranks:
        raise ValueError(f"ranks={tuple(ranks)} is empty; name at least one rank")
