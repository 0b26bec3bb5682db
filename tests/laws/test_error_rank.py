"""Effective ranks and the ranks of errors: known answers and theory."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neurofb import feedback as fb
from neurofb.measures import effective_rank, error_rank
from neurofb.measures.maps import weight_gradient
from neurofb.networks import MLPConfig
from neurofb.networks.svd_layers import SVDConv2d

ORDER = ("stable", "participation", "entropy2", "entropy", "numerical")
FA = fb.Random(start="normal")


def rank(x, kind="entropy", **options):
    return float(effective_rank(x, kind, **options))


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(s, rows=7, columns=6, seed=0):
    left, right = (torch.linalg.qr(gaussian(n, n, seed=seed + n)).Q for n in (rows, columns))
    return left[:, : len(s)] * torch.tensor(s, dtype=torch.float64) @ right[:, : len(s)].T


KNOWN = [
    ([1, 1, 1, 1, 1], (5, 5, 5, 5)),
    ([3], (1, 1, 1, 1)),
    ([2, 1], (1.889882, 1.649385, 25 / 17, 1.25)),
    ([2, 1, 1], (2**1.5, 2.381102, 2, 1.5)),
    ([4, 2, 1, 1], (3.363586, 2.276322, 484 / 274, 1.375)),
]


@pytest.mark.parametrize(("s", "answers"), KNOWN)
def test_known_answers(s, answers):
    for x in (torch.diag(torch.tensor(s, dtype=torch.float64)), rotated(s)):
        found = [rank(x, kind) for kind in ("entropy", "entropy2", "participation", "stable")]
        assert found == pytest.approx(answers, rel=1e-6)
        assert rank(x, "numerical") == len(s)


def assert_ordered(x):
    ranks = torch.stack([effective_rank(x, kind) for kind in ORDER])
    assert (ranks.diff(dim=0) > -1e-9).all()
    assert (ranks[0] > 1 - 1e-9).all()
    assert (ranks[-1] <= min(x.shape[-2:])).all()


@pytest.mark.parametrize(("rows", "columns"), [(20, 10), (5, 30), (8, 8), (1, 4)])
def test_ordering_of_200_random_matrices(rows, columns):
    assert_ordered(gaussian(50, rows, columns) @ gaussian(50, columns, columns, seed=1))


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=6))
def test_ordering_of_any_spectrum(s):
    assert_ordered(rotated(s))


@pytest.mark.parametrize(
    ("p", "q", "entropy", "entropy2"), [(512, 256, 236.9, 198.8), (2048, 64, 63.74, 62.97)]
)
def test_gaussian_theory_lines(p, q, entropy, entropy2):
    x = gaussian(p, q)
    assert rank(x) == pytest.approx(entropy, rel=0.01)
    assert rank(x, "entropy2") == pytest.approx(entropy2, rel=0.01)
    assert rank(x, "participation") == pytest.approx(p * q / (p + q + 1), rel=0.01)
    assert rank(x, "stable") == pytest.approx(p * q / (p**0.5 + q**0.5) ** 2, rel=0.05)


def test_what_changes_a_rank():
    x = gaussian(60, 8) @ torch.diag(torch.linspace(0.2, 2, 8, dtype=torch.float64))
    for kind in ORDER[:-1]:
        value = rank(x, kind)
        assert rank(x * torch.linspace(0.01, 1, 60)[:, None] ** 3, kind) < 0.98 * value
        with_mean = x + 5
        assert rank(with_mean, kind) < 0.8 * value
        assert rank(with_mean, kind, center=True) == pytest.approx(rank(x, kind, center=True))


def test_products_of_gaussians_lose_rank_and_of_rotations_do_not():
    n, expected = 256, {1: 206, 2: 171, 4: 127, 8: 83, 16: 49}
    product, turned = torch.eye(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    for number in range(1, 17):
        factor = gaussian(n, n, seed=number)
        product = product @ factor / n**0.5
        turned = turned @ torch.linalg.qr(factor).Q
        if number in expected:
            assert rank(product) == pytest.approx(expected[number], rel=0.03)
            assert rank(turned) == pytest.approx(n, rel=1e-9)


def test_softmax_errors_sum_to_zero_over_classes():
    logits = gaussian(512, 10)
    error = torch.softmax(logits, 1) - torch.eye(10, dtype=torch.float64)[torch.arange(512) % 10]
    assert rank(error, "numerical") == 9
    assert rank(gaussian(512, 10), "numerical") == 10
    assert rank(gaussian(512, 9) @ gaussian(9, 256, seed=1), "numerical") == 9


def test_one_rectifier_takes_a_low_rank_error_to_full_rank():
    error = gaussian(512, 9) @ gaussian(9, 256, seed=1)
    assert rank(error * (gaussian(512, 256, seed=2) > 0), "numerical") == 256


def perceptron(between, seed=0, width=24, depth=3):
    torch.manual_seed(seed)
    sizes = [12] + [width] * depth
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), between()]
    return nn.Sequential(*layers, nn.Linear(width, 5)).double()


PATHWAYS = {
    "BP": {},
    "FA": {"2": FA, "4": FA, "6": FA},
    "DFA": {"2": fb.DirectRandom(source="6"), "4": fb.DirectRandom(source="6"), "6": FA},
}


@pytest.mark.parametrize("rule", PATHWAYS)
def test_errors_of_a_linear_network_have_a_rank_below_the_number_of_classes(rule):
    x, classes = gaussian(100, 12), torch.arange(100) % 5
    found = {}
    for between in (nn.Identity, nn.ReLU):
        network = fb.attach(perceptron(between), PATHWAYS[rule], example_input=x[:2])
        answer = error_rank(network, x, classes, kinds=["numerical"], views=["channel"])
        found[between] = answer.error_rank.values.ravel().tolist()
    assert found[nn.Identity] == [4, 4, 4, 4]
    assert min(found[nn.ReLU][:3]) > 15  # up to 24, without the units that never fire
    assert found[nn.ReLU][3] == 4


def test_feedback_alignment_starts_with_the_ranks_of_backpropagation():
    x, classes = torch.randn(256, 1, 12, 12), torch.arange(256) % 10
    settings = {"image_size": 12, "in_channels": 1, "initialisation": "he_normal"}
    config = MLPConfig(**settings, hidden=(192,) * 5, normalisation="none")
    ranks = {}
    for rule, pathways in {"BP": {}, "FA": {"hidden_[2-5]": FA, "readout": FA}}.items():
        network = fb.attach(config.build(seed=0), pathways, seed=0)
        answer = error_rank(network, x, classes, kinds=["entropy"], views=["channel"])
        ranks[rule] = answer.error_rank.values.ravel()
        ranks[f"{rule} normalised"] = answer.error_rank_normalised.values.ravel()
    np.testing.assert_allclose(ranks["FA"], ranks["BP"], rtol=0.05)
    np.testing.assert_allclose(ranks["FA normalised"], ranks["BP normalised"], rtol=0.05)
    assert not np.allclose(ranks["FA"][:4], ranks["BP"][:4], rtol=1e-6)


def test_a_gradient_is_that_of_the_dense_weight_also_for_factors():
    torch.manual_seed(0)
    h = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    for unfolding in ("separable", "channel"):
        layer = SVDConv2d(4, 6, (3, 2), 5, (2, 1), (1, 2), (1, 2), unfolding=unfolding).double()
        dense = layer.to_dense()
        out = dense(h)
        delta = torch.randn_like(out)
        out.backward(delta)
        expected = dense.weight.grad.flatten(1)
        torch.testing.assert_close(weight_gradient(layer, [(h, delta)]), expected)
        twice = weight_gradient(layer, [(h, delta), (h, delta)])
        torch.testing.assert_close(twice, 2 * expected)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_gradient_is_that_of_autograd_for_every_layer(case):
    layer, x = case.make().double(), torch.randn(case.shape, dtype=torch.float64)
    out = layer(x)
    delta = torch.randn_like(out)
    out.backward(delta)
    gradient = weight_gradient(layer, [(x, delta)])
    torch.testing.assert_close(gradient, layer.weight.grad.flatten(1))


def test_the_rank_of_a_gradient_is_at_most_that_of_error_and_activity():
    x = gaussian(80, 3) @ gaussian(3, 12, seed=1)
    network = perceptron(nn.ReLU)
    kinds = ["numerical"]
    answer = error_rank(network, x, torch.arange(80) % 5, kinds=kinds)
    first = answer.isel(layer=0, definition=0)
    assert first.error_rank.sel(view="channel") == 24
    assert first.gradient_rank == 3
