"""SVD space: gradients of factors, feedback by factors, what a step on factors does to W."""

import copy
import io
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks import SVDConv2d, SVDLinear, factored_layers

FACTORED = runpy.run_path(str(Path(__file__).with_name("factored.py")))
mlp = FACTORED["mlp"]
convolutional = FACTORED["convolutional"]
batch = FACTORED["batch"]
gradients = FACTORED["gradients"]
close = FACTORED["close"]

UNFOLDINGS = ("separable", "channel")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


MAKES = [mlp, convolutional, lambda: convolutional("channel")]


# The layers and their gradients


def test_gradients_of_the_factors_are_the_chain_rule_through_w():
    layer = SVDLinear.from_dense(nn.Linear(9, 7).double(), 4)
    h, delta = (torch.randn(5, k, dtype=torch.float64) for k in (9, 7))
    layer(h).backward(delta)
    u, s, v = (p.detach() for p in (layer.U, layer.s, layer.V))
    t, p, g = h @ v, delta @ u, delta.T @ h
    close(
        {"U": layer.U.grad, "s": layer.s.grad, "V": layer.V.grad, "b": layer.bias.grad},
        {"U": delta.T @ (t * s), "s": (p * t).sum(0), "V": h.T @ (p * s), "b": delta.sum(0)},
    )
    torch.testing.assert_close(layer.s.grad, torch.diag(u.T @ g @ v))


@pytest.mark.parametrize("unfolding", UNFOLDINGS)
def test_gradients_of_a_convolutions_factors_are_the_chain_rule_through_its_kernel(unfolding):
    dense = nn.Conv2d(3, 6, 3, stride=2, padding=1).double()
    layer = SVDConv2d.from_dense(dense, 5, unfolding)
    dense = layer.to_dense()
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    layer(x).square().sum().backward()
    dense(x).square().sum().backward()
    g = layer.to_matrix(dense.weight.grad)
    u, s, v = (p.detach() for p in (layer.U, layer.s, layer.V))
    close(
        {"U": layer.U.grad, "s": layer.s.grad, "V": layer.V.grad},
        {"U": g @ v * s, "s": torch.diag(u.T @ g @ v), "V": g.T @ u * s},
    )


def test_what_a_small_step_on_the_factors_does_to_the_weight():
    layer = SVDLinear.from_dense(nn.Linear(12, 9).double(), 5)
    u, s, v = (p.detach().clone() for p in (layer.U, layer.s, layer.V))
    g, eta = torch.randn(9, 12, dtype=torch.float64), 1e-6
    before = layer.dense_weight()
    (before * g).sum().backward()
    torch.optim.SGD([layer.U, layer.s, layer.V], lr=eta).step()
    moved = (layer.dense_weight() - before).detach()
    inner = torch.diag(torch.diag(u.T @ g @ v))
    expected = -eta * (g @ v * s**2 @ v.T + u * s**2 @ u.T @ g + u @ inner @ v.T)
    assert (moved - expected).norm() < 1e-5 * expected.norm()
    assert (moved + eta * g).norm() > 0.1 * expected.norm()  # not the step of a dense layer


def test_plain_steps_conserve_differences_of_the_factors_energies():
    def drift(eta):
        generator = torch.Generator().manual_seed(0)
        layer = SVDLinear(12, 9, 5, bias=False, generator=generator).double()
        optimiser = torch.optim.SGD(layer.parameters(), lr=eta)

        def kept():
            u, s, v = (p.detach().square() for p in (layer.U, layer.s, layer.V))
            return torch.cat([u.sum(0) - s, u.sum(0) - v.sum(0)])

        before, size = kept(), float(layer.s.detach().norm())
        for step in range(round(0.2 / eta)):  # a pseudo-gradient that is no gradient of anything
            turn = torch.tensor(step * eta * 20, dtype=torch.float64)
            optimiser.zero_grad()
            (layer.dense_weight() * (one * turn.cos() + other * turn.sin())).sum().backward()
            optimiser.step()
        assert abs(float(layer.s.detach().norm()) - size) > 0.02  # the factors have moved
        return float((kept() - before).abs().max())

    one, other = torch.randn(2, 9, 12, dtype=torch.float64)
    coarse, fine = drift(1e-3), drift(1e-4)
    assert fine < 0.01
    assert 5 < coarse / fine < 20  # of the order of η


# Feedback from layer to layer


