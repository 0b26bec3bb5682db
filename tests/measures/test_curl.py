"""The curl index: known answers, estimators against exact Jacobians, and what it depends on."""

import numpy as np
import pytest
import torch
from torch import nn

from neurofb.feedback import Random, attach
from neurofb.measures import curl_index, jacobian, largest_real_eigenvalue, rule_curl, update_field
from neurofb.measures.jacobian import linearise
from neurofb.theory.curl_index import curl_index_of_flips

SIZES, NUM_IMAGES = (6, 8, 3), 40
ACTIVATIONS = {"linear": lambda a: a, "tanh": torch.tanh}


class TwoLayers:
    """A 6-8-3 student without biases, its loss and its rules, written by hand with torch."""

    def __init__(self, activation, seed=0):
        draw = torch.Generator().manual_seed(seed)
        m, n, k = SIZES
        self.phi = ACTIVATIONS[activation]
        self.x = torch.randn(m, NUM_IMAGES, generator=draw, dtype=torch.float64)
        self.t = torch.randn(k, NUM_IMAGES, generator=draw, dtype=torch.float64)
        self.b = torch.randn(n, k, generator=draw, dtype=torch.float64) / k**0.5
        self.theta = torch.randn(n * m + k * n, generator=draw, dtype=torch.float64) / 2

    def split(self, theta):
        m, n, k = SIZES
        return theta[: n * m].reshape(n, m), theta[n * m :].reshape(k, n)

    def loss(self, theta):
        w1, w2 = self.split(theta)
        return (w2 @ self.phi(w1 @ self.x) - self.t).square().sum() / (2 * NUM_IMAGES)

    def gradient(self, theta):
        theta = theta if theta.requires_grad else theta.detach().requires_grad_()
        return torch.autograd.grad(self.loss(theta), theta, create_graph=True)[0]

    def signs(self, hidden, readout):
        """Return D for the first inputs and the first hidden neurons flipped."""
        m, n, k = SIZES
        first, second = torch.ones(n, m).double(), torch.ones(k, n).double()
        first[:, :hidden], second[:, :readout] = -1, -1
        return torch.cat([first.flatten(), second.flatten()])

    def alignment(self, theta):
        """Return the update of feedback alignment: W2ᵀ is replaced by B."""
        w1, w2 = self.split(theta)
        a = w1 @ self.x
        h = self.phi(a)
        slope = torch.ones_like(a) if self.phi is ACTIVATIONS["linear"] else 1 - h.square()
        e = (w2 @ h - self.t) / NUM_IMAGES
        return -torch.cat([((self.b @ e) * slope @ self.x.T).flatten(), (e @ h.T).flatten()])

    def network(self, feedback=True):
        """Return the same network as a module, with B as its pathway."""
        m, n, k = SIZES
        phi = nn.Identity() if self.phi is ACTIVATIONS["linear"] else nn.Tanh()
        net = nn.Sequential(nn.Linear(m, n, bias=False), phi, nn.Linear(n, k, bias=False)).double()
        w1, w2 = self.split(self.theta)
        net[0].weight.data, net[2].weight.data = w1.clone(), w2.clone()
        if feedback:
            attach(net, {"2": Random()})
            net[2].pathway.B.copy_(self.b.T)
        return net


def unchecked(function):
    """Return a function without the type checker of tests."""
    return getattr(function, "__wrapped__", function)


def index(*args, **kwargs):
    return float(curl_index(*args, **kwargs).curl_index)


