"""Simulated linear learning against what mathematics says, and against the reference numbers."""

import numpy as np
import pytest
import torch

from neurofb import theory
from neurofb.dynamics import (
    RULES,
    LinearCondition,
    LinearStart,
    LinearTask,
    LinearTraining,
    authors_protocol,
    initial_weights,
    random_task,
    simulate_linear,
)
from neurofb.dynamics.linear_state import LinearState


def final_state(task, conditions, training, starts):
    state = LinearState(task, conditions, starts, training)
    for _ in range(training.num_steps):
        state.step()
    return state


def predicted(task, condition, training, start):
    """The theory's curves from the simulation's own start."""
    modes = [np.asarray(part) for part in task.modes()]
    q, p = (matrices[0].numpy() if matrices else None for matrices in (start.q, start.p))
    frame = theory.in_mode_frame([w.numpy() for w in start.weights], q, p, modes[0], modes[2])
    names = ("learning_rate", "feedback_rate", "feedback_decay", "weight_decay")
    return theory.integrate_modes(
        frame,
        modes[1],
        condition.rule,
        **{name: condition.rate(name, training) for name in names},
        num_steps=training.num_steps,
        record_every=training.record_every,
    ).overlap


def scalar_task(s=2.0):
    one = torch.ones(1, 1, 1).double()
    return LinearTask(s * one, one, seeds=(0,))


def scalar_start(a, b, q=None, p=None):
    matrices = [None if x is None else torch.full((1, 1, 1), x).double() for x in (a, b, q, p)]
    a, b, q, p = matrices
    return LinearStart((b, a), *(() if x is None else (x,) for x in (q, p)))


def follow(condition, start, s=2.0, **settings):
    training = LinearTraining(hidden=(1,), weight_decay=0, feedback_decay=1, **settings)
    state = final_state(scalar_task(s), [condition], training, [start])
    b, a = (weight.item() for weight in state.weights)
    q, p = (x[0].item() if x[0].numel() else None for x in (state.groups[0].q, state.groups[0].p))
    return a, b, q, p


# ---------------------------------------------------------------- the seven closed forms


def test_1_balanced_modes_follow_saxe():
    task = random_task(8, 6, 4, num_samples=None, seeds=(0, 1))
    u, s, v = task.modes()
    start = LinearStart((0.1 * v.mT, 0.1 * u))
    training = LinearTraining(
        hidden=(4,), learning_rate=1e-3, weight_decay=0, num_steps=3000, record_every=50
    )
    answer = simulate_linear(task, [LinearCondition(rule="BP")], training, starts=[start])
    time = answer.step.values[:, None] * 1e-3
    exact = theory.saxe_mode(time, s.numpy()[:, None], 0.01)
    np.testing.assert_allclose(answer.overlap[0], exact, atol=0.01)
    assert (exact[:, -1, 0] > 0.99).all()


def test_2_kolen_pollack_invariant():
    """Q − W2ᵀ Pᵀ shrinks by 1 − η λ at every step, whatever the data are."""
    task = random_task(8, 6, 3, num_samples=30, seeds=(0, 1))
    condition = LinearCondition(rule="LDFA fixed P", rank=3)
    training = LinearTraining(hidden=(7,), learning_rate=0.05, weight_decay=0.2, num_steps=120)
    (start,) = initial_weights(task, [condition], training)
    start = start._replace(p=(start.p[0] * 0.7,))
    state = final_state(task, [condition], training, [start])

    def gap(weight, q, p):
        return (q - weight.mT @ p.mT).numpy()

    end = gap(state.weights[1][:, 0], state.groups[0].q[0][:, 0], state.groups[0].p[0][:, 0])
    expected = theory.kolen_pollack_gap(
        gap(start.weights[1], start.q[0], start.p[0]), 120, learning_rate=0.05, weight_decay=0.2
    )
    np.testing.assert_allclose(end, expected, atol=1e-13)
    assert np.abs(expected).max() > 1e-3
    moved = (state.weights[1][:, 0] - start.weights[1]).abs().max()
    assert moved > 0.1


@pytest.mark.parametrize("rule", ["low-rank FA", "LDFA fixed P"])
def test_3_with_p_fixed_the_overlaps_are_those_of_the_projector(rule):
    task = random_task(24, 20, 12, num_samples=None, seeds=(0, 1))
    conditions = [LinearCondition(rule=rule, rank=rank) for rank in (4, 8)]
    training = LinearTraining(
        hidden=(20,), learning_rate=0.03, weight_decay=0, num_steps=1500, start_scale=1e-3
    )
    starts = initial_weights(task, conditions, training)
    answer = simulate_linear(task, conditions, training, starts=starts)
    modes = task.modes()
    for rank, each, start in zip((4, 8), answer.overlap.values, starts, strict=True):
        in_modes = (start.p[0] @ modes.output).numpy()
        expected = theory.fixed_feedback_endpoint(in_modes, modes.singular_value.numpy())
        np.testing.assert_allclose(each[:, -1], expected, atol=0.003)
        np.testing.assert_allclose(each[:, -1].sum(-1), rank, atol=0.01)


