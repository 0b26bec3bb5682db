"""Closed forms that the learning rules must follow when run as a training."""

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.feedback.oja import oja_gradient


@pytest.mark.parametrize("frozen", ["no_grad_needed", "zeroed"])
def test_kolen_pollack_difference_decays_at_the_decay_rate(frozen):
    """With equal rate and decay and P fixed, Q − Wᵀ Pᵀ shrinks by (1 − ηλ) a step, exactly."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6, bias=False)).double()
    fb.attach(net, {"2": fb.LowRank(rank=3)})
    pathway = net[2].pathway
    if frozen == "no_grad_needed":
        pathway.P.requires_grad_(False)
    rate, decay = 0.05, 0.2
    optimiser = torch.optim.SGD([net[2].weight, pathway.Q], lr=rate, weight_decay=decay)
    x, target = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    p = pathway.P.detach().clone()
    start = (pathway.Q - net[2].weight.T @ p.T).detach().clone()
    moved = pathway.Q.detach().clone()
    for step in range(1, 41):
        optimiser.zero_grad()
        ((net(x) - target) ** 2).mean().backward()
        optimiser.step()
        gap = (pathway.Q - net[2].weight.T @ p.T).detach()
        torch.testing.assert_close(gap, start * (1 - rate * decay) ** step, rtol=1e-10, atol=1e-13)
    assert torch.equal(pathway.P, p)
    assert (pathway.Q - moved).norm() > 0.1 * moved.norm()


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_kolen_pollack_difference_decays_for_a_convolution(stride, groups):
    """The same with the kernel in Q: Q (r, c_in, k, k) follows Σ_o P[o, r] W[o]."""
    conv = nn.Conv2d(4, 6, 3, stride, 1, groups=groups, bias=False)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), conv, nn.Flatten()).double()
    fb.attach(net, {"1": fb.LowRank(rank=2)})
    pathway = conv.pathway
    rate, decay = 0.02, 0.5
    optimiser = torch.optim.SGD([conv.weight, pathway.Q], lr=rate, weight_decay=decay)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    p = pathway.P.detach().reshape(groups, -1, 2)

    def gap() -> torch.Tensor:
        weight = conv.weight.detach().reshape(groups, -1, *conv.weight.shape[1:])
        return pathway.Q.detach() - torch.einsum("gor,goiyx->griyx", p, weight).flatten(0, 1)

    start = gap()
    for step in range(1, 11):
        optimiser.zero_grad()
        ((net(x) - 1) ** 2).mean().backward()
        optimiser.step()
        torch.testing.assert_close(gap(), start * (1 - rate * decay) ** step, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("trained", ["weight_too", "weight_at_rest"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_kolen_pollack_of_full_rank_aligns_at_the_decay_rate(kind, trained):
    """With equal rate and decay B − W shrinks by (1 − ηλ) a step, exactly, in every entry."""
    if kind == "linear":
        layer = nn.Linear(8, 6)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), layer)
        x = torch.randn(9, 4, dtype=torch.float64)
    else:
        layer = nn.Conv2d(4, 6, 3, (2, 1), (1, 2), (1, 2), groups=2)
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), layer, nn.Flatten())
        x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    net.double()
    fb.attach(net, {"2": fb.Random(learning=fb.KolenPollack())})
    b, rate, decay = layer.pathway.B, 0.05, 0.2
    groups = [{"params": [layer.weight, b]}, {"params": net[0].parameters(), "weight_decay": 0.0}]
    if trained == "weight_at_rest":  # nothing drives either: both only decay
        x = torch.zeros_like(x)
        net[0].bias.data.zero_()
        groups.pop()
    optimiser = torch.optim.SGD(groups, lr=rate, weight_decay=decay)
    first, start = layer.weight.detach().clone(), (b - layer.weight).detach().clone()
    for step in range(1, 41):
        optimiser.zero_grad()
        ((net(x) - 1) ** 2).mean().backward()
        optimiser.step()
        gap = (b - layer.weight).detach()
        torch.testing.assert_close(gap, start * (1 - rate * decay) ** step, rtol=1e-10, atol=1e-13)
    only_decayed = torch.allclose(layer.weight, first * (1 - rate * decay) ** 40, rtol=1e-10)
    assert only_decayed == (trained == "weight_at_rest")


def test_oja_with_a_constant_covariance_follows_its_flow():
    """PᵀP(t) = Aᵀ (I − P₀P₀ᵀ + AAᵀ)⁻¹ A, A = P₀ e^{Ct}; the error of Euler steps is first order."""
    generator = np.random.default_rng(0)
    errors = generator.standard_normal((40, 5)) @ generator.standard_normal((5, 5))
    c = errors.T @ errors / len(errors)
    largest = np.linalg.eigvalsh(c)[-1]
    errors, c = errors / largest**0.5, c / largest
    start = 0.5 * generator.standard_normal((2, 5))
    time = 4.0
    values, vectors = np.linalg.eigh(c)
    a = start @ (vectors * np.exp(values * time)) @ vectors.T
    inner = np.eye(2) - start @ start.T + a @ a.T
    flow = a.T @ np.linalg.solve(inner, a)
    gaps = []
    for dt in (1e-2, 5e-3):
        p = torch.tensor(start)
        samples = torch.tensor(errors)
        for _ in range(round(time / dt)):
            basis = p.T[None]
            p = p - dt * oja_gradient(samples, samples @ p.T, basis, normalise=False)[0].T
        gaps.append(np.abs((p.T @ p).numpy() - flow).max())
    assert gaps[0] < 1e-2
    assert 1.8 < gaps[0] / gaps[1] < 2.2


def test_oja_ends_at_the_principal_subspace_of_the_error():
    layer = fb.attach(nn.Linear(4, 6, bias=False).double(), {"": fb.LowRank(rank=2)})
    mixing = torch.diag(torch.tensor([3.0, 2.5, 1.0, 0.7, 0.5, 0.2], dtype=torch.float64))
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    delta = torch.randn(500, 6, dtype=torch.float64) @ mixing @ rotation.T + 5  # the mean is no use
    h = torch.zeros(500, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD(fb.pathway_parameters(layer), lr=0.5)
    for _ in range(150):
        optimiser.zero_grad()
        layer(h).backward(delta)
        optimiser.step()
    p = layer.pathway.P.detach()
    covariance = (delta - delta.mean(0)).T @ (delta - delta.mean(0))
    top = torch.linalg.eigh(covariance).eigenvectors[:, -2:]
    torch.testing.assert_close(p.T @ p, top @ top.T, rtol=0, atol=1e-8)


def test_normative_scalar_mode_ends_at_the_weight():
    """a' = b e, b' = q p e, q' = η (a − qp) p, p' = η (a − qp) q: ab = s and qp = a in the end."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    fb.attach(net, {"1": fb.LowRank(rank=1, learning=fb.Normative())})
    b, a, pathway = net[0].weight, net[1].weight, net[1].pathway
    for parameter, value in ((b, 0.3), (a, 0.5), (pathway.Q, 0.4), (pathway.P, 0.6)):
        parameter.data.fill_(value)
    s, rate, relative = 2.0, 0.1, 0.7
    matrices = {"params": fb.pathway_parameters(net), "lr": rate * relative}
    optimiser = torch.optim.SGD([{"params": [a, b], "lr": rate}, matrices])
    x = torch.ones(1, 1, dtype=torch.float64)
    hand = np.array([0.5, 0.3, 0.4, 0.6])
    for step in range(400):
        optimiser.zero_grad()
        (0.5 * (s - net(x)) ** 2).sum().backward()
        optimiser.step()
        if step < 50:
            a0, b0, q0, p0 = hand
            e = s - a0 * b0
            gap = relative * (a0 - q0 * p0)
            hand = hand + rate * np.array([b0 * e, q0 * p0 * e, gap * p0, gap * q0])
            now = [float(t.detach()) for t in (a, b, pathway.Q, pathway.P)]
            np.testing.assert_allclose(now, hand, rtol=1e-10)
    assert float(a.detach() * b.detach()) == pytest.approx(s, abs=1e-9)
    assert float((pathway.Q @ pathway.P).detach()) == pytest.approx(float(a.detach()), abs=1e-9)