@pytest.mark.parametrize("make", MAKES)
def test_with_the_layers_own_factors_ssa_fa_is_backpropagation(make):
    network = make()
    x, y = batch(network)
    plain = copy.deepcopy(network)
    fb.attach(network, {"*": fb.SVDSpace()}, example_input=x)
    assert torch.equal(network(x), plain(x))
    expected, random = gradients(plain, x, y), gradients(network, x, y)
    last = list(factored_layers(plain))[-1]
    for name, value in expected.items():
        same = torch.allclose(random[name], value, rtol=1e-10, atol=1e-14)
        assert same == name.startswith(f"{last}."), name
    for _, layer in fb.feedback_layers(network):
        layer.pathway.copy_from_layer(layer)
    close(gradients(network, x, y), expected)
    counts = list(fb.fired(network).values())
    assert counts == [0] + [2] * (len(counts) - 1)


def test_ssa_fa_is_the_equation_layer_by_layer():
    network = fb.attach(mlp(), {"*": fb.SVDSpace()})
    x, y = batch(network)
    found = gradients(network, x, y)
    layers = factored_layers(network)
    h, delta = {"0": x}, None
    h["2"] = torch.tanh(network[0](x)).detach()
    h["4"] = torch.tanh(network[2](h["2"])).detach()
    e = (torch.softmax(network[4](h["4"]), 1) - functional.one_hot(y, 4)).detach() / len(x)
    for name in ("4", "2", "0"):
        delta = e if delta is None else delta
        layer = layers[name]
        t, p = h[name] @ layer.V.detach(), delta @ layer.U.detach()
        close(
            {k: found[f"{name}.{k}"] for k in ("U", "s", "V", "bias")},
            {
                "U": delta.T @ (t * layer.s.detach()),
                "s": (p * t).sum(0),
                "V": h[name].T @ (p * layer.s.detach()),
                "bias": delta.sum(0),
            },
            1e-10,
        )
        b = layer.pathway
        delta = ((delta @ b.B_U) * b.B_S) @ b.B_V.T * (1 - h[name] ** 2)


