"""Independent versions of the learning rules: numpy, loops, written from the equations."""

import numpy as np
import torch

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