def test_a_saddle_with_one_flip_only_rotates():
    field = lambda x: torch.stack([-x[1], x[0]])  # noqa: E731  L = x y, flipped in the second
    theta = torch.tensor([0.3, -2.0], dtype=torch.float64)
    assert jacobian(field, theta).tolist() == [[0, -1], [1, 0]]
    assert index(field, theta) == 1
    assert index(field, theta, num_probes=5) == 1
    assert index(field, theta, derivative="difference") == pytest.approx(1, abs=1e-9)
    eigenvalues = largest_real_eigenvalue(field, theta, num_eigenvalues=2)
    assert eigenvalues.eigenvalue_real.values.tolist() == [0, 0]
    assert sorted(eigenvalues.eigenvalue_imaginary.values) == [-1, 1]
    assert float(eigenvalues.complex_share) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_descent_and_ascent_have_no_curl(activation):
    net = TwoLayers(activation)
    for sign in (-1, 1):
        assert index(lambda t, s=sign: s * net.gradient(t), net.theta) < 1e-14
        assert index(lambda t, s=sign: s * net.gradient(t), net.theta, num_probes=10) < 1e-14


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_flips_exact_closed_form_and_probes_agree(activation):
    net = TwoLayers(activation)
    signs = net.signs(2, 3)
    field = lambda theta: -signs * net.gradient(theta)  # noqa: E731
    hessian = torch.autograd.functional.hessian(net.loss, net.theta)
    expected = curl_index_of_flips(hessian.numpy(), signs.numpy())
    assert 0.3 < expected < 0.7
    assert index(field, net.theta) == pytest.approx(expected, abs=1e-10)
    assert index(field, net.theta, derivative="difference") == pytest.approx(expected, abs=1e-6)
    for derivative in ("autograd", "difference"):
        found = curl_index(field, net.theta, num_probes=200, derivative=derivative)
        error = float(found.standard_error)
        assert 0 < error < 0.02
        assert abs(float(found.curl_index) - expected) < 4 * error
        assert float(found.jacobian_norm) == pytest.approx(float(hessian.norm()), rel=0.1)
    same = curl_index(field, net.theta, num_probes=200, derivative="difference")
    assert same.identical(found)


