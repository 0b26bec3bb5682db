"""Overlap with the modes of a task: known products, and what no linear network is."""

import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.dynamics import LinearCondition, LinearTraining, random_task, simulate_linear
from neurofb.dynamics.linear_start import initial_weights
from neurofb.measures import linear_mode_overlap, mode_overlap


def test_overlap_of_what_is_built_of_modes():
    task = random_task(7, 6, 3, seeds=(0, 1))
    u, s, v = task.modes()
    share = torch.tensor([1.0, 0.5, -0.2]).double()
    product = (u * (share * s)[:, None]) @ v.mT
    torch.testing.assert_close(mode_overlap(product, u, s, v), share.expand(2, 3))
    swapped = (u[:, :, [1, 0, 2]] * s[:, None]) @ v.mT  # the right strength between wrong partners
    overlap = mode_overlap(swapped, u, s, v)
    torch.testing.assert_close(overlap, torch.tensor([0.0, 0, 1]).double().expand(2, 3))


def test_batches_broadcast():
    u, s, v = (part[0] for part in random_task(7, 6, 3, seeds=(0,)).modes())
    product = torch.randn(4, 5, 6, 7, dtype=torch.float64)
    overlap = mode_overlap(product, u, s, v)
    assert overlap.shape == (4, 5, 3)
    expected = (u[:, 1] @ product[2, 3] @ v[:, 1]) / s[1]
    torch.testing.assert_close(overlap[2, 3, 1], expected)


def test_the_simulator_and_a_network_of_torch_agree():
    task = random_task(7, 6, 3, seeds=(2,))
    training = LinearTraining(hidden=(5, 4), num_steps=0, start_scale=3)
    bp = LinearCondition(rule="BP")
    (start,) = initial_weights(task, [bp], training)
    layers = [nn.Linear(7, 5), nn.Linear(5, 4), nn.Linear(4, 6)]
    for layer, weight in zip(layers, start.weights, strict=True):
        layer.weight.data = weight[0]
    simulated = simulate_linear(task, [bp], training).overlap.values.ravel()
    nested = nn.Sequential(nn.Sequential(*layers[:2]), layers[2])
    for network in (layers, nested):
        answer = linear_mode_overlap(network, task)
        assert answer.overlap.values == pytest.approx(simulated, abs=1e-12)
    assert answer.mode.values.tolist() == [1, 2, 3]
    assert answer.singular_value.attrs["long_name"]


def test_pathways_of_feedback_do_not_enter():
    task = random_task(7, 6, 3, seeds=(2,))
    network = nn.Sequential(nn.Linear(7, 5), nn.Sequential(nn.Linear(5, 6))).double()
    plain = linear_mode_overlap(network, task)
    attached = fb.attach(network, {"1.0": fb.LowRank(rank=2)})
    assert linear_mode_overlap(attached, task).identical(plain)
    assert abs(plain.overlap).min() > 1e-6


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda one: mode_overlap(torch.eye(2), torch.eye(2), torch.zeros(2), torch.eye(2)), "0"),
        (
            lambda one: mode_overlap(
                torch.eye(2), torch.ones(2, 0), torch.ones(0), torch.ones(2, 0)
            ),
            "at least one",
        ),
        (lambda one: mode_overlap(torch.eye(3), *_flat(torch.eye(2))), r"must end in \(2, 2\)"),
        (lambda one: linear_mode_overlap(nn.Linear(3, 2), random_task(3, 2, 1)), "one seed"),
        (
            lambda one: linear_mode_overlap(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), one),
            "linear layers only, not of .*ReLU",
        ),
        (lambda one: linear_mode_overlap([], one), "linear layers only, not of none"),
        (
            lambda one: linear_mode_overlap([nn.Linear(3, 4), nn.Linear(3, 2)], one),
            "do not follow each other",
        ),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call(random_task(3, 2, 1, seeds=(0,)))


def _flat(eye):
    return eye, torch.ones(2), eye
