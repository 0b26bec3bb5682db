"""Alignment where its numbers are known: small networks whose feedback is chosen."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.measures import alignment
from neurofb.measures.overlap import captured_energy, compare, orthonormality_drift, project
from neurofb.networks import factorise


def mlp():
    layers = [nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 4)]
    return nn.Sequential(*layers).double()


def batch():
    return torch.randn(10, 7).double(), torch.arange(10) % 4


def test_feedback_with_the_weight_itself_is_aligned():
    network = fb.attach(mlp(), {"2": fb.Random(), "4": fb.Random()})
    for index in (2, 4):
        network[index].pathway.B.copy_(2 * network[index].weight.detach())
    answer = alignment(network, *batch())
    np.testing.assert_allclose(answer.gradient_cosine, 1)
    np.testing.assert_allclose(answer.gradient_norm_ratio, [4, 2, 1])
    for name in ("delta_angle", "weight_angle"):
        np.testing.assert_allclose(answer[name], [np.nan, 0, 0], atol=1e-5)
    for name in ("error_norm_ratio", "matrix_norm_ratio"):
        np.testing.assert_allclose(answer[name], [np.nan, 2, 2])
    np.testing.assert_allclose(answer.relative_distance, [np.nan, 1, 1])


def test_factored_layers_have_a_weight_to_compare_the_feedback_with():
    network = factorise(mlp(), 0.5)
    fb.attach(network, {"2": fb.SVDSpace(), "4": fb.SVDSpace()})
    away = alignment(network, *batch()).weight_angle.values
    assert np.isnan(away[0])
    assert ((away[1:] > 45) & (away[1:] < 135)).all()
    for _, layer in fb.feedback_layers(network):
        layer.pathway.copy_from_layer(layer)
        layer.pathway.B_S.mul_(2)
    answer = alignment(network, *batch())
    for name in ("delta_angle", "weight_angle"):
        np.testing.assert_allclose(answer[name], [np.nan, 0, 0], atol=1e-5)
    np.testing.assert_allclose(answer.matrix_norm_ratio, [np.nan, 2, 2])
    np.testing.assert_allclose(answer.relative_distance, [np.nan, 1, 1])


def test_angles_of_a_tensor_to_itself_to_its_negative_and_to_an_independent_one():
    a, b = torch.randn(2, 100, 200, generator=torch.Generator().manual_seed(0))
    assert compare(a, a).angle == pytest.approx(0, abs=1e-3)
    assert compare(a, -a).angle == pytest.approx(180, abs=1e-3)
    assert compare(a, b).angle == pytest.approx(90, abs=3 * 0.405)  # 1 / √20 000 rad is 0.405°


def test_full_rank_from_the_svd_is_backpropagation():
    spec = fb.LowRank(rank=99, start="svd", clip_rank=True, learning=fb.Fixed())
    answer = alignment(fb.attach(mlp(), {"2": spec, "4": spec}), *batch())
    np.testing.assert_allclose(answer.gradient_cosine, 1)
    np.testing.assert_allclose(answer.delta_angle, [np.nan, 0, 0], atol=1e-5)
    np.testing.assert_allclose(answer.relative_distance, [np.nan, 0, 0], atol=1e-12)
    np.testing.assert_allclose(answer.captured_energy, [np.nan, 1, 1])


def test_parts_of_a_batch_add_up():
    pathways = {"2": fb.LowRank(rank=2), "4": fb.Direct(source="4", rank=2)}
    network = fb.attach(mlp(), {"2": pathways["2"], "4": fb.LowRank(rank=3)})
    x, y = batch()
    whole = alignment(network, x, y)
    for size in (1, 3, 10, 99):
        # the effective rank is taken from second moments: half the digits
        np.testing.assert_allclose(
            alignment(network, x, y, batch_size=size).to_dataarray(),
            whole.to_dataarray(),
            rtol=1e-6,
        )


def test_pathway_of_the_first_layer_has_a_matrix_but_no_error():
    network = fb.attach(mlp(), {"0": fb.LowRank(rank=2)})
    first = alignment(network, *batch()).sel(layer="0")
    assert math.isnan(first.delta_angle)
    assert math.isnan(first.captured_energy)
    assert np.isfinite(first.weight_angle)
    assert first.orthonormality_drift == pytest.approx(0, abs=1e-6)


def test_weights_that_do_not_learn_have_no_gradient():
    network = mlp()
    network[2].weight.requires_grad_(False)
    assert alignment(network, *batch()).gradient_cosine.isnull().values.tolist() == [0, 1, 0]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("placement", ["Q", "P"])
def test_captured_energy_of_a_convolution_is_that_of_its_channels(placement, groups):
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3, groups=groups), nn.Flatten()
    )
    network.append(nn.Linear(4 * 9, 4))
    spec = fb.LowRank(rank=1, spatial_factor=placement, learning=fb.Fixed())
    fb.attach(network, {"2": spec})
    x, y = torch.randn(5, 2, 7, 7), torch.arange(5) % 4
    seen = {}
    below = network[1].register_forward_hook(lambda m, a, out: out.retain_grad() or put("h", out))
    above = network[2].register_forward_hook(lambda m, a, out: out.retain_grad() or put("a", out))

    def put(name, value):
        seen[name] = value

    with fb.exact_backward(network):
        functional.cross_entropy(network(x), y).backward()
    below.remove(), above.remove()
    # nothing lies behind the convolution: δ is that of backpropagation
    errors = seen["a" if placement == "Q" else "h"].grad
    pathway = network[2].pathway
    kernel = pathway.P.detach() if placement == "Q" else pathway.Q.detach()
    kept = 0.0
    for group, part in enumerate(errors.chunk(groups, 1)):
        rows = kernel[:, :, 0, 0].reshape(groups, -1, *kernel.shape[1:2])[group]
        direction = rows[:, 0] if placement == "Q" else rows[0]
        unit = direction / direction.norm()
        kept += float(torch.einsum("bcyx,c->byx", part, unit).square().sum())
    found = alignment(network, x, y).sel(layer="2")
    assert found.captured_energy == pytest.approx(kept / float(errors.square().sum()), rel=1e-5)


class Attention(nn.Module):
    """Three maps of the same input, one of them called twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 5)
        self.q, self.k, self.v = (nn.Linear(5, 5) for _ in range(3))
        self.readout = nn.Linear(5, 4)

    def forward(self, x):
        h = self.embed(x)
        h = self.q(h) * self.k(h) + self.v(h)
        return self.readout(torch.relu_(self.v(h)).mean(1))