def test_strengths_between_and_frozen_parameters():
    net = TwoLayers("tanh")
    hessian = torch.autograd.functional.hessian(net.loss, net.theta).numpy()
    for strength in (0.25, 0.5):
        signs = 1 - strength * (1 - net.signs(2, 3))
        expected = curl_index_of_flips(hessian, signs.numpy())
        field = lambda theta, d=signs: -d * net.gradient(theta)  # noqa: E731
        assert index(field, net.theta) == pytest.approx(expected, abs=1e-10)
    both = curl_index_of_flips(np.stack([hessian, hessian]), np.stack([signs, -signs]))
    np.testing.assert_allclose(both, expected)
    assert np.isnan(curl_index_of_flips(hessian, 0 * signs.numpy()))
    with pytest.raises(ValueError, match="must be symmetric"):
        curl_index_of_flips(np.triu(hessian), signs.numpy())
    with pytest.raises(ValueError, match=r"hessian of shape \(72, 72\) and signs of shape \(3,\)"):
        unchecked(curl_index_of_flips)(hessian, np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        curl_index_of_flips(hessian, np.full(72, np.nan))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feedback_alignment_by_hand_and_by_the_pathway(activation):
    net = TwoLayers(activation)
    exact = index(net.alignment, net.theta)
    assert 0.3 < exact < 0.7
    for derivative in ("autograd", "difference"):
        found = curl_index(net.alignment, net.theta, num_probes=200, derivative=derivative)
        assert abs(float(found.curl_index) - exact) < 4 * float(found.standard_error) < 0.1
    field, theta = update_field(net.network(), net.x.T, net.t.T, loss="mse")
    torch.testing.assert_close(field(theta), net.alignment(net.theta), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        jacobian(field, theta, "difference"), jacobian(net.alignment, net.theta), rtol=0, atol=1e-7
    )
    assert index(field, theta, derivative="difference") == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_copy_of_the_weight_gives_the_gradient_and_yet_curl(activation):
    net = TwoLayers(activation)
    aligned = net.network()
    aligned[2].pathway.B.copy_(aligned[2].weight.detach())  # the gradient, at this θ only
    field, theta = update_field(aligned, net.x.T, net.t.T, loss="mse")
    torch.testing.assert_close(field(theta), -net.gradient(net.theta).detach())
    assert index(field, theta, derivative="difference") > 0.1
    # of the Hessian it lacks how the first layer's update depends on the second layer's weight
    # through the error's way back, and nothing else
    hessian = torch.autograd.functional.hessian(net.loss, net.theta)
    lacks = jacobian(field, theta, "difference") + hessian
    first = SIZES[0] * SIZES[1]
    assert float(lacks[:first, first:].abs().max()) > 0.1
    lacks[:first, first:] = 0
    assert float(lacks.abs().max()) < 1e-7


def test_the_jacobian_of_feedback_alignment_in_a_linear_network():
    net = TwoLayers("linear")
    w1, w2, b, x, t = (v.numpy() for v in (*net.split(net.theta), net.b, net.x, net.t))
    sigma, cross = x @ x.T / NUM_IMAGES, t @ x.T / NUM_IMAGES
    error, k, n = w2 @ w1 @ sigma - cross, *w2.shape
    blocks = [
        [np.einsum("ia,bj->ijab", b @ w2, sigma), np.einsum("ik,lj->ijkl", b, w1 @ sigma)],
        [
            np.einsum("ka,bl->klab", w2, sigma @ w1.T) + np.einsum("kb,la->klab", error, np.eye(n)),
            np.einsum("km,nl->klmn", np.eye(k), w1 @ sigma @ w1.T),
        ],
    ]
    sizes = (w1.size, w2.size)
    rows = [[v.reshape(sizes[i], sizes[j]) for j, v in enumerate(r)] for i, r in enumerate(blocks)]
    expected = -np.block(rows)
    np.testing.assert_allclose(jacobian(net.alignment, net.theta), expected, atol=1e-12)


def test_backpropagation_of_a_network_has_none():
    net = TwoLayers("tanh")
    field, theta = update_field(net.network(feedback=False), net.x.T, net.t.T, loss="mse")
    assert index(field, theta, derivative="difference") < 1e-8
    found = curl_index(field, theta, num_probes=30, derivative="difference")
    assert float(found.squared_index) < 1e-9
    assert float(found.standard_error) < 1e-4
    classes = torch.arange(NUM_IMAGES) % 3
    measured = rule_curl(net.network(feedback=False), net.x.T, classes)
    assert float(measured.curl_index) < 1e-4
    assert float(measured.gradient_cosine) == pytest.approx(1)
    assert float(measured.flipped_power) == 0


def test_independent_entries_give_one_over_root_two():
    matrix = torch.randn(300, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = torch.zeros(300, dtype=torch.float64)
    exact = index(lambda v: matrix @ v, theta)
    assert exact == pytest.approx(0.5**0.5, abs=0.005)
    assert exact == pytest.approx(float((matrix - matrix.T).norm() / 2 / matrix.norm()), abs=1e-12)


def test_the_index_depends_on_the_metric():
    net = TwoLayers("tanh")
    rates = torch.ones_like(net.theta)
    rates[: SIZES[0] * SIZES[1]] = 0.1  # plain descent, the first layer ten times slower
    assert index(lambda theta: -rates * net.gradient(theta), net.theta) > 0.2


def test_the_standard_error_is_that_of_repeated_measurements():
    net = TwoLayers("tanh")
    for derivative in ("autograd", "difference"):
        found = [
            curl_index(net.alignment, net.theta, num_probes=10, seed=s, derivative=derivative)
            for s in range(50)
        ]
        spread = np.std([float(one.curl_index) for one in found], ddof=1)
        claimed = np.mean([float(one.standard_error) for one in found])
        assert 0.7 < claimed / spread < 1.4
        mean = np.mean([float(one.squared_index) for one in found])
        exact = index(net.alignment, net.theta) ** 2
        scatter = np.std([float(one.squared_index) for one in found]) / len(found) ** 0.5
        assert abs(mean - exact) < 4 * scatter


def test_a_field_without_a_jacobian_has_no_index():
    theta = torch.ones(3, dtype=torch.float64)
    for probes in (None, 4):
        assert np.isnan(index(lambda x: 0 * x, theta, num_probes=probes))


def test_what_is_refused():
    theta = torch.ones(3, dtype=torch.float64)
    refused = {
        "num_probes=1 must be at least 2": lambda: curl_index(torch.sin, theta, num_probes=1),
        "derivative='exact' must be one of autograd, difference": lambda: unchecked(linearise)(
            torch.sin, theta, "exact"
        ),
        r"theta of shape \(1, 3\)": lambda: unchecked(linearise)(torch.sin, theta[None]),
        "theta holds NaN": lambda: curl_index(torch.sin, theta * float("nan")),
        "returns NaN": lambda: curl_index(torch.log, -theta),
        r"field returns shape \(2,\), but theta has \(3,\)": lambda: curl_index(
            lambda x: x[:2], theta
        ),
        "field carries no derivatives": lambda: curl_index(lambda x: x.detach() ** 2, theta),
        "must be float64": lambda: curl_index(torch.sin, theta.float(), derivative="difference"),
        "theta has 10001 parameters": lambda: curl_index(torch.sin, torch.ones(10001)),
        "num_eigenvalues=4 must be from 1 to 3": lambda: largest_real_eigenvalue(
            torch.sin, theta, num_eigenvalues=4
        ),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_a_function_that_differentiates_once_is_named():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 2

    theta = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        curl_index(lambda x: Once.apply(x).square(), theta, num_probes=3)
