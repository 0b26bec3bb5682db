"""Every learning rule against its equation in numpy (equations.py)."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.feedback.seeded import generator_of_pass

EQUATIONS = runpy.run_path(str(Path(__file__).with_name("equations.py")))
STRIDE = EQUATIONS["STRIDE"]
PAD = EQUATIONS["PAD"]
DILATION = EQUATIONS["DILATION"]
numpy = EQUATIONS["numpy"]
linear_error = EQUATIONS["linear_error"]
normative = EQUATIONS["normative"]
oja = EQUATIONS["oja"]
kolen_pollack_q = EQUATIONS["kolen_pollack_q"]
expected_linear = EQUATIONS["expected_linear"]
back = EQUATIONS["back"]
outer = EQUATIONS["outer"]
product_kernel = EQUATIONS["product_kernel"]
expected_convolution = EQUATIONS["expected_convolution"]
mirrored = EQUATIONS["mirrored"]
best_kernel = EQUATIONS["best_kernel"]

RULES = {
    "normative": fb.Normative(),
    "oja": fb.Oja(),
    "oja_raw": fb.Oja(normalise=False),
    "subspace": fb.Subspace(),
    "kolen_pollack": fb.KolenPollack(),
    "factored_kolen_pollack": fb.FactoredKolenPollack(norm_limit=1e9),
}


def check(pathway, grad_q, grad_p):
    """The gradients of Q and P are as expected; a matrix is a constant where none is."""
    expected = {"Q": grad_q, "P": grad_p}
    learned = dict(pathway.named_parameters())
    assert learned.keys() == {name for name in expected if expected[name] is not None}
    for name, matrix in learned.items():
        np.testing.assert_allclose(numpy(matrix.grad), expected[name], atol=1e-11)


@pytest.mark.parametrize("num_out", [5, 70])  # few and many units, fewer and more than samples
@pytest.mark.parametrize("shape", [(6, 7), (3, 7), (2, 3, 7), (2, 2, 2, 7), (80, 7)])
@pytest.mark.parametrize("rule", RULES)
def test_linear(rule, shape, num_out):
    layer = nn.Linear(7, num_out).double()
    fb.attach(layer, {"": fb.LowRank(rank=3, learning=RULES[rule])}, seed=4)
    q, p = numpy(layer.pathway.Q), numpy(layer.pathway.P)
    h = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    delta = torch.randn_like(out) + 0.5
    out.backward(delta)
    hs, deltas = numpy(h).reshape(-1, 7), numpy(delta).reshape(-1, num_out)
    errors = np.array([linear_error(q, p, d) for d in deltas])
    np.testing.assert_allclose(numpy(h.grad).reshape(-1, 7), errors, atol=1e-12)
    grad_q, grad_p = expected_linear(rule, q, p, numpy(layer.weight), hs, deltas)
    check(layer.pathway, grad_q, grad_p)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rule", [fb.Oja, fb.Subspace])
def test_one_hot_targets_take_the_place_of_the_error_in_p(rule, normalise):
    layer = nn.Linear(7, 5).double()
    learning = rule(drive="target", normalise=normalise)
    fb.attach(layer, {"": fb.LowRank(rank=3, learning=learning)}, seed=4)
    p = numpy(layer.pathway.P)
    h = torch.randn(8, 7, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    delta, labels = torch.randn_like(out), [0, 4, 1, 1, 3, 4, 1, 0]
    fb.present_targets(layer, torch.tensor(labels))
    out.backward(delta)
    one_hot = [[float(c == label) for c in range(5)] for label in labels]
    grad_q = kolen_pollack_q(p, numpy(h), numpy(delta)) if rule is fb.Oja else None
    check(layer.pathway, grad_q, oja(p, one_hot, normalise))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("side", ["Q", "P"])
@pytest.mark.parametrize("rule", RULES)
def test_convolution(rule, side, groups):
    layer = nn.Conv2d(4, 6, 3, STRIDE, PAD, DILATION, groups).double()
    pathway = fb.LowRank(rank=2, learning=RULES[rule], spatial_factor=side)
    fb.attach(layer, {"": pathway}, seed=1)
    q, p = numpy(layer.pathway.Q), numpy(layer.pathway.P)
    h = torch.randn(2, 4, 5, 4, dtype=torch.float64).relu().requires_grad_()
    out = layer(h)
    delta = torch.randn_like(out) + 0.3
    out.backward(delta)
    errors, grad_q, grad_p = expected_convolution(
        rule, side, q, p, numpy(layer.weight), numpy(h), numpy(delta), groups
    )
    np.testing.assert_allclose(numpy(h.grad), np.array(errors), atol=1e-12)
    check(layer.pathway, grad_q, grad_p)


@pytest.mark.parametrize("rule", ["kolen_pollack", "weight_mirror"])
@pytest.mark.parametrize("groups", [1, 2])
def test_full_rank_convolution(groups, rule):
    layer = nn.Conv2d(4, 6, 3, STRIDE, PAD, DILATION, groups).double()
    mirror = fb.WeightMirror(num_samples=5, decay=0.4)
    learning = {"kolen_pollack": fb.KolenPollack(), "weight_mirror": mirror}[rule]
    fb.attach(layer, {"": fb.Random(learning=learning)}, seed=1)
    b, w = numpy(layer.pathway.B), numpy(layer.weight)
    h = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    delta = torch.randn_like(out)
    out.backward(delta)
    hs, deltas = numpy(h), numpy(delta)
    errors = [back(d, b, groups, True, x.shape) for d, x in zip(deltas, hs, strict=True)]
    np.testing.assert_allclose(numpy(h.grad), np.array(errors), atol=1e-12)
    if rule == "kolen_pollack":
        grad = sum(outer(x, d, b.shape, groups, True) for x, d in zip(hs, deltas, strict=True))
    else:
        grad = 0.4 * b - mirrored(w, 5, layer.pathway.seed, groups)
    np.testing.assert_allclose(numpy(layer.pathway.B.grad), grad, atol=1e-11)


@pytest.mark.parametrize("rule", ["kolen_pollack", "weight_mirror"])
@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 7)])
def test_full_rank_linear(shape, rule):
    layer = nn.Linear(7, 5).double()
    mirror = fb.WeightMirror(num_samples=9, decay=1.0)
    learning = {"kolen_pollack": fb.KolenPollack(), "weight_mirror": mirror}[rule]
    fb.attach(layer, {"": fb.Random(learning=learning)}, seed=1)
    b, w = numpy(layer.pathway.B), numpy(layer.weight)  # as (n_out, n_in): B of the equations, Bᵀ
    h = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    delta = torch.randn_like(out)
    out.backward(delta)
    hs, deltas = numpy(h).reshape(-1, 7), numpy(delta).reshape(-1, 5)
    np.testing.assert_allclose(numpy(h.grad).reshape(-1, 7), [b.T @ d for d in deltas], atol=1e-12)
    if rule == "kolen_pollack":  # dB = −h δᵀ
        grad = sum(np.outer(x, d) for x, d in zip(hs, deltas, strict=True)).T
    else:
        grad = b - mirrored(w, 9, layer.pathway.seed, 1)
    np.testing.assert_allclose(numpy(layer.pathway.B.grad), grad, atol=1e-11)


@pytest.mark.parametrize("magnitude", ["uniform", "batch_random", "fixed_random"])
def test_signs_of_a_convolution(magnitude):
    layer = nn.Conv2d(4, 6, 3, STRIDE, PAD, DILATION, 2).double()
    fb.attach(layer, {"": fb.SignSymmetric(magnitude=magnitude)}, seed=2)
    m, w = numpy(layer.pathway.M), numpy(layer.weight)
    rms = np.sqrt(np.mean(w**2))
    assert m.shape == (w.shape if magnitude == "fixed_random" else ())
    for fired in range(2):
        if magnitude == "uniform":
            np.testing.assert_allclose(m, rms)
        if magnitude == "batch_random":
            generator = generator_of_pass(layer.pathway.seed, fired)
            m = 3**0.5 * rms * torch.rand(w.shape, generator=generator).numpy().astype(float)
        h = torch.zeros(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
        out = layer(h)
        delta = torch.randn_like(out)
        out.backward(delta)
        kernel = m * (1.0 * (w > 0) - 1.0 * (w < 0))
        errors = [back(d, kernel, 2, True, (4, 5, 4)) for d in numpy(delta)]
        np.testing.assert_allclose(numpy(h.grad), np.array(errors), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("side", ["Q", "P"])
def test_svd_refresh_and_start_of_a_convolution(side, groups):
    made = []
    for extra in ({"start": "svd", "learning": fb.Fixed()}, {"learning": fb.SvdRefresh(every=3)}):
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 6, 3, padding=1, groups=groups).double()
        fb.attach(layer, {"": fb.LowRank(rank=2, spatial_factor=side, **extra)})
        h = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
        layer(h).sum().backward()
        made.append(layer)
    for layer in made:
        kernel = product_kernel(numpy(layer.pathway.Q), numpy(layer.pathway.P), groups)
        np.testing.assert_allclose(
            kernel, best_kernel(numpy(layer.weight), 2, side, groups), atol=1e-12
        )


def test_svd_refresh_follows_the_weight_every_n_backward_passes():
    layer = nn.Linear(7, 5).double()
    fb.attach(layer, {"": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=3))})
    followed = []
    for _ in range(7):
        layer.weight.data.normal_()
        layer(torch.randn(2, 7, dtype=torch.float64, requires_grad=True)).sum().backward()
        u, s, vt = np.linalg.svd(numpy(layer.weight).T)
        best = u[:, :2] * s[:2] @ vt[:2]
        product = numpy(layer.pathway.Q) @ numpy(layer.pathway.P)
        followed.append(np.allclose(product, best, atol=1e-12))
    assert followed == [True, False, False, True, False, False, True]


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layer = nn.Linear(4, 6)
        self.hidden = nn.Linear(6, 5)
        self.readout = nn.Linear(5, 2)

    def forward(self, x):
        self.h = torch.tanh(self.first(x))
        self.e = self.hidden(torch.tanh(self.layer(self.h)))
        return self.readout(torch.tanh(self.e))


@pytest.mark.parametrize(
    "rule", ["oja", "oja_raw", "kolen_pollack", "factored_kolen_pollack", "fixed"]
)
def test_direct(rule):
    network = Chain().double()
    x = torch.randn(6, 3, dtype=torch.float64)
    learning = RULES.get(rule, fb.Fixed())
    spec = fb.Direct(source="hidden", rank=3, learning=learning)
    fb.attach(network, {"layer": spec}, example_input=x)
    q, p = numpy(network.layer.pathway.Q), numpy(network.layer.pathway.P)
    loss = network(x).square().sum()
    at_h, at_e = torch.autograd.grad(loss, [network.h, network.e], retain_graph=True)
    loss.backward()
    hs, es = numpy(network.h), numpy(at_e)
    np.testing.assert_allclose(numpy(at_h), [linear_error(q, p, e) for e in es], atol=1e-12)
    if rule == "fixed":
        assert list(network.layer.pathway.parameters()) == []
        return
    grad_q, grad_p = expected_linear(rule, q, p, None, hs, es)
    check(network.layer.pathway, grad_q, grad_p)


@pytest.mark.parametrize("side", ["Q", "P"])
@pytest.mark.parametrize("rule", [r for r in RULES if r not in ("normative", "subspace")])
def test_direct_from_a_map(rule, side):
    """The source's δ takes the place of the layer's own; its channels need not agree."""

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(4, 6, 3, STRIDE, PAD, DILATION)
            self.source = nn.Conv2d(6, 5, 3, padding=1)

        def forward(self, h):
            return self.source(torch.tanh(self.layer(h)))

    network = Maps().double()
    h = torch.randn(2, 4, 5, 4, dtype=torch.float64).relu().requires_grad_()
    spec = fb.Direct(source="source", rank=2, learning=RULES[rule], spatial_factor=side)
    fb.attach(network, {"layer": spec}, example_input=h.detach())
    pathway = network.layer.pathway
    q, p = numpy(pathway.Q), numpy(pathway.P)
    out = network(h)
    e = torch.randn_like(out) + 0.3
    out.backward(e)
    errors, grad_q, grad_p = expected_convolution(rule, side, q, p, None, numpy(h), numpy(e), 1)
    np.testing.assert_allclose(numpy(h.grad), np.array(errors), atol=1e-12)
    check(pathway, grad_q, grad_p)