def test_4_p_follows_the_flow_of_oja():
    task = random_task(8, 6, 6, num_samples=40, seeds=(0,))
    condition = LinearCondition(rule="LDFA Oja targets", rank=2)
    top = torch.linalg.matrix_norm(task.output_covariance, 2).item()
    errors = []
    for steps in (500, 1000):
        rate = 4 / top / steps  # the flow's time 4 / λ_1, in steps of two sizes
        training = LinearTraining(
            hidden=(3,), num_steps=steps, feedback_rate=rate, feedback_decay=1, gradient_clip=None
        )
        (start,) = initial_weights(task, [condition], training)
        start = start._replace(p=(0.4 * start.p[0],))
        p = final_state(task, [condition], training, [start]).groups[0].p[0][0, 0].numpy()
        flow = theory.oja_flow(start.p[0][0].numpy(), task.output_covariance[0].numpy(), 4 / top)
        errors.append(np.abs(p.T @ p - flow).max())
    assert errors[0] < 0.006
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)  # Euler's first order


@pytest.mark.parametrize("beta", [1.0, 0.3, -0.5])
def test_5_feedback_alignment_of_one_mode(beta):
    start = scalar_start(0.0, 0.0, beta)
    settings = {"learning_rate": 2e-3, "num_steps": 2500}
    a, b, *_ = follow(LinearCondition(rule="FA"), start, 3.5, **settings)
    exact = theory.scalar_fa(3.5, beta)
    assert exact[1] == pytest.approx(np.cbrt(2 * beta * 3.5))
    assert (a, b) == pytest.approx(exact, rel=4e-3)
    assert a * b == pytest.approx(3.5, abs=1e-3)


def test_6_normative_mode_ends_aligned():
    start = scalar_start(0.1, 0.2, 0.1, 0.3)
    condition = LinearCondition(rule="LDFA normative", rank=1)
    fast = {"learning_rate": 0.1, "feedback_rate": 0.05, "num_steps": 600}
    a, b, q, p = follow(condition, start, **fast)
    assert a * b == pytest.approx(2, abs=1e-12)
    assert q * p == pytest.approx(a, abs=1e-12)
    curve = theory.scalar_normative(np.array([0.0, 2.0]), 2.0, rate=0.5, a=0.1, b=0.2, q=0.1, p=0.3)
    early = follow(condition, start, learning_rate=4e-3, feedback_rate=2e-3, num_steps=500)
    assert early == pytest.approx([float(x[-1]) for x in curve], abs=0.02)
    assert abs(early[0] - a) > 0.1  # on the way, not at the end


def test_7_factored_kolen_pollack_feeds_itself():
    """q p = q0 p0 exp(2 ρ (a − a0)), for q0 = p0."""
    condition = LinearCondition(rule="LDFA factored KP", rank=1)
    start = scalar_start(0.1, 0.2, 0.5, 0.5)
    a, _, q, p = follow(condition, start, learning_rate=1e-3, feedback_rate=2e-3, num_steps=3000)
    assert a > 0.8
    assert q * p == pytest.approx(
        theory.scalar_factored_kp(a - 0.1, rate=2, q=0.5, p=0.5), rel=0.01
    )
    assert q * p == pytest.approx(0.25 * np.exp(4 * (a - 0.1)), rel=0.01)


# ---------------------------------------------------------------- what the rules select


def test_oja_on_targets_selects_the_leading_modes():
    """All of the first r and next to nothing of the others, where a fixed P scatters."""
    task = random_task(24, 20, 12, num_samples=None, seeds=(0, 1, 2))
    conditions = [
        LinearCondition(rule=f"LDFA {name}", rank=4) for name in ("Oja targets", "fixed P")
    ]
    training = LinearTraining(
        hidden=(20,), learning_rate=0.02, feedback_rate=5e-3, feedback_decay=1, num_steps=2000,
        start_scale=0.1,
    )  # fmt: skip
    oja, fixed = simulate_linear(task, conditions, training).overlap.isel(step=-1).values
    assert oja[:, :4].min() > 0.99
    assert np.abs(oja[:, 4:]).max() < 0.1
    assert fixed[:, :4].max() < 0.9
    assert fixed[:, 4:].max() > 0.2


