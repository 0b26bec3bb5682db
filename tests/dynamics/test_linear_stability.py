"""Linear learning where it goes wrong: unstable steps, divergence, bad input."""

import re

import numpy as np
import pytest
import torch

from neurofb.dynamics import (
    RULES,
    LinearCondition,
    LinearStart,
    LinearTraining,
    random_task,
    simulate_linear,
)


def condition(rule, rank=2, **settings):
    ranked = RULES[rule].map == "low-rank"
    return LinearCondition(rule=rule, rank=rank if ranked else None, **settings)


def solution(task, scale=1.0):
    u, s, v = task.modes()
    root = s.sqrt()[:, None]
    return LinearStart((scale * root.mT * v.mT, scale * u * root))


def test_the_number_of_the_warning_is_the_limit():
    """Just below it the balanced solution attracts, just above it repels; depth 2, Σ_xx = I."""
    task = random_task(6, 5, 5, num_samples=None, seeds=(0,))
    limit = 1 / task.modes().singular_value.max().item()  # 2 / λ_max, λ_max = 2 s
    bp, start = LinearCondition(rule="BP"), solution(task, 1.001)
    settings = {"hidden": (5,), "weight_decay": 0, "gradient_clip": None, "num_steps": 200}
    below = LinearTraining(learning_rate=0.97 * limit, **settings)
    loss = simulate_linear(task, [bp], below, starts=[start]).loss.values.ravel()
    assert loss[-1] < 1e-3 * loss[0]
    above = LinearTraining(learning_rate=1.03 * limit, **settings)
    with pytest.warns(RuntimeWarning, match=rf"'BP'.* = {limit:.4g} at the solution"):
        loss = simulate_linear(task, [bp], above, starts=[start]).loss.values.ravel()
    assert np.nanmax(loss) > 100 * loss[0]


def steepest(task, depth):
    """Largest eigenvalue of the loss' Hessian at the balanced solution, by autograd."""
    u, s, vh = torch.linalg.svd(task.teacher[0])
    root = s.diag() ** (1 / depth)
    weights = (root @ vh, *[root] * (depth - 2), u @ root)

    def loss(*weights):
        product = weights[0]
        for weight in weights[1:]:
            product = weight @ product
        error = task.teacher[0] - product
        return (error @ task.input_covariance[0] * error).sum() / 2

    blocks = torch.autograd.functional.hessian(loss, weights)
    size = task.teacher[0].numel()
    whole = torch.cat([torch.cat([b.reshape(size, size) for b in row], 1) for row in blocks])
    return torch.linalg.eigvalsh(whole)[-1].item()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_warning_counts_the_hessian(depth):
    """2 / λ_max for Σ_xx = I; for a sample's covariance at most that."""
    settings = {"hidden": (4,) * (depth - 1), "learning_rate": 1, "num_steps": 0}
    limits = []
    for num_samples in (None, 30):
        task = random_task(4, 4, 2, num_samples=num_samples, seeds=(0,))
        with pytest.warns(RuntimeWarning) as warned:
            simulate_linear(task, [LinearCondition(rule="BP")], LinearTraining(**settings))
        number = re.search(r"lambda_max = (\S+)", str(warned[0].message))[1]
        limits.append(float(number) * steepest(task, depth) / 2)
    assert limits[0] == pytest.approx(1, rel=1e-3)
    assert 0.4 < limits[1] < 1


@pytest.mark.parametrize("rule", ["LDFA Oja targets", "LDFA Oja error"])
@pytest.mark.parametrize("normalise", [False, True])
def test_warning_of_oja(rule, normalise):
    task = random_task(6, 5, 2, num_samples=None, seeds=(0,))
    limit = task.modes().singular_value.max().item() ** -2
    if normalise:
        limit *= task.output_covariance[0].diagonal().max().item()
    chosen = condition(rule, normalise=normalise)
    training = LinearTraining(hidden=(5,), num_steps=0, feedback_rate=1.01 * limit)
    with pytest.warns(RuntimeWarning, match=f"feedback_rate=.* = {limit:.4g} of the targets"):
        simulate_linear(task, [chosen], training)
    training = LinearTraining(hidden=(5,), num_steps=0, feedback_rate=0.99 * limit)
    simulate_linear(task, [chosen], training)  # a warning would be an error


