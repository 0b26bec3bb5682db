"""Independent versions of the learning rules: numpy, loops, written from the equations."""

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.feedback.seeded import generator_of_pass

STRIDE, PAD, DILATION = (2, 1), (1, 2), (1, 2)


def numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy().astype(float)


# ---------------------------------------------------------------- linear layers


def linear_error(q, p, delta):
    """g = Q P δ for one sample."""
    return q @ (p @ delta)


def normative(q, p, w):
    d = w.T - q @ p
    return -d @ p.T, -q.T @ d


def oja(p, deltas, normalise=True):
    """Centre over samples, divide by the largest standard deviation, mean over samples."""
    e = np.array(deltas)
    if normalise:
        e = e - e.mean(0)
        e = e / e.std(0).max()
    change = np.zeros_like(p)
    for sample in e:
        z = p @ sample
        change += np.outer(z, sample) - np.outer(z, z) @ p
    return -change / len(e)


def kolen_pollack_q(p, hs, deltas):
    """The sign of dW = -δ hᵀ, so that Q follows Wᵀ Pᵀ: the gradient is +h zᵀ."""
    return sum(np.outer(h, p @ delta) for h, delta in zip(hs, deltas, strict=True))


def factored(q, p, hs, deltas):
    grad_q, grad_p = np.zeros_like(q), np.zeros_like(p)
    for h, delta in zip(hs, deltas, strict=True):
        full = np.outer(h, delta)
        grad_q += full @ p.T
        grad_p += q.T @ full
    return grad_q, grad_p


def expected_linear(rule, q, p, w, hs, deltas):
    return {
        "normative": lambda: normative(q, p, w),
        "oja": lambda: (kolen_pollack_q(p, hs, deltas), oja(p, deltas)),
        "oja_raw": lambda: (kolen_pollack_q(p, hs, deltas), oja(p, deltas, normalise=False)),
        "subspace": lambda: (None, oja(p, deltas)),
        "kolen_pollack": lambda: (kolen_pollack_q(p, hs, deltas), None),
        "factored_kolen_pollack": lambda: factored(q, p, hs, deltas),
    }[rule]()


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


# ---------------------------------------------------------------- convolutions


def taps(y, x, kernel, spatial):
    """Yield kernel and input positions that meet at output pixel (y, x)."""
    if not spatial:
        yield 0, 0, y, x
        return
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            yield (
                ky,
                kx,
                y * STRIDE[0] + ky * DILATION[0] - PAD[0],
                x * STRIDE[1] + kx * DILATION[1] - PAD[1],
            )


def inside(array, y, x):
    return 0 <= y < array.shape[-2] and 0 <= x < array.shape[-1]


