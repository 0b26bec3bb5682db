"""SVD space: direct feedback by factors, from the output to any layer."""

import copy
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks import factored_layers, factorise

FACTORED = runpy.run_path(str(Path(__file__).with_name("factored.py")))
mlp = FACTORED["mlp"]
convolutional = FACTORED["convolutional"]
batch = FACTORED["batch"]
gradients = FACTORED["gradients"]
close = FACTORED["close"]


def direct(network, x, names=("2", "4"), **settings):
    last = list(factored_layers(network))[-1]
    spec = fb.SVDSpaceDirect(source=last, **settings)
    return fb.attach(network, dict.fromkeys(names, spec), example_input=x)


def test_with_one_hidden_layer_and_the_readouts_factors_ssa_dfa_is_backpropagation():
    network = mlp(sizes=(12, 9, 4))
    x, y = batch(network)
    plain, expected = copy.deepcopy(network), gradients(network, x, y)
    direct(network, x, ["2"])
    assert torch.equal(network(x), plain(x))
    before = gradients(network, x, y)
    assert before["0.U"].norm() > 0
    assert not torch.allclose(before["0.U"], expected["0.U"])
    pathway = network[2].pathway
    u, s, vt = torch.linalg.svd(plain[2].dense_weight().detach(), full_matrices=False)
    for buffer, value in ((pathway.B_U, vt.T), (pathway.B_S, s), (pathway.B_V, u)):
        buffer.copy_(value)
    close(gradients(network, x, y), expected, 1e-10)
    assert fb.fired(network) == {"2": 2}


def test_ssa_dfa_brings_the_error_by_its_factors_alone():
    network = mlp()
    x, y = batch(network)
    direct(network, x)
    found = gradients(network, x, y)
    e = (torch.softmax(network(x), 1) - functional.one_hot(y, 4)).detach() / len(x)
    h = torch.tanh(network[0](x)).detach()
    b, layer, q = network[2].pathway, network[0], 4
    assert (b.B_U.shape, b.B_S.shape, b.B_V.shape) == ((9, 4), (4,), (4, q))
    delta = ((e @ b.B_V) * b.B_S) @ b.B_U[:, :q].T * (1 - h**2)
    t = x @ layer.V.detach()
    close(
        {k: found[f"0.{k}"] for k in ("U", "V", "bias")},
        {
            "U": delta.T @ (t * layer.s.detach()),
            "V": x.T @ (delta @ layer.U.detach() * layer.s.detach()),
            "bias": delta.sum(0),
        },
        1e-10,
    )


def test_in_ssa_dfa_a_layers_gradient_does_not_see_the_layers_behind_it():
    network = mlp()
    x, _ = batch(network)
    e = torch.randn(6, 4, dtype=torch.float64)

    def first_layer():
        network.zero_grad()
        network(x).backward(e)
        return {name: p.grad.clone() for name, p in network[0].named_parameters()}

    local = first_layer()
    direct(network, x)
    before, readout = first_layer(), network[4].U.grad.clone()
    for layer in (network[2], network[4]):
        for factor in (layer.U, layer.s, layer.V, layer.bias):
            factor.data += 0.3 * torch.randn_like(factor)
    after = first_layer()
    for name in before:
        assert torch.equal(before[name], after[name]), name
        assert not torch.allclose(before[name], local[name]), name
    assert not torch.allclose(network[4].U.grad, readout)


@pytest.mark.parametrize(("rank", "q"), [(1, 1), (2, 2), (4, 4), (8, 4)])
def test_the_error_has_at_most_the_rank_of_its_feedback_and_of_the_classes(rank, q):
    network = mlp(sizes=(12, 9, 8, 4), activation=nn.Identity)
    x, y = batch(network, 30)
    direct(network, x, rank=rank)
    errors = []
    network[1].register_full_backward_hook(lambda module, given, received: errors.append(given[0]))
    functional.cross_entropy(network(x), y).backward()
    assert network[2].pathway.B_S.shape == (q,)
    rank_found = torch.linalg.matrix_rank(errors[0], rtol=1e-10)
    assert rank_found == min(q, 3)  # softmax minus one-hot sums to zero over 4 classes


def test_a_map_gets_the_error_flat_or_the_same_at_every_pixel():
    for spatial in ("flat", "broadcast"):
        network = convolutional()
        x, y = batch(network)
        direct(network, x, ["6", "10"], spatial=spatial)
        pathway, errors = network[6].pathway, []
        assert len(pathway.B_U) == (6 if spatial == "broadcast" else 6 * 4 * 7)
        assert pathway.follows == "3"
        network[5].register_full_backward_hook(
            lambda module, given, received, errors=errors: errors.append(received)
        )
        e = (torch.softmax(network(x), 1) - functional.one_hot(y, 3)).detach() / len(x)
        functional.cross_entropy(network(x), y).backward()
        g = ((e @ pathway.B_V) * pathway.B_S) @ pathway.B_U[:, :3].T
        if spatial == "broadcast":
            expected = (g / 28**0.5)[:, :, None, None].expand(6, 6, 4, 7)
            torch.testing.assert_close(expected.flatten(1).norm(dim=1), g.norm(dim=1))
        else:
            expected = g.reshape(6, 6, 4, 7)
        torch.testing.assert_close(errors[0][0], expected)


def test_the_size_of_direct_feedback():
    sizes = {}
    for match in (False, True):
        net = factorise(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)), 0.5)
        pathway = direct(net, torch.zeros(2, 64), ["2"], match_energy=match)[2].pathway
        sizes[match] = pathway.B_S
        for matrix in (pathway.B_U, pathway.B_V):
            gram = matrix.T @ matrix
            torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0.0)
        assert pathway.B_U.shape == (256, 32)  # the rank of the layer before
    torch.testing.assert_close(sizes[True].square().mean().sqrt(), torch.tensor(2**0.5))
    edges = [(256**0.5 + sign * 10**0.5) / 10**0.5 for sign in (-1, 1)]  # Marchenko-Pastur
    assert edges[0] - 0.5 < sizes[False].min() < sizes[False].max() < edges[1] + 0.5


def test_a_cut_of_direct_feedback_keeps_the_columns_that_carry_the_error():
    network = mlp(rank=1.0, sizes=(12, 9, 4))
    x, _ = batch(network)
    pathway = direct(network, x, ["2"], rank=8)[2].pathway
    old = pathway.B_U.clone()
    pathway.truncate([7, 1, 5, 0, 6, 2])
    assert torch.equal(pathway.B_U, old[:, [0, 1, 2, 3, 7, 5]])
    pathway.truncate([0])
    assert torch.equal(pathway.B_U, old[:, :4])
