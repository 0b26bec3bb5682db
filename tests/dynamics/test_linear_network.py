"""Batched linear learning: equal to autograd on data, to the pathways, to itself alone."""

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.dynamics import (
    RULES,
    LinearCondition,
    LinearTraining,
    initial_weights,
    random_task,
    simulate_linear,
    task_from_data,
)
from neurofb.dynamics.linear_state import LinearState

RANKED = [name for name, rule in RULES.items() if rule.map == "low-rank"]


def condition(rule, rank=2, **settings):
    return LinearCondition(rule=rule, rank=rank if rule in RANKED else None, **settings)


def data(num_samples=40, num_inputs=5, num_outputs=4):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(num_samples, num_inputs, generator=rng, dtype=torch.float64)
    y = torch.nn.functional.one_hot(torch.arange(num_samples) % num_outputs).double()
    return x - x.mean(0), y - y.mean(0)


def state_after(task, conditions, training, starts=None):
    starts = initial_weights(task, conditions, training) if starts is None else starts
    state = LinearState(task, conditions, starts, training)
    for _ in range(training.num_steps):
        state.step()
    return state


# ---------------------------------------------------------------- the same with data in the loop


@pytest.mark.parametrize("hidden", [(6,), (6, 3)])
def test_bp_is_autograd_on_the_data(hidden):
    x, y = data()
    training = LinearTraining(
        hidden=hidden, learning_rate=0.1, weight_decay=0.02, num_steps=30, start_scale=2
    )
    task = task_from_data(x, y)
    bp = LinearCondition(rule="BP")
    (start,) = initial_weights(task, [bp], training)
    weights = [w[0].clone().requires_grad_() for w in start.weights]
    optimiser = torch.optim.SGD(weights, lr=0.1, weight_decay=0.02)
    losses = []
    for _ in range(31):
        h = x
        for weight in weights:
            h = h @ weight.mT
        losses.append((h - y).square().mean().item())
        optimiser.zero_grad()
        ((h - y).square().sum(1) / 2).mean().backward()
        if len(losses) <= 30:
            optimiser.step()
    state = state_after(task, [bp], training)
    for own, weight in zip(state.weights, weights, strict=True):
        torch.testing.assert_close(own[0, 0], weight.detach(), atol=1e-12, rtol=0)
    answer = simulate_linear(task, [bp], LinearTraining(**vars(training) | {"record_every": 1}))
    np.testing.assert_allclose(answer.loss.values[0, 0], losses, atol=1e-12)
    assert losses[-1] < 0.8 * losses[0]


LEARNING = {
    "low-rank FA": fb.Fixed(),
    "LDFA fixed P": fb.KolenPollack(),
    "LDFA Oja targets": fb.Oja(drive="target"),
    "LDFA Oja error": fb.Oja(),
    "LDFA normative": fb.Normative(),
    "LDFA factored KP": fb.FactoredKolenPollack(norm_limit=1e9),
}


@pytest.mark.parametrize(
    ("rule", "hidden"),
    [
        (rule, hidden)
        for rule in ("FA", *LEARNING)
        for hidden in ((6,), (6, 3))
        if (rule, len(hidden)) != ("LDFA Oja targets", 2)  # no targets at a hidden layer's pathway
    ],
)
def test_rules_are_those_of_the_pathways(rule, hidden):
    """One step of the simulator is one step of SGD on the pathways' (pseudo-)gradients."""
    x, y = data()
    task = task_from_data(x, y)
    training = LinearTraining(
        hidden=hidden, learning_rate=0.3, feedback_rate=0.2, weight_decay=0, num_steps=1
    )
    chosen = condition(rule, normalise="Oja" in rule, start="fixed" if rule != "FA" else None)
    (start,) = initial_weights(task, [chosen], training)
    sizes = [x.shape[1], *hidden, y.shape[1]]
    network = nn.Sequential(*(nn.Linear(*pair, bias=False) for pair in pairwise(sizes))).double()
    for layer, weight in zip(network, start.weights, strict=True):
        layer.weight.data.copy_(weight[0])
    spec = fb.Random() if rule == "FA" else fb.LowRank(rank=2, learning=LEARNING[rule])
    above = [str(i) for i in range(1, len(sizes) - 1)]
    network = fb.attach(network, dict.fromkeys(above, spec))
    pathways = [dict(fb.feedback_layers(network))[name].pathway for name in above]
    for i, pathway in enumerate(pathways):
        if rule == "FA":
            pathway.B.data.copy_(start.q[i][0].mT)
        else:
            pathway.set_matrices(start.q[i][0], start.p[i][0])
    fb.present_targets(network, y.argmax(1))
    ((network(x) - y).square().sum(1) / 2).mean().backward()
    state = state_after(task, [chosen], training)
    for layer, own in zip(network, state.weights, strict=True):
        moved = layer.weight.detach() - 0.3 * layer.weight.grad
        torch.testing.assert_close(own[0, 0], moved, atol=1e-12, rtol=0)
    q_rate = 0.3 if RULES[rule].learns_like_weight else 0.2
    for i, pathway in enumerate(pathways if rule in RANKED else []):
        for name, rate, own in (("Q", q_rate, state.groups[0].q), ("P", 0.2, state.groups[0].p)):
            matrix = getattr(pathway, name)
            gradient = matrix.grad if matrix.grad is not None else torch.zeros_like(matrix)
            moved = (matrix - rate * gradient).detach()
            torch.testing.assert_close(own[i][0, 0], moved, atol=1e-11, rtol=0)


