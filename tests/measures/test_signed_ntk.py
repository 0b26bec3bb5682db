"""The signed kernel against the full Jacobian of the flow, and the theory of linear networks."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from neurofb import feedback as fb
from neurofb.measures import flip_stability, signed_ntk
from neurofb.measures.signed_ntk import output_jacobian, sign_diagonal
from neurofb.theory import linearised_eigenvalues
from neurofb.training import FlipSpec, flip_gradients, flip_masks

FLIPS = [FlipSpec(layer="0", indices=(1, 2)), FlipSpec(layer="2", fraction=0.4, seed=1)]


def linear(num_inputs: int, num_hidden: int, num_outputs: int) -> nn.Sequential:
    layers = nn.Linear(num_inputs, num_hidden), nn.Identity(), nn.Linear(num_hidden, num_outputs)
    return without_biases(nn.Sequential(*layers))


def without_biases(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Linear):
            layer.bias = None  # type: ignore[assignment]
    return network.double()


def deep() -> nn.Sequential:
    """4-5-5-2, tanh, 55 parameters."""
    layers = nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)
    return without_biases(nn.Sequential(*layers))


def flow_jacobian(network: nn.Module, inputs: Tensor, signs: Tensor) -> Tensor:
    """Return the Jacobian of -D ∇L where the targets are the outputs, by two derivatives of L."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    targets = network(inputs).detach()

    def loss(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        values = {n: part.view(s) for (n, s), part in zip(shapes.items(), parts, strict=True)}
        outputs = functional_call(network, values, (inputs,))
        return (outputs - targets).square().sum() / (2 * len(inputs))

    theta = torch.cat([p.detach().flatten() for p in network.parameters()])
    return jacrev(lambda t: -signs * grad(loss)(t))(theta)


NETWORKS: dict[str, Any] = {
    "linear": lambda: linear(4, 7, 1),
    "two outputs": lambda: linear(4, 7, 2),
    "deep tanh": deep,
    "biases": lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2)).double(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_eigenvalues_of_the_flow_are_those_of_the_kernel(name: str):
    network, inputs = NETWORKS[name](), torch.randn(3, 4, dtype=torch.float64)
    full = torch.linalg.eigvals(flow_jacobian(network, inputs, sign_diagonal(network, FLIPS)))
    assert full.imag.abs().max() < 1e-7  # rounding of a multiple zero
    answer = flip_stability(network, inputs, FLIPS)
    rank = answer.sizes["eigenvalue"]
    nonzero = full[full.abs().argsort(descending=True)[:rank]]
    assert nonzero.imag.abs().max() < 1e-10
    expected = nonzero.real.sort(descending=True).values
    np.testing.assert_allclose(answer.growth_rate, expected, rtol=1e-6, atol=1e-10)
    kernel = torch.linalg.eigvalsh(-signed_ntk(network, inputs, FLIPS)).flip(0)
    if rank == len(kernel):
        np.testing.assert_allclose(kernel, expected, rtol=1e-6, atol=1e-10)
    assert answer.num_unstable == (full.real > 1e-6).sum()


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_linear_networks_have_the_rates_of_theory(num_outputs: int):
    network, inputs = linear(4, 9, num_outputs), torch.randn(50, 4, dtype=torch.float64)
    w1, w2 = (p.detach().numpy() for p in network.parameters())
    d1, d2 = (sign.numpy().ravel() for sign in flip_masks(network, FLIPS).values())
    sigma = (inputs.T @ inputs / len(inputs)).numpy()
    theory = linearised_eigenvalues(w1, w2, d1, d2, input_covariance=sigma)
    answer = flip_stability(network, inputs, FLIPS)
    np.testing.assert_allclose(answer.growth_rate, theory, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_strict_minimum_has_an_unstable_direction_for_each_flip(count: int):
    """More data than parameters of full rank: Sylvester's law counts."""
    network, inputs = nn.Linear(5, 1).double(), torch.randn(30, 5, dtype=torch.float64)
    answer = flip_stability(network, inputs, [FlipSpec(layer="", count=count)])
    assert answer.jacobian_rank == answer.num_parameters == 6
    assert answer.num_unstable == answer.num_flipped == count
    assert bool(answer.possible) == bool(answer.stable) == (count == 0)


def test_stability_needs_enough_positive_signs():
    network, inputs = deep(), torch.randn(8, 4, dtype=torch.float64)
    for fraction in (0.0, 0.2, 0.6, 1.0):
        answer = flip_stability(network, inputs, [FlipSpec(layer="*", fraction=fraction)])
        left = answer.num_parameters - answer.num_flipped
        assert bool(answer.possible) == (left >= answer.jacobian_rank)
        assert answer.num_unstable >= answer.jacobian_rank - left
    assert answer.num_unstable == answer.jacobian_rank  # ascent


def test_growth_is_what_learning_does():
    """A small error along the fastest direction grows at its rate in curl descent itself."""
    network = linear(4, 6, 1)
    inputs = torch.randn(20, 4, dtype=torch.float64)
    flips = [FlipSpec(layer="0", count=3)]
    answer = flip_stability(network, inputs, flips)
    rate = float(answer.growth_rate[0])
    assert rate > 0
    targets = network(inputs).detach()
    values, vectors = torch.linalg.eig(
        flow_jacobian(network, inputs, sign_diagonal(network, flips))
    )
    start = torch.cat([p.detach().flatten() for p in network.parameters()])
    start += 1e-7 * vectors[:, values.real.argmax()].real
    nn.utils.vector_to_parameters(start, network.parameters())
    eta, losses = 0.01, []
    optimiser = torch.optim.SGD(network.parameters(), lr=eta)
    flip_gradients(network, flips).on(optimiser)
    for _ in range(101):
        loss = (network(inputs) - targets).square().sum() / (2 * len(inputs))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] / losses[0] == pytest.approx((1 + eta * rate) ** 200, rel=1e-3)


def test_why_it_is_unstable():
    """One flipped input that nothing else can correct carries the direction that grows."""
    network, inputs = linear(4, 2, 1), torch.randn(40, 4, dtype=torch.float64)
    with torch.no_grad():
        network[0].weight[:, 2] = 0  # no other weight can move this input's part of the map
    flips = [FlipSpec(layer="0", indices=(2,)), FlipSpec(layer="2", indices=(0,), strength=0.2)]
    answer = flip_stability(network, inputs, flips)
    assert answer.num_unstable == 1
    assert answer.unit_share.values[0] == pytest.approx(float(answer.flipped_share[0]))
    assert answer.unit_share.values[0] > answer.unit_share.values[1]
    assert answer.layer.values.tolist() == ["0", "2"]
    assert answer.unit.values.tolist() == [2, 0]
    assert "unstable: 1 of 4 errors grow" in answer.attrs["verdict"]
    assert "presynaptic neuron 2 of layer '0'" in answer.attrs["verdict"]
    plain = flip_stability(network, inputs, [])
    assert plain.attrs["verdict"].startswith("stable: all 4 errors decay")
    assert plain.sizes["unit"] == 0
    frozen = [FlipSpec(layer="*", fraction=1, strength=0.5)]
    still = flip_stability(network, inputs, frozen)
    assert not still.stable
    assert not still.possible
    assert still.num_unstable == 0
    assert still.attrs["verdict"] == "not stable: 4 of 4 errors neither grow nor decay"


def test_shares_are_of_the_eigenvector():
    network, inputs = deep(), torch.randn(4, 4, dtype=torch.float64)
    signs = sign_diagonal(network, FLIPS)
    values, vectors = torch.linalg.eig(flow_jacobian(network, inputs, signs))
    fastest = vectors[:, values.real.argmax()].real
    share = fastest[signs < 0].square().sum() / fastest.square().sum()
    answer = flip_stability(network, inputs, FLIPS)
    assert float(answer.flipped_share[0]) == pytest.approx(float(share), rel=1e-6)
    # flips of one side: the synapses of different neurons do not overlap
    assert float(answer.unit_share.sum()) == pytest.approx(float(share), rel=1e-6)


def test_without_flips_it_is_the_tangent_kernel():
    network, inputs = deep(), torch.randn(5, 4, dtype=torch.float64)
    rows = []
    for out in network(inputs).flatten():
        parts = torch.autograd.grad(out, list(network.parameters()), retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    jacobian = torch.stack(rows)
    torch.testing.assert_close(signed_ntk(network, inputs), jacobian @ jacobian.T / 5)


def test_pathways_and_modes_play_no_part():
    network = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
    inputs = torch.randn(3, 4)
    plain = signed_ntk(network, inputs)
    rule = fb.Random(learning=fb.KolenPollack())
    carrying = fb.attach(network, {"2": rule}).train()
    before = {name: value.clone() for name, value in carrying.named_parameters()}
    assert torch.equal(signed_ntk(carrying, inputs), plain)
    assert carrying.training
    assert fb.fired(carrying) == {"2": 0}
    for name, value in carrying.named_parameters():
        assert torch.equal(value, before[name])


def test_convolutions():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    network = network.double()
    flips = [FlipSpec(layer="0", count=1), FlipSpec(layer="3", fraction=0.5)]
    jacobian = flow_jacobian(network, inputs, sign_diagonal(network, flips))
    full = torch.linalg.eigvals(jacobian).real.sort(descending=True).values
    rates = torch.from_numpy(flip_stability(network, inputs, flips).growth_rate.values.copy())
    torch.testing.assert_close(rates[rates < -1e-6], full[full < -1e-6], rtol=1e-6, atol=1e-9)


def test_signs_by_name():
    network, inputs = linear(4, 6, 1), torch.randn(3, 4)
    by_name = signed_ntk(network, inputs, flip_masks(network, FLIPS))
    assert torch.equal(by_name, signed_ntk(network, inputs, FLIPS))


def test_bad_input():
    network, inputs = linear(4, 6, 1), torch.randn(3, 4)
    with pytest.raises(ValueError, match="inputs: there must be at least one"):
        signed_ntk(network, inputs[:0])
    with pytest.raises(ValueError, match=r"signs: 1.weight must be among .*: 0.weight, 2.weight"):
        signed_ntk(network, inputs, {"1.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"signs\['0.weight'\] of shape \(3,\) must broadcast to"):
        signed_ntk(network, inputs, {"0.weight": torch.ones(3)})
    with pytest.raises(ValueError, match="no parameter that learns"):
        inspect.unwrap(output_jacobian)(nn.Identity(), inputs)
    with pytest.raises(ValueError, match="the derivatives of its outputs hold NaN"):
        flip_stability(network, inputs * float("nan"), [])
    dead = nn.Sequential(nn.Linear(4, 2), nn.Threshold(1e9, 0.0))
    with pytest.raises(ValueError, match="the outputs do not depend on the parameters"):
        flip_stability(dead, inputs, [])
