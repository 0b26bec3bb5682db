"""Alignment against the same quantities in plain numpy, on a network of four linear layers."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.measures import alignment

WIDTHS = (5, 9, 8, 7, 4)
NUM = 12


@pytest.fixture
def network():
    torch.manual_seed(3)
    layers = []
    for n_in, n_out in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    network = nn.Sequential(*layers[:-1]).double()
    pathways = {
        "2": fb.Direct(source="6", rank=2, learning=fb.Fixed()),
        "4": fb.Random(),
        "6": fb.LowRank(rank=3, learning=fb.Fixed()),
    }
    fb.attach(network, pathways, example_input=torch.zeros(2, 5).double())
    with torch.no_grad():  # no longer orthonormal
        network[6].pathway.P.mul_(torch.tensor([[2.0], [1.0], [0.5]])).add_(0.1)
    return network


@pytest.fixture
def batch():
    return torch.randn(NUM, 5).double(), torch.arange(NUM) % 4


def array(tensor):
    return tensor.detach().numpy()


def forward(network, x):
    """Activities h_0 … h_3 and the logits."""
    h = [x]
    for index in (0, 2, 4, 6):
        a = h[-1] @ array(network[index].weight).T + array(network[index].bias)
        h.append(np.tanh(a))
    return h[:-1], a


def errors_at_inputs(network, h, e, exact):
    """δ of every layer, and the error at its input, from the last layer to the first."""
    delta, deltas, at_input = e, {6: e}, {}
    for index in (6, 4, 2):
        pathway, weight = network[index].pathway, array(network[index].weight)
        matrix, sent = weight, delta
        if not exact and index == 4:
            matrix = array(pathway.B)
        elif not exact:
            matrix = (array(pathway.Q) @ array(pathway.P)).T
            sent = e if index == 2 else delta
        at_input[index] = sent @ matrix
        delta = at_input[index] * (1 - h[index // 2] ** 2)
        deltas[index - 2] = delta
    return deltas, at_input


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def angle(a, b):
    return np.degrees(np.arccos(cosine(a, b)))


def energy_in_rows(delta, p):
    q, _ = np.linalg.qr(p.T)
    return ((delta @ q) ** 2).sum() / (delta**2).sum()


@pytest.mark.parametrize("batch_size", [None, 5])
def test_every_variable_equals_numpy(network, batch, batch_size):
    answer = alignment(network, *batch, batch_size=batch_size)
    x, y = (array(tensor) for tensor in batch)
    h, logits = forward(network, x)
    p = np.exp(logits - logits.max(1, keepdims=True))
    e = (p / p.sum(1, keepdims=True) - np.eye(4)[y]) / NUM
    deltas, sent = errors_at_inputs(network, h, e, exact=False)
    exact_deltas, exact_sent = errors_at_inputs(network, h, e, exact=True)

    def check(name, index, expected, **tolerance):
        found = float(answer[name].sel(layer=str(index)))
        assert found == pytest.approx(expected, **{"rel": 1e-8, **tolerance}), (name, index)

    for index in (0, 2, 4, 6):
        own, exact = deltas[index].T @ h[index // 2], exact_deltas[index].T @ h[index // 2]
        check("gradient_cosine", index, cosine(own, exact))
        check("gradient_norm_ratio", index, np.linalg.norm(own) / np.linalg.norm(exact))
        s = np.linalg.svd(deltas[index], compute_uv=False)
        share = s[s > 1e-12 * s[0]] / s.sum()
        check("effective_rank", index, np.exp(-(share * np.log(share)).sum()), rel=1e-5)

    weights = {index: array(network[index].weight) for index in (2, 4, 6)}
    pathways = {index: network[index].pathway for index in (2, 4, 6)}
    # same δ for pathways of a layer, exact backpropagation's own error for a direct one
    reference = {index: deltas[index] @ weights[index] for index in (4, 6)} | {2: exact_sent[2]}
    for index in (2, 4, 6):
        check("delta_angle", index, angle(sent[index], reference[index]), abs=1e-5)
        ratio = np.linalg.norm(sent[index]) / np.linalg.norm(reference[index])
        check("error_norm_ratio", index, ratio)

    qp = array(pathways[6].Q) @ array(pathways[6].P)
    for index, matrix in ((4, array(pathways[4].B).T), (6, qp)):
        transposed = weights[index].T
        norm = np.linalg.norm(transposed)
        check("weight_angle", index, angle(matrix, transposed))
        check("matrix_norm_ratio", index, np.linalg.norm(matrix) / norm)
        check("relative_distance", index, np.linalg.norm(transposed - matrix) / norm)

    for index, delta in ((2, e), (6, deltas[6])):
        rows = array(pathways[index].P)
        check("captured_energy", index, energy_in_rows(delta, rows))
        drift = np.linalg.norm(rows @ rows.T - np.eye(len(rows))) / np.sqrt(len(rows))
        check("orthonormality_drift", index, drift, abs=1e-12)