def test_errors_of_maps_that_share_an_input_are_told_apart():
    x, y = torch.randn(8, 3, 6), torch.arange(8) % 4
    network = fb.attach(Attention(), {name: fb.Exact() for name in "qk"})
    answer = alignment(network, x, y).sel(layer=["q", "k"])
    np.testing.assert_allclose(answer.delta_angle, 0, atol=1e-3)
    np.testing.assert_allclose(answer.error_norm_ratio, 1, rtol=1e-5)


def test_a_layer_that_runs_twice_is_one_row_of_both_calls():
    x, y = torch.randn(8, 3, 6), torch.arange(8) % 4
    network = fb.attach(Attention(), {"v": fb.Random()})
    with torch.no_grad():
        network.v.pathway.B.copy_(-3 * network.v.weight)
    answer = alignment(network, x, y)
    assert answer["layer"].values.tolist() == ["embed", "q", "k", "v", "readout"]
    assert answer.delta_angle.sel(layer="v") == pytest.approx(180, abs=1e-3)
    assert answer.error_norm_ratio.sel(layer="v") == pytest.approx(3, rel=1e-5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand, self.contract = nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, h):
        return self.contract(torch.relu_(self.expand(h)))


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 5)
        self.block = Block()
        self.readout = nn.Linear(5, 4)

    def forward(self, x):
        h = self.stem(x)
        return self.readout(torch.tanh(h + self.block(h)))


def test_a_direct_pathway_on_a_block_is_a_row_of_its_own():
    x, y = torch.randn(8, 6), torch.arange(8) % 4
    network = fb.attach(
        Blocks(), {"block": fb.Direct(source="readout", rank=2)}, example_input=x, seed=3
    )
    answer = alignment(network, x, y)
    names = ["stem", "block", "block.expand", "block.contract", "readout"]
    assert answer["layer"].values.tolist() == names
    block = answer.sel(layer="block")
    assert math.isnan(block.gradient_cosine)
    # what exact backpropagation brings to the block's input, without the residual's part
    h = network.stem(x).detach()
    alias = h.clone().requires_grad_()
    with fb.exact_backward(network):
        logits = network.readout(torch.tanh(h + network.block(alias)))
        logits.retain_grad()
        functional.cross_entropy(logits, y).backward()
    q, p = network.block.pathway.Q.detach(), network.block.pathway.P.detach()
    expected = compare(logits.grad @ p.T @ q.T, alias.grad)
    assert block.delta_angle == pytest.approx(expected.angle, rel=1e-4)
    assert block.error_norm_ratio == pytest.approx(expected.norm_ratio, rel=1e-4)
    energy = captured_energy(logits.grad, p.T)
    assert block.captured_energy == pytest.approx(energy, rel=1e-4)


def test_kernels_at_their_limits():
    zero, one = torch.zeros(3), torch.ones(3)
    assert math.isnan(compare(zero, one).angle)
    assert compare(zero, one).norm_ratio == 0
    assert math.isnan(compare(one, zero).norm_ratio)
    assert compare(one, -one).cosine == pytest.approx(-1)
    assert compare(one, 3 * one).relative_distance == pytest.approx(2 / 3)
    assert math.isnan(captured_energy(torch.zeros(2, 3), torch.eye(3)))
    assert captured_energy(torch.randn(2, 3), torch.zeros(3, 2)) == 0
    assert orthonormality_drift(torch.zeros(5, 2)) == 1
    assert orthonormality_drift(torch.ones(1, 4)) == pytest.approx(3**0.5)


def test_a_direction_given_twice_or_scaled_counts_once():
    rows, directions = torch.randn(20, 6).double(), torch.randn(6, 2).double()
    skewed = torch.cat([directions * 5, directions @ torch.ones(2, 1).double()], 1)
    np.testing.assert_allclose(project(rows, skewed), project(rows, directions), atol=1e-12)