@pytest.mark.parametrize("unfolding", UNFOLDINGS)
@pytest.mark.parametrize("rank", [1, 4, 12])
def test_the_feedback_of_a_convolution_is_the_transpose_of_its_kernel(unfolding, rank):
    settings = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
    layer = SVDConv2d(4, 18, (3, 5), rank, **settings, unfolding=unfolding).double()
    fb.attach(layer, {"": fb.SVDSpace()})
    kernel = layer.pathway.kernel(layer.dense_weight())
    x = torch.randn(3, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    delta = torch.randn_like(out)
    (found,) = torch.autograd.grad(out, x, delta)
    (expected,) = torch.autograd.grad(functional.conv2d(x, kernel, **settings), x, delta)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("make", MAKES)
def test_a_dense_random_matrix_can_lie_on_a_factored_layer(make):
    network = make()
    x, y = batch(network)
    plain = copy.deepcopy(network)
    fb.attach(network, {"*": fb.Random()}, example_input=x)
    before = gradients(network, x, y)
    for _, layer in fb.feedback_layers(network):
        assert layer.pathway.B.shape == layer.dense_weight().shape
        layer.pathway.B.copy_(layer.dense_weight().detach())
    expected = gradients(plain, x, y)
    close(gradients(network, x, y), expected, 1e-11)
    assert (before["0.U"] - expected["0.U"]).norm() > 0.1 * expected["0.U"].norm()


@pytest.mark.parametrize(
    "spec", [fb.Exact(), fb.LowRank(rank=2), fb.Random(learning=fb.KolenPollack())]
)
def test_rules_that_read_or_learn_from_the_weight_run_on_a_factored_layer(spec):
    network, dense = mlp(), mlp()
    dense.load_state_dict(network.state_dict())
    dense = nn.Sequential(*(m.to_dense() if isinstance(m, SVDLinear) else m for m in dense))
    x, y = batch(network)
    for net in (network, dense):
        fb.attach(net, {"2": spec, "4": spec})
    found, expected = gradients(network, x, y), gradients(dense, x, y)
    learned = {name: value for name, value in expected.items() if "pathway" in name}
    close({name: found[name] for name in learned}, learned, 1e-9)
    assert len(learned) == len(fb.pathway_parameters(network))
    close({"0": found["0.bias"]}, {"0": expected["0.bias"]}, 1e-9)


# What holds for both


SPECS = {"ssa_fa": fb.SVDSpace(), "ssa_dfa": fb.SVDSpaceDirect(source="4")}


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def attached(request):
    network = mlp()
    x, y = batch(network)
    return fb.attach(network, {"2": request.param, "4": request.param}, example_input=x), x, y


def test_no_error_no_gradient(attached):
    network, x, _ = attached
    network(x).backward(torch.zeros(6, 4, dtype=torch.float64))
    for name, p in network.named_parameters():
        assert torch.equal(p.grad, torch.zeros_like(p)), name


def test_exact_backward_and_detach_give_backpropagation_back(attached):
    network, x, y = attached
    with fb.exact_backward(network):
        exact = gradients(network, x, y)
    own = gradients(network, x, y)
    assert not torch.allclose(own["0.U"], exact["0.U"])
    assert fb.fired(network) == {"2": 1, "4": 1}
    fb.detach(network)
    assert type(network[2]) is type(network[4]) is SVDLinear
    close(gradients(network, x, y), exact)
    assert not [name for name in network.state_dict() if "pathway" in name]


def test_twins_and_saved_states_go_on_alike(attached):
    network, x, y = attached
    gradients(network, x, y)
    twin, other = copy.deepcopy(network), mlp()
    spec = SPECS["ssa_dfa" if network[4].pathway.source else "ssa_fa"]
    fb.attach(other, {"2": spec, "4": spec}, example_input=x, seed=9)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    expected = gradients(network, x, y)
    for net in (twin, other):
        found = gradients(net, x, y)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert fb.fired(net) == fb.fired(network)


def test_feedback_follows_from_seed_and_name(attached):
    network, x, _ = attached
    spec = SPECS["ssa_dfa" if network[4].pathway.source else "ssa_fa"]

    def matrices(seed):
        made = fb.attach(mlp(), {"2": spec, "4": spec}, example_input=x, seed=seed)
        return {k: v for k, v in made.state_dict().items() if "B_" in k}

    alone = mlp()
    state = torch.get_rng_state()
    fb.attach(alone, {"4": spec}, example_input=x)
    assert torch.equal(torch.get_rng_state(), state)
    one, again, other = matrices(0), matrices(0), matrices(1)
    assert torch.equal(one["4.pathway.B_U"], alone[4].pathway.B_U)
    for name, value in one.items():
        assert torch.equal(value, again[name]), name
        assert not torch.allclose(value, other[name]), name


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("unfolding", UNFOLDINGS)
@pytest.mark.parametrize("rule", SPECS)
def test_autocast_float32_and_activations_in_place(rule, unfolding, inplace):
    network = convolutional(unfolding, inplace)
    x, y = batch(network)
    spec = fb.SVDSpace() if rule == "ssa_fa" else fb.SVDSpaceDirect(source="10")
    fb.attach(network, {"3": spec, "6": spec, "10": spec}, example_input=x)
    exact = gradients(network, x, y)
    single = copy.deepcopy(network).float()
    close({k: v.double() for k, v in gradients(single, x.float(), y).items()}, exact, 1e-3)
    single.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = single(x.float())
    assert out.dtype == torch.bfloat16
    functional.cross_entropy(out.float(), y).backward()
    for name, value in exact.items():
        grad = single.get_parameter(name).grad
        assert grad.dtype == torch.float32
        assert torch.cosine_similarity(grad.flatten().double(), value.flatten(), 0) > 0.9, name


def test_gradients_of_parts_of_a_batch_add_up(attached):
    network, x, y = attached
    whole = gradients(network, x, y)
    network.zero_grad()
    for part, labels in ((x[:2], y[:2]), (x[2:], y[2:])):
        functional.cross_entropy(network(part), labels, reduction="sum").div(6).backward()
    close({name: p.grad for name, p in network.named_parameters()}, whole, 1e-11)


def test_a_cut_of_layer_and_feedback_is_the_network_of_smaller_rank(attached):
    network, x, y = attached
    gradients(network, x, y)
    keep = torch.tensor([3, 0])
    direct_routes = network[4].pathway.source is not None
    before = [layer.pathway.B_U.clone() for layer in (network[2], network[4])]
    for layer in (network[0], network[2]):
        layer.truncate(keep)
    truncated = (network[2], network[4]) if direct_routes else (network[2],)
    for layer in truncated:
        layer.pathway.truncate(keep)
    if direct_routes:  # the error's way is what it was: the q = 4 columns are all needed
        for layer, old in zip(truncated, before, strict=True):
            assert torch.equal(layer.pathway.B_U, old)
    else:
        assert torch.equal(network[2].pathway.B_U, before[0][:, keep])
        network[2].pathway.copy_from_layer(network[2])
    found = gradients(network, x, y)
    spec = SPECS["ssa_dfa" if direct_routes else "ssa_fa"]
    other = fb.attach(mlp(), {"2": spec, "4": spec}, example_input=x, seed=3)
    other.load_state_dict(network.state_dict())  # of smaller rank
    assert all(torch.equal(g, found[name]) for name, g in gradients(other, x, y).items())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_step_learns(spec):
    network = mlp(sizes=(12, 16, 16, 4))
    x = torch.randn(40, 12, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    fb.attach(network, {"2": spec, "4": spec}, example_input=x)
    start = functional.cross_entropy(network(x), y).detach()
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(80):
        optimiser.zero_grad()
        functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    assert functional.cross_entropy(network(x), y).detach() < 0.7 * start
