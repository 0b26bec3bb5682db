"""SVD space: gradients of factors, feedback by factors, what a step on factors does to W."""

import copy
import io
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks import SVDConv2d, SVDLinear, factored_layers, factorise

UNFOLDINGS = ("separable", "channel")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def mlp(rank=0.5, sizes=(12, 9, 8, 4), activation=nn.Tanh):
    """A factored MLP in float64; layers "0", "2", "4"."""
    layers = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), activation()]
    return factorise(nn.Sequential(*layers[:-1]).double(), rank)


def convolutional(unfolding="separable", inplace=False):
    """A factored network of convolutions with batch norm; layers "0", "3", "6", "10"."""
    return factorise(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace),
            nn.Conv2d(5, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)),
            nn.ReLU(inplace),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 4, 1),
            nn.ReLU(inplace),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ).double(),
        0.6,
        unfolding=unfolding,
    )


def batch(network, num=6):
    first = next(iter(factored_layers(network).values()))
    shape = (first.in_features,) if isinstance(first, SVDLinear) else (2, 8, 7)
    return torch.randn(num, *shape, dtype=torch.float64), torch.arange(num) % 3


def gradients(network, x, y):
    network.zero_grad()
    functional.cross_entropy(network(x), y).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def close(found, expected, tolerance=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= tolerance * value.norm(), name


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


# Direct feedback


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


def test_a_cut_of_direct_feedback_keeps_the_columns_that_carry_the_error():
    network = mlp(rank=1.0, sizes=(12, 9, 4))
    x, _ = batch(network)
    pathway = direct(network, x, ["2"], rank=8)[2].pathway
    old = pathway.B_U.clone()
    pathway.truncate([7, 1, 5, 0, 6, 2])
    assert torch.equal(pathway.B_U, old[:, [0, 1, 2, 3, 7, 5]])
    pathway.truncate([0])
    assert torch.equal(pathway.B_U, old[:, :4])


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