def test_divergence_is_a_result():
    task = random_task(6, 5, 2, seeds=(0, 1))
    settings = {"hidden": (4,), "num_steps": 100, "gradient_clip": None, "record_every": 1}
    training = LinearTraining(learning_rate=0.02, **settings)
    wild = LinearCondition(rule="BP", name="wild", learning_rate=20.0)
    with pytest.warns(RuntimeWarning, match="'wild'"):
        answer = simulate_linear(task, [wild, condition("BP"), condition("FA")], training)
    at = answer.diverged_at
    assert (at.sel(condition="wild") > 0).all()
    assert at.sel(condition=["BP", "FA"]).isnull().all()
    before = answer.step < at.sel(condition="wild")
    for name in ("loss", "feedback_gap"):
        assert (answer[name].sel(condition="wild").notnull() == before).all()
    assert (answer.overlap.sel(condition="wild").notnull() == before).all()
    calm = simulate_linear(task, [condition("BP"), condition("FA")], training)
    np.testing.assert_allclose(calm.overlap, answer.overlap.isel(condition=[1, 2]), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: LinearCondition(rule="DFA"), "rule='DFA' must be one of BP, FA"),
        (lambda: LinearCondition(rule="LDFA fixed P"), "rank=None"),
        (lambda: LinearCondition(rule="LDFA fixed P", rank=0), "rank=0"),
        (lambda: LinearCondition(rule="BP", rank=2), "rank=2 must be None"),
        (lambda: LinearCondition(rule="BP", start="small"), "start='small' is not for 'BP'"),
        (lambda: LinearCondition(rule="FA", start="svd"), "start='svd' is not for 'FA'"),
        (lambda: condition("LDFA fixed P", normalise=True), "not for 'LDFA fixed P'"),
        (lambda: LinearCondition(rule="BP", learning_rate=-1), "learning_rate=-1"),
        (lambda: LinearCondition(rule="BP", feedback_decay=0), "feedback_decay=0"),
        (lambda: LinearTraining(hidden=()), r"hidden=\(\)"),
        (lambda: LinearTraining(hidden=(3, 0)), r"hidden=\(3, 0\)"),
        (lambda: LinearTraining(num_steps=-1), "num_steps=-1"),
        (lambda: LinearTraining(record_every=0), "record_every=0"),
        (lambda: LinearTraining(gradient_clip=0), "gradient_clip=0"),
        (lambda: LinearTraining(start_scale=-1), "start_scale=-1"),
        (lambda: LinearTraining(weight_decay=float("nan")), "weight_decay=nan"),
        (lambda: simulate(condition("LDFA fixed P", 5)), "rank=5 .* at most 4"),
        (lambda: simulate(), "at least one"),
        (lambda: simulate(condition("BP"), condition("BP")), "different names"),
        (lambda: simulate(condition("BP"), starts=[]), "one a condition, 1, not 0"),
        (
            lambda: simulate(condition("BP"), starts=[LinearStart((torch.ones(1, 2, 2),))]),
            "weights of condition 'BP'",
        ),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [
        (LinearTraining(), "hidden", 8),
        (LinearTraining(), "hidden", (8.0,)),
        (LinearTraining(), "num_steps", 10.0),
        (LinearTraining(), "record_every", 2.5),
        (LinearCondition(rule="LDFA fixed P", rank=2), "rank", 2.5),
    ],
)
def test_what_is_no_whole_number(made, name, value):
    object.__setattr__(made, name, value)  # past the tests' type checks
    with pytest.raises(ValueError, match=re.escape(f"{name}={value}")):
        made.__post_init__()


def test_one_condition_is_no_list():
    unchecked = getattr(simulate_linear, "__wrapped__", simulate_linear)
    with pytest.raises(ValueError, match=r"conditions=LinearCondition\(.* must be a list"):
        unchecked(random_task(6, 5, 2, seeds=(0,)), condition("BP"))


def simulate(*conditions, **settings):
    task = random_task(6, 5, 2, seeds=(0,))
    return simulate_linear(task, conditions, LinearTraining(hidden=(4,), num_steps=1), **settings)
