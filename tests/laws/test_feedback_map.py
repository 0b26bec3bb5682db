"""What a pathway's map is: unchanged forward, dense matrix, limits of full rank and zero."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from neurofb import feedback as fb

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's


def test_forward_is_unchanged_bit_for_bit(spec, case, usable, sandwich, attached):
    if not usable:
        pytest.skip("the law does not apply here")
    network, x = sandwich(case, torch.float32)
    before_eval, before = network.eval()(x), network.train()(x)
    attached(network, spec, x)
    assert type(network.layer) is not type(case.make())
    assert torch.equal(network(x), before)
    assert torch.equal(network.eval()(x), before_eval)
    with torch.no_grad():
        assert torch.equal(network(x), before)


def test_map_is_the_dense_matrix_of_its_kernel(
    spec, case, sandwich, attached, dense, effective_weight
):
    if isinstance(spec, fb.Direct | fb.DirectRandom):
        pytest.skip("the law does not apply here")
    network, x = sandwich(case)
    attached(network, spec, x)
    layer = network.layer
    h = torch.randn(case.shape, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    delta = torch.randn_like(out)
    error = torch.autograd.grad(out, h, delta)[0]
    copy = case.make().double()
    copy.weight.data = effective_weight(layer)
    expected = dense(copy, case.shape).T @ delta.flatten()
    torch.testing.assert_close(error.flatten(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_full_rank_with_svd_start_is_backpropagation(
    case, placement, dtype, tolerance, sandwich, attached
):
    network, x = sandwich(case, dtype)
    exact = deepcopy(network)
    full = fb.LowRank(rank=10**6, start="svd", learning=fb.Fixed(), spatial_factor=placement)
    attached(network, full, x)
    for net in (network, exact):
        (net(x) ** 2).sum().backward()
    for (name, p), q in zip(exact.named_parameters(), network.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= tolerance * p.grad.norm(), name
    assert network.below.grad.norm() > 0


def test_random_feedback_with_the_weight_itself_is_backpropagation(case, sandwich, attached):
    network, x = sandwich(case)
    exact = deepcopy(network)
    attached(network, fb.Random(), x)
    network.layer.pathway.B.copy_(network.layer.weight.detach())
    for net in (network, exact):
        net(x).square().sum().backward()
    for p, q in zip(exact.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-12)


def test_zero_feedback_gives_zero_gradient_below_and_the_same_at_the_layer(
    spec, case, usable, sandwich, attached
):
    if (
        not usable
        or isinstance(spec, fb.Exact)
        or getattr(spec, "learning", None) == fb.SvdRefresh(every=2)
    ):
        pytest.skip("the law does not apply here")
    network, x = sandwich(case)
    exact = deepcopy(network)
    attached(network, spec, x)
    for matrix in (*network.layer.pathway.parameters(), *network.layer.pathway.buffers()):
        matrix.data.zero_()
    network(x).square().sum().backward()
    exact(x).square().sum().backward()
    assert torch.equal(network.below.grad, torch.zeros_like(network.below))
    for name, p in exact.named_parameters():
        if name != "below":
            torch.testing.assert_close(
                network.get_parameter(name).grad, p.grad, rtol=1e-12, atol=1e-12
            )
    assert exact.below.grad.norm() > 0


def _error_below(layer: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    h = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(h)
    return torch.autograd.grad(out, h, torch.randn_like(out))[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_linear_errors_have_the_rank_of_the_feedback(rank):
    layer = fb.attach(nn.Linear(9, 7).double(), {"": fb.LowRank(rank=rank)})
    error = _error_below(layer, (20, 9))
    assert torch.linalg.matrix_rank(error, rtol=1e-10) == rank
    tokens = _error_below(layer, (4, 5, 9))
    assert torch.linalg.matrix_rank(tokens.flatten(0, 1), rtol=1e-10) == rank


@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_in_p_limits_the_rank_at_every_pixel_and_in_q_the_rank_of_z(stride):
    shape = (40, 8, 6, 6)
    ranks = {}
    for side in ("P", "Q"):
        conv = nn.Conv2d(8, 10, 3, stride=stride, padding=1).double()
        layer = fb.attach(conv, {"": fb.LowRank(rank=2, spatial_factor=side)})
        error = _error_below(layer, shape)
        ranks[side] = torch.linalg.matrix_rank(error[:, :, 3, 3], rtol=1e-10)
        everywhere = torch.linalg.matrix_rank(error.transpose(0, 1).flatten(1), rtol=1e-10)
        assert everywhere == (2 if side == "P" else 8)
        if side == "Q":  # all of the error's freedom passes through z = P δ of 2 channels
            delta = torch.randn(5, 10, 6 // stride, 6 // stride, dtype=torch.float64)
            p = layer.pathway.P.detach()[:, :, 0, 0]
            silent = delta - torch.einsum("oq,nqyx->noyx", p @ torch.linalg.pinv(p), delta)
            h = torch.randn(5, *shape[1:], dtype=torch.float64, requires_grad=True)
            blind = torch.autograd.grad(layer(h), h, silent)[0]
            assert blind.abs().max() < 1e-12
    assert ranks["P"] == 2
    assert ranks["Q"] > 2


def test_gradients_of_the_layer_itself_are_those_of_its_incoming_error(
    spec, case, usable, sandwich, attached
):
    """Only what goes further back changes: W, bias and everything above learn as under BP."""
    if not usable:
        pytest.skip("the law does not apply here")
    network, x = sandwich(case)
    exact = deepcopy(network)
    attached(network, spec, x)
    for net in (network, exact):
        net(x).square().sum().backward()
    for name, p in exact.named_parameters():
        if name != "below":
            torch.testing.assert_close(
                network.get_parameter(name).grad, p.grad, rtol=1e-11, atol=1e-12
            )
    same = torch.allclose(network.below.grad, exact.below.grad)
    full = isinstance(spec, fb.Exact) or case.make().weight.shape[1:] == (1, 3, 3)
    assert same or not isinstance(spec, fb.Exact)
    assert full or not same


def test_exact_backward_is_autograd_and_ends_with_its_block(spec, case, usable, sandwich, attached):
    if not usable:
        pytest.skip("the law does not apply here")
    network, x = sandwich(case)
    exact = deepcopy(network)
    attached(network, spec, x)
    expected = torch.autograd.grad(exact(x).square().sum(), list(exact.parameters()))
    parameters = [network.get_parameter(name) for name, _ in exact.named_parameters()]
    for _ in range(2):
        with fb.exact_backward(network), fb.exact_backward(network):
            found = torch.autograd.grad(network(x).square().sum(), parameters)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert fb.fired(network)["layer"] == 0
    network(x).sum().backward()
    assert fb.fired(network)["layer"] == 1


def test_exact_backward_ends_after_an_error_too(sandwich, attached):
    network = fb.attach(nn.Sequential(nn.Linear(3, 2)), {"0": fb.Random()})
    with pytest.raises(KeyError), fb.exact_backward(network):
        raise KeyError
    assert not network[0].exact