def conv(h, k, groups, spatial):
    """One sample forwards: channel, y, x → channel, y, x."""
    if spatial:
        span = [DILATION[i] * (k.shape[2 + i] - 1) for i in (0, 1)]
        size = [(h.shape[1 + i] + 2 * PAD[i] - span[i] - 1) // STRIDE[i] + 1 for i in (0, 1)]
    else:
        size = h.shape[1:]
    out = np.zeros((k.shape[0], *size))
    each_out, each_in = k.shape[0] // groups, k.shape[1]
    for o in range(k.shape[0]):
        group = o // each_out
        for y in range(size[0]):
            for x in range(size[1]):
                for ky, kx, yy, xx in taps(y, x, k.shape[2:], spatial):
                    if inside(h, yy, xx):
                        channels = h[group * each_in : (group + 1) * each_in, yy, xx]
                        out[o, y, x] += k[o, :, ky, kx] @ channels
    return out


def back(delta, k, groups, spatial, shape):
    """One sample backwards: the transpose of `conv`."""
    g = np.zeros(shape)
    each_out, each_in = k.shape[0] // groups, k.shape[1]
    for o in range(k.shape[0]):
        group = o // each_out
        for y in range(delta.shape[1]):
            for x in range(delta.shape[2]):
                for ky, kx, yy, xx in taps(y, x, k.shape[2:], spatial):
                    if inside(g, yy, xx):
                        g[group * each_in : (group + 1) * each_in, yy, xx] += (
                            k[o, :, ky, kx] * delta[o, y, x]
                        )
    return g


def outer(h, delta, shape, groups, spatial):
    """One sample's δ hᵀ in the layout of a kernel."""
    grad = np.zeros(shape)
    each_out, each_in = shape[0] // groups, shape[1]
    for o in range(shape[0]):
        group = o // each_out
        for y in range(delta.shape[1]):
            for x in range(delta.shape[2]):
                for ky, kx, yy, xx in taps(y, x, shape[2:], spatial):
                    if inside(h, yy, xx):
                        grad[o, :, ky, kx] += (
                            delta[o, y, x] * h[group * each_in : (group + 1) * each_in, yy, xx]
                        )
    return grad


def product_kernel(q, p, groups):
    """The kernel that Q and P make together, (c_out, c_in/groups, ky, kx)."""
    rank, each = p.shape[1], p.shape[0] // groups
    size = [max(a, b) for a, b in zip(q.shape[2:], p.shape[2:], strict=True)]
    out = np.zeros((p.shape[0], q.shape[1], *size))
    for o in range(p.shape[0]):
        for r in range(rank):
            row = q[(o // each) * rank + r]
            for i in range(q.shape[1]):
                out[o, i] += row[i] * p[o, r]  # one of the two is 1×1
    return out


def normative_conv(q, p, w, groups):
    """Gradient of ½‖W − kernel(Q, P)‖², element by element."""
    d = w - product_kernel(q, p, groups)
    rank, each = p.shape[1], p.shape[0] // groups
    grad_q, grad_p = np.zeros_like(q), np.zeros_like(p)
    for o in range(p.shape[0]):
        for r in range(rank):
            row = (o // each) * rank + r
            for i in range(q.shape[1]):
                to_q, to_p = -d[o, i] * p[o, r], -d[o, i] * q[row, i]
                grad_q[row, i] += to_q if q[row, i].size > 1 else to_q.sum()
                grad_p[o, r] += to_p if p[o, r].size > 1 else to_p.sum()
    return grad_q, grad_p


def oja_conv_p(p, deltas, groups, normalise):
    """Oja for a 1×1 P: every pixel is a sample; one divisor for all channels."""
    rows = np.array(
        [d[:, y, x] for d in deltas for y in range(d.shape[1]) for x in range(d.shape[2])]
    )
    if normalise:
        rows = rows - rows.mean(0)
        rows = rows / rows.std(0).max()
    each = p.shape[0] // groups
    grad = np.zeros_like(p)
    for group in range(groups):
        channels = slice(group * each, (group + 1) * each)
        grad[channels, :, 0, 0] = oja(p[channels, :, 0, 0].T, rows[:, channels], False).T
    return grad


def oja_conv_q(q, arriving, groups, normalise):
    """Oja for a 1×1 Q, driven by the error that passes the rectifier below the layer."""
    rows = np.array(
        [g[:, y, x] for g in arriving for y in range(g.shape[1]) for x in range(g.shape[2])]
    )
    if normalise:
        rows = rows - rows.mean(0)
        rows = rows / rows.std(0).max()
    rank, each = q.shape[0] // groups, q.shape[1]
    grad = np.zeros_like(q)
    for group in range(groups):
        units, channels = (
            slice(group * rank, (group + 1) * rank),
            slice(group * each, (group + 1) * each),
        )
        grad[units, :, 0, 0] = oja(q[units, :, 0, 0], rows[:, channels], False)
    return grad


def expected_convolution(rule, side, q, p, w, hs, deltas, groups):
    """Errors at the input, and the gradients of Q and P."""
    in_q, in_p = side == "Q", side == "P"
    middle = [conv(h, q, groups, in_q) for h in hs]
    zs = [back(d, p, groups, in_p, m.shape) for d, m in zip(deltas, middle, strict=True)]
    errors = [back(z, q, groups, in_q, h.shape) for z, h in zip(zs, hs, strict=True)]
    kp_q = sum(outer(h, z, q.shape, groups, in_q) for h, z in zip(hs, zs, strict=True))
    kp_p = sum(outer(m, d, p.shape, groups, in_p) for m, d in zip(middle, deltas, strict=True))
    if rule == "normative":
        return errors, *normative_conv(q, p, w, groups)
    if rule == "kolen_pollack":
        return errors, kp_q, None
    if rule == "subspace" and side == "Q":
        return errors, None, oja_conv_p(p, deltas, groups, True)
    if rule == "subspace":
        arriving = [g * (h != 0) for g, h in zip(errors, hs, strict=True)]
        return errors, oja_conv_q(q, arriving, groups, True), None
    if rule == "factored_kolen_pollack":
        return errors, kp_q, kp_p
    normalise = rule == "oja"
    if side == "Q":
        return errors, kp_q, oja_conv_p(p, deltas, groups, normalise)
    arriving = [g * (h != 0) for g, h in zip(errors, hs, strict=True)]
    return errors, oja_conv_q(q, arriving, groups, normalise), kp_p


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


# ---------------------------------------------------------------- full rank


def mirrored(w, n, seed, groups):
    """Mean of y xᵀ over noise patches, one output unit and one tap at a time."""
    per_group = w.shape[0] // groups
    fan_in = w[0].size
    generator = generator_of_pass(seed, 0)
    noise = torch.randn(groups, n, fan_in, generator=generator).numpy().astype(float)
    out = np.zeros((w.shape[0], fan_in))
    for o in range(w.shape[0]):
        for x in noise[o // per_group]:
            y = sum(w[o].ravel()[i] * x[i] for i in range(fan_in))
            out[o] += y * x / n
    return out.reshape(w.shape)


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


# ---------------------------------------------------------------- SVD


def best_kernel(w, rank, side, groups):
    """Truncate group by group, by eigenvectors of the Gram matrix (no SVD call)."""
    each = w.shape[0] // groups
    out = np.zeros_like(w)
    for group in range(groups):
        block = w[group * each : (group + 1) * each]
        if side == "P":
            block = block.transpose(1, 0, 2, 3)
        flat = block.reshape(block.shape[0], -1)
        _, vectors = np.linalg.eigh(flat @ flat.T)
        top = vectors[:, -rank:]
        block = (top @ top.T @ flat).reshape(block.shape)
        out[group * each : (group + 1) * each] = (
            block.transpose(1, 0, 2, 3) if side == "P" else block
        )
    return out


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


# ---------------------------------------------------------------- direct


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