def test_p_along_the_leading_modes_learns_these():
    task = random_task(24, 20, 12, num_samples=None, seeds=(0,))
    condition = LinearCondition(rule="LDFA fixed P", rank=4)
    training = LinearTraining(
        hidden=(20,), learning_rate=0.03, weight_decay=0, num_steps=1500, start_scale=1e-3
    )
    (start,) = initial_weights(task, [condition], training)
    start = start._replace(p=(start.p[0][:, :, :4] @ task.modes().output[:, :, :4].mT,))
    overlap = simulate_linear(task, [condition], training, starts=[start]).overlap.values
    np.testing.assert_allclose(overlap[0, 0, -1], [1] * 4 + [0] * 8, atol=0.003)


def test_factored_kolen_pollack_diverges_at_the_rate_of_the_weights():
    """And does not at a third or a tenth of it."""
    task = random_task(24, 20, 12, num_samples=None, seeds=(0, 1, 2))
    conditions = [
        LinearCondition(rule="LDFA factored KP", rank=4, feedback_rate=rate, name=f"{rate}")
        for rate in (0.02, 0.006, 0.002)
    ]
    training = LinearTraining(
        hidden=(20,), learning_rate=0.02, feedback_decay=1, num_steps=1000, gradient_clip=None
    )
    answer = simulate_linear(task, conditions, training)
    assert answer.diverged_at[0].notnull().all()
    assert answer.diverged_at[1:].isnull().all()
    assert (answer.loss[1:, :, -1] < 0.3 * answer.loss[1:, :, 0]).all()


# ---------------------------------------------------------------- theory and simulation


@pytest.mark.parametrize("rule", RULES)
def test_with_whitened_inputs_theory_is_the_simulation(rule):
    """Two programs, one in the frame of the modes: the same numbers to rounding."""
    task = random_task(10, 7, 4, num_samples=None, seeds=(0, 1))
    ranks = (1, 3) if RULES[rule].map == "low-rank" else (None,)
    conditions = [LinearCondition(rule=rule, rank=r) for r in ranks]
    training = LinearTraining(hidden=(6,), learning_rate=0.02, feedback_rate=0.004, num_steps=300)
    starts = initial_weights(task, conditions, training)
    answer = simulate_linear(task, conditions, training)
    for each, condition, start in zip(answer.overlap.values, conditions, starts, strict=True):
        np.testing.assert_allclose(each, predicted(task, condition, training, start), atol=1e-10)
        assert each[:, -1].max() > 0.5


#: final mean squared error of seeds 0, 1, 2 at the authors' protocol, by an independent program
#: (numpy, data in the loop's statistics, other random numbers)
REFERENCE = {
    2: (32.96, 35.04, 35.81),
    4: (25.11, 26.50, 27.17),
    8: (15.62, 17.07, 17.00),
    16: (7.04, 7.49, 8.19),
}
MEAN_OVERLAP = {2: 0.23, 4: 0.30, 8: 0.40, 16: 0.58, 64: 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_reference_numbers_of_the_authors_protocol(full):
    """Final errors as tabulated; Λ of theory and simulation, at 100 000 samples, within 0.03.

    The gap is the samples' (with whitened inputs it is rounding, above; with ten times the samples
    it is a third). It is the largest over 501 records of 32 modes, where modes of nearly equal
    strength compete, so that single seeds lie above: 3 of 15 runs, up to 0.057.
    """
    task = random_task()
    training = LinearTraining(num_steps=2500 if full else 5000)
    conditions = [authors_protocol(rank) for rank in MEAN_OVERLAP if (rank == 64) == full]
    starts = initial_weights(task, conditions, training)
    answer = simulate_linear(task, conditions, training)
    assert answer.loss.isel(step=0).values == pytest.approx(64, abs=3)
    for condition, start in zip(conditions, starts, strict=True):
        own, rank = answer.sel(condition=condition.name), condition.rank
        loss = own.loss.isel(step=-1).values
        if rank in REFERENCE:
            reference = np.array(REFERENCE[rank])
            error = np.hypot(loss.std(ddof=1), reference.std(ddof=1)) / 3**0.5
            assert loss.mean() == pytest.approx(reference.mean(), abs=3 * error), rank
        overlap = own.overlap.values
        assert overlap[:, -1].mean() == pytest.approx(MEAN_OVERLAP[rank], abs=0.02), rank
        gap = overlap - predicted(task, condition, training, start)
        assert np.abs(gap.mean(0)).max() <= 0.03, rank  # of the mean over seeds, as it is drawn
        assert np.median(np.abs(gap).max((1, 2))) <= 0.03, rank
        assert np.abs(gap).max() <= 0.06, rank