def test_factored_kolen_pollack_grows_exponentially_in_the_weight():
    """Balanced scalar mode: β = qp = β₀ exp(2η (a − a₀)), η the ratio of the two rates."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    rule = fb.FactoredKolenPollack(norm_limit=1e9)
    fb.attach(net, {"1": fb.LowRank(rank=1, learning=rule)})
    b, a, pathway = net[0].weight, net[1].weight, net[1].pathway
    for parameter, value in ((b, 0.1), (a, 0.2), (pathway.Q, 0.5), (pathway.P, 0.5)):
        parameter.data.fill_(value)
    rate, ratio = 2e-3, 0.8
    matrices = {"params": fb.pathway_parameters(net), "lr": rate * ratio}
    optimiser = torch.optim.SGD([{"params": [a, b], "lr": rate}, matrices])
    x = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(400):
        optimiser.zero_grad()
        (0.5 * (2.0 - net(x)) ** 2).sum().backward()
        optimiser.step()
    beta = float((pathway.Q @ pathway.P).detach())
    grown = float(a.detach()) - 0.2
    assert grown > 0.3
    assert beta == pytest.approx(0.25 * np.exp(2 * ratio * grown), rel=2e-3)
    assert beta > 0.4


def test_fixed_feedback_scalar_mode_has_its_conserved_quantity():
    """Fixed β: a − a₀ = (b² − b₀²) / 2β, so the mode ends where theory says."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    fb.attach(net, {"1": fb.Random()})
    b, a, beta = net[0].weight, net[1].weight, 0.7
    net[1].pathway.B.fill_(beta)
    a.data.fill_(1e-6)
    b.data.fill_(1e-6)
    optimiser = torch.optim.SGD([a, b], lr=5e-3)
    x = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(800):
        optimiser.zero_grad()
        (0.5 * (5.0 - net(x)) ** 2).sum().backward()
        optimiser.step()
    assert float((a * b).detach()) == pytest.approx(5.0, abs=1e-6)
    assert float(b.detach()) == pytest.approx((2 * beta * 5.0) ** (1 / 3), rel=5e-3)