# ---------------------------------------------------------------- batching


@pytest.mark.parametrize("hidden", [(7,), (7, 8)])
def test_a_condition_alone_is_the_condition_among_others(hidden):
    task = random_task(9, 6, 3, num_samples=200, seeds=(0, 1, 2))
    training = LinearTraining(
        hidden=hidden, learning_rate=0.06, feedback_rate=0.03, num_steps=60, start_scale=3
    )
    conditions = [LinearCondition(rule="FA"), LinearCondition(rule="BP")]
    conditions += [condition(rule, rank) for rank in (4, 1, 3) for rule in RANKED]
    conditions.append(LinearCondition(rule="BP", name="slow BP", learning_rate=0.01))
    answer = simulate_linear(task, conditions, training)
    assert answer.condition.values.tolist() == [each.name for each in conditions]
    assert answer["rank"].values.tolist()[:3] == [6, 6, 4]
    for each in conditions:
        alone = simulate_linear(task, [each], training)
        batched = answer.sel(condition=[each.name])
        for name in ("overlap", "loss", "feedback_gap"):
            np.testing.assert_allclose(alone[name], batched[name], atol=1e-11, err_msg=each.name)
        assert float(alone.overlap.isel(step=-1).max()) > 0.05  # something has been learned
    ends = answer.loss.isel(step=-1, seed=0).values
    assert len(np.unique(ends.round(9))) == len(conditions)  # and no two conditions are the same


def test_a_seed_alone_is_the_seed_among_others():
    training = LinearTraining(hidden=(4,), num_steps=100, learning_rate=0.05)
    rules = [condition(rule) for rule in ("BP", "LDFA Oja error", "LDFA normative")]
    both = simulate_linear(random_task(6, 5, 2, seeds=(4, 7)), rules, training)
    alone = simulate_linear(random_task(6, 5, 2, seeds=(7,)), rules, training)
    np.testing.assert_allclose(both.sel(seed=[7]).overlap, alone.overlap, atol=1e-12)
    assert np.abs(both.overlap.sel(seed=4) - both.overlap.sel(seed=7)).max() > 1e-3


@pytest.mark.parametrize("rule", RANKED)
def test_padding_stays_zero_bit_for_bit(rule):
    task = random_task(9, 8, 3, seeds=(0,))
    conditions = [condition(rule, rank) for rank in (4, 3)]
    training = LinearTraining(hidden=(8,), num_steps=60, learning_rate=0.05, feedback_rate=0.02)
    (group,) = state_after(task, conditions, training).groups
    assert not group.q[0][0, 1, :, 3:].any()
    assert not group.p[0][0, 1, 3:].any()
    assert group.q[0][0, 1, :, :3].all()


def test_same_numbers_every_time():
    task = random_task(6, 5, 2, seeds=(0,))
    runs = [
        simulate_linear(task, [condition("LDFA Oja error")], LinearTraining(num_steps=50))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].overlap, runs[1].overlap)


def test_float32_is_float64_nearly():
    training = LinearTraining(hidden=(5,), num_steps=300, learning_rate=0.02)
    answers = [
        simulate_linear(random_task(6, 5, 2, dtype=dtype), [condition("LDFA normative")], training)
        for dtype in (torch.float32, torch.float64)
    ]
    assert answers[0].overlap.dtype == np.float32
    np.testing.assert_allclose(answers[0].overlap, answers[1].overlap, atol=1e-3)


# ---------------------------------------------------------------- starts, clips, records


def test_starts():
    task = random_task(9, 6, 3, seeds=(0, 1))
    training = LinearTraining(hidden=(7,), start_scale=2)
    names = ["BP", "FA", "low-rank FA", "LDFA fixed P", "LDFA normative"]
    starts = dict(
        zip(names, initial_weights(task, [condition(n, 4) for n in names], training), strict=True)
    )
    for start in starts.values():
        assert torch.equal(start.weights[0], starts["BP"].weights[0])
    assert starts["BP"].q == starts["BP"].p == starts["FA"].p == ()
    torch.testing.assert_close(starts["FA"].q[0][:, :, :4], starts["low-rank FA"].q[0])
    p = starts["LDFA fixed P"].p[0]
    torch.testing.assert_close(p @ p.mT, torch.eye(4).double().expand(2, 4, 4))
    normative = starts["LDFA normative"]
    u, s, vh = torch.linalg.svd(normative.weights[1])
    best = vh.mT[:, :, :4] @ (s[:, :4, None] * u.mT[:, :4])
    torch.testing.assert_close(normative.q[0] @ normative.p[0], best)
    full = initial_weights(task, [condition("LDFA normative", 6)], training)[0]
    torch.testing.assert_close(full.q[0] @ full.p[0], full.weights[1].mT)


def test_size_of_the_start():
    (start,) = initial_weights(
        random_task(100, 80, 2, seeds=(0,)), [condition("LDFA fixed P", 60)],
        LinearTraining(hidden=(70,), start_scale=0.5),
    )  # fmt: skip
    assert start.weights[0].std().item() == pytest.approx(0.5 / 70, rel=0.05)
    assert start.weights[1].std().item() == pytest.approx(0.5 / 80, rel=0.05)
    assert start.q[0].std().item() == pytest.approx(0.5 / 80, rel=0.05)


@pytest.mark.parametrize("rule", ["FA", "low-rank FA"])
def test_fixed_feedback_keeps_the_length_of_an_error(rule):
    (start,) = initial_weights(
        random_task(9, 80, 2, seeds=(0,)), [condition(rule, 80)], LinearTraining(hidden=(200,))
    )
    back = start.q[0][0] if rule == "FA" else start.q[0][0] @ start.p[0][0]
    error = torch.randn(80, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = (back @ error).square().sum() / error.square().sum()
    assert ratio.item() == pytest.approx(1, rel=0.05)


def test_clip_bounds_every_change():
    task = random_task(6, 5, 2, seeds=(0,))
    training = LinearTraining(
        hidden=(4,), num_steps=1, learning_rate=1, weight_decay=0, gradient_clip=1e-3, start_scale=3
    )
    conditions = [condition("LDFA Oja targets", feedback_rate=1e-3), LinearCondition(rule="FA")]
    starts = initial_weights(task, conditions, training)
    state = state_after(task, conditions[::-1], training, starts[::-1])
    for own, weight in zip(state.weights, starts[0].weights, strict=True):
        torch.testing.assert_close((own[:, 1] - weight).abs().max().item(), 1e-3)
        assert (own[:, 1] - weight).abs().max() <= 1.0001e-3
    assert (state.groups[1].q[0][:, 0] - starts[0].q[0]).abs().max() <= 1.0001e-3


def test_feedback_slows_down():
    """The sum of the rates is that of a geometric series: with C = I P' follows its logistic."""
    task = task_from_data(torch.eye(3).double() * 3**0.5, torch.eye(3).double() * 3**0.5)
    chosen = LinearCondition(rule="LDFA Oja targets", rank=1)
    training = LinearTraining(hidden=(3,), feedback_rate=1e-3, feedback_decay=0.99, num_steps=500)
    start = initial_weights(task, [chosen], training)[0]
    start = start._replace(p=(0.1 * start.p[0],))
    (group,) = state_after(task, [chosen], training, [start]).groups
    total = 1e-3 * (1 - 0.99**500) / 0.01
    square = 1 / (1 + (1 / 0.01 - 1) * np.exp(-2 * total))
    assert group.p[0].square().sum().item() == pytest.approx(square, rel=1e-3)


def test_dataset_says_what_it_is():
    training = LinearTraining(hidden=(4,), num_steps=25, record_every=10)
    answer = simulate_linear(random_task(6, 5, 2, seeds=(3,)), [condition("BP")], training)
    assert answer.step.values.tolist() == [0, 10, 20, 25]
    assert answer.mode.values.tolist() == [1, 2]
    for name in (*answer.variables,):
        assert answer[name].attrs["units"] == "1"
        assert answer[name].attrs["long_name"]
    assert "2502.20580" in answer.attrs["references"]
    config = json.loads(answer.attrs["neurofb_config"])
    assert config["training"] == asdict(training) | {"hidden": [4]}
    assert config["conditions"] == [asdict(condition("BP"))]
    sizes = {"num_inputs": 6, "num_outputs": 5, "num_modes": 2}
    assert config["task"] == {**sizes, "seeds": [3], "dtype": "torch.float64"}
    assert config["starts"] == "drawn"
    assert answer.diverged_at.isnull().all()
    assert (answer.feedback_gap == 0).all()


def test_gap_of_the_feedback():
    task = random_task(6, 5, 2, seeds=(3,))
    training = LinearTraining(hidden=(4, 4), num_steps=0)
    chosen = condition("low-rank FA")
    (start,) = initial_weights(task, [chosen], training)
    gap = simulate_linear(task, [chosen], training).feedback_gap.item()
    parts = [
        (w[0].mT - q[0] @ p[0]).square().sum()
        for w, q, p in zip(start.weights[1:], start.q, start.p, strict=True)
    ]
    norm = sum(w.square().sum() for w in start.weights[1:])
    assert gap == pytest.approx(float((sum(parts) / norm).sqrt()), abs=1e-12)
