"""Effective ranks and the ranks of errors: known answers, theory, and what the probe may not do."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.measures import alignment, effective_rank, error_matrix, error_rank
from neurofb.measures.maps import weight_gradient
from neurofb.measures.updates import weight_updates
from neurofb.networks import MLPConfig
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear

ORDER = ("stable", "participation", "entropy2", "entropy", "numerical")
FA = fb.Random(start="normal")


def rank(x, kind="entropy", **options):
    return float(effective_rank(x, kind, **options))


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(s, rows=7, columns=6, seed=0):
    left, right = (torch.linalg.qr(gaussian(n, n, seed=seed + n)).Q for n in (rows, columns))
    return left[:, : len(s)] * torch.tensor(s, dtype=torch.float64) @ right[:, : len(s)].T


KNOWN = [
    ([1, 1, 1, 1, 1], (5, 5, 5, 5)),
    ([3], (1, 1, 1, 1)),
    ([2, 1], (1.889882, 1.649385, 25 / 17, 1.25)),
    ([2, 1, 1], (2**1.5, 2.381102, 2, 1.5)),
    ([4, 2, 1, 1], (3.363586, 2.276322, 484 / 274, 1.375)),
]


@pytest.mark.parametrize(("s", "answers"), KNOWN)
def test_known_answers(s, answers):
    for x in (torch.diag(torch.tensor(s, dtype=torch.float64)), rotated(s)):
        found = [rank(x, kind) for kind in ("entropy", "entropy2", "participation", "stable")]
        assert found == pytest.approx(answers, rel=1e-6)
        assert rank(x, "numerical") == len(s)


def assert_ordered(x):
    ranks = torch.stack([effective_rank(x, kind) for kind in ORDER])
    assert (ranks.diff(dim=0) > -1e-9).all()
    assert (ranks[0] > 1 - 1e-9).all()
    assert (ranks[-1] <= min(x.shape[-2:])).all()


@pytest.mark.parametrize(("rows", "columns"), [(20, 10), (5, 30), (8, 8), (1, 4)])
def test_ordering_of_200_random_matrices(rows, columns):
    assert_ordered(gaussian(50, rows, columns) @ gaussian(50, columns, columns, seed=1))


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=6))
def test_ordering_of_any_spectrum(s):
    assert_ordered(rotated(s))


@pytest.mark.parametrize(
    ("p", "q", "entropy", "entropy2"), [(512, 256, 236.9, 198.8), (2048, 64, 63.74, 62.97)]
)
def test_gaussian_theory_lines(p, q, entropy, entropy2):
    x = gaussian(p, q)
    assert rank(x) == pytest.approx(entropy, rel=0.01)
    assert rank(x, "entropy2") == pytest.approx(entropy2, rel=0.01)
    assert rank(x, "participation") == pytest.approx(p * q / (p + q + 1), rel=0.01)
    assert rank(x, "stable") == pytest.approx(p * q / (p**0.5 + q**0.5) ** 2, rel=0.05)


def test_what_changes_a_rank():
    x = gaussian(60, 8) @ torch.diag(torch.linspace(0.2, 2, 8, dtype=torch.float64))
    for kind in ORDER[:-1]:
        value = rank(x, kind)
        assert rank(x * torch.linspace(0.01, 1, 60)[:, None] ** 3, kind) < 0.98 * value
        with_mean = x + 5
        assert rank(with_mean, kind) < 0.8 * value
        assert rank(with_mean, kind, center=True) == pytest.approx(rank(x, kind, center=True))


def test_products_of_gaussians_lose_rank_and_of_rotations_do_not():
    n, expected = 256, {1: 206, 2: 171, 4: 127, 8: 83, 16: 49}
    product, turned = torch.eye(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    for number in range(1, 17):
        factor = gaussian(n, n, seed=number)
        product = product @ factor / n**0.5
        turned = turned @ torch.linalg.qr(factor).Q
        if number in expected:
            assert rank(product) == pytest.approx(expected[number], rel=0.03)
            assert rank(turned) == pytest.approx(n, rel=1e-9)


def test_softmax_errors_sum_to_zero_over_classes():
    logits = gaussian(512, 10)
    error = torch.softmax(logits, 1) - torch.eye(10, dtype=torch.float64)[torch.arange(512) % 10]
    assert rank(error, "numerical") == 9
    assert rank(gaussian(512, 10), "numerical") == 10
    assert rank(gaussian(512, 9) @ gaussian(9, 256, seed=1), "numerical") == 9


def test_one_rectifier_takes_a_low_rank_error_to_full_rank():
    error = gaussian(512, 9) @ gaussian(9, 256, seed=1)
    assert rank(error * (gaussian(512, 256, seed=2) > 0), "numerical") == 256


def perceptron(between, seed=0, width=24, depth=3):
    torch.manual_seed(seed)
    sizes = [12] + [width] * depth
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), between()]
    return nn.Sequential(*layers, nn.Linear(width, 5)).double()


PATHWAYS = {
    "BP": {},
    "FA": {"2": FA, "4": FA, "6": FA},
    "DFA": {"2": fb.DirectRandom(source="6"), "4": fb.DirectRandom(source="6"), "6": FA},
}


@pytest.mark.parametrize("rule", PATHWAYS)
def test_errors_of_a_linear_network_have_a_rank_below_the_number_of_classes(rule):
    x, classes = gaussian(100, 12), torch.arange(100) % 5
    found = {}
    for between in (nn.Identity, nn.ReLU):
        network = fb.attach(perceptron(between), PATHWAYS[rule], example_input=x[:2])
        answer = error_rank(network, x, classes, kinds=["numerical"], views=["channel"])
        found[between] = answer.error_rank.values.ravel().tolist()
    assert found[nn.Identity] == [4, 4, 4, 4]
    assert min(found[nn.ReLU][:3]) > 15  # up to 24, without the units that never fire
    assert found[nn.ReLU][3] == 4


def test_feedback_alignment_starts_with_the_ranks_of_backpropagation():
    x, classes = torch.randn(256, 1, 12, 12), torch.arange(256) % 10
    settings = {"image_size": 12, "in_channels": 1, "initialisation": "he_normal"}
    config = MLPConfig(**settings, hidden=(192,) * 5, normalisation="none")
    ranks = {}
    for rule, pathways in {"BP": {}, "FA": {"hidden_[2-5]": FA, "readout": FA}}.items():
        network = fb.attach(config.build(seed=0), pathways, seed=0)
        answer = error_rank(network, x, classes, kinds=["entropy"], views=["channel"])
        ranks[rule] = answer.error_rank.values.ravel()
        ranks[f"{rule} normalised"] = answer.error_rank_normalised.values.ravel()
    np.testing.assert_allclose(ranks["FA"], ranks["BP"], rtol=0.05)
    np.testing.assert_allclose(ranks["FA normalised"], ranks["BP normalised"], rtol=0.05)
    assert not np.allclose(ranks["FA"][:4], ranks["BP"][:4], rtol=1e-6)


class Net(nn.Module):
    """Maps, tokens and units, with running statistics and random masks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding="same", padding_mode="reflect")
        self.norm = nn.BatchNorm2d(6)
        self.middle = nn.Conv2d(6, 4, 3, stride=2, padding=(1, 0), groups=2)
        self.factored = SVDConv2d(4, 6, 3, rank=5, padding=1, stride=(2, 1), unfolding="separable")
        self.tokens = nn.Linear(6, 5)
        self.drop = nn.Dropout(0.3)
        self.hidden = SVDLinear(25, 7, rank=0.5)
        self.readout = nn.Linear(7, 4)

    def forward(self, x):
        h = torch.relu(self.middle(torch.relu(self.norm(self.stem(x)))))
        h = torch.tanh(self.tokens(self.factored(h).flatten(2).mT[:, :5]))
        return self.readout(torch.relu(self.hidden(self.drop(h).flatten(1))))


@pytest.fixture
def network():
    torch.manual_seed(1)
    pathways = {"middle": FA, "tokens": fb.LowRank(rank=2), "readout": FA}
    return fb.attach(Net(), pathways)


@pytest.fixture
def batch():
    return torch.randn(12, 2, 7, 7), torch.arange(12) % 4


def seen(network, batch):
    """The errors and gradients of one pass, by hooks of its own; no dropout."""
    deltas, inputs = {}, {}
    for name, module in network.named_children():

        def keep(module, args, output, name=name):
            inputs[name] = args[0].detach()
            output.register_hook(lambda gradient: deltas.__setitem__(name, gradient))

        module.register_forward_hook(keep)
    functional.cross_entropy(network(batch[0]), batch[1]).backward()
    return deltas, inputs


def test_the_probe_measures_what_hooks_see(network, batch):
    network.drop.p = 0.0
    answer = error_rank(network, *batch, kinds=["entropy", "stable"])
    copied = copy.deepcopy(network).train()
    deltas, inputs = seen(copied, batch)
    maps = ["stem", "middle", "factored", "tokens", "hidden", "readout"]
    assert answer.layer.values.tolist() == maps
    for name in maps:
        at = answer.sel(layer=name)
        for kind in ("entropy", "stable"):
            for view in ("channel", "sample", "pooled"):
                errors = error_matrix(deltas[name], view)
                cell = {"definition": kind, "view": view}
                raw, unit = rank(errors, kind), rank(errors, kind, row_normalise=True)
                assert at.error_rank.sel(cell).item() == pytest.approx(raw, rel=1e-5)
                assert at.error_rank_normalised.sel(cell).item() == pytest.approx(unit, rel=1e-5)
                assert at.error_rank_ceiling.sel(view=view).item() == min(errors.shape)
            rows = error_matrix(inputs[name], "channel")
            found = at.activity_rank.sel(definition=kind).item()
            assert found == pytest.approx(rank(rows, kind, center=True), rel=1e-5)
    assert (answer.error_rank <= answer.error_rank_ceiling + 1e-9).all()
    gradients = {
        name: copied.get_submodule(name).weight.grad.flatten(1)
        for name in ("stem", "middle", "tokens", "readout")
    }
    for name, gradient in (gradients | {"hidden": deltas["hidden"].T @ inputs["hidden"]}).items():
        found = answer.gradient_rank.sel(layer=name, definition="entropy").item()
        assert found == pytest.approx(rank(gradient), rel=1e-4)


def test_a_gradient_is_that_of_the_dense_weight_also_for_factors(batch):
    torch.manual_seed(0)
    h = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    for unfolding in ("separable", "channel"):
        layer = SVDConv2d(4, 6, (3, 2), 5, (2, 1), (1, 2), (1, 2), unfolding=unfolding).double()
        dense = layer.to_dense()
        out = dense(h)
        delta = torch.randn_like(out)
        out.backward(delta)
        expected = dense.weight.grad.flatten(1)
        torch.testing.assert_close(weight_gradient(layer, [(h, delta)]), expected)
        twice = weight_gradient(layer, [(h, delta), (h, delta)])
        torch.testing.assert_close(twice, 2 * expected)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_gradient_is_that_of_autograd_for_every_layer(case):
    layer, x = case.make().double(), torch.randn(case.shape, dtype=torch.float64)
    out = layer(x)
    delta = torch.randn_like(out)
    out.backward(delta)
    gradient = weight_gradient(layer, [(x, delta)])
    torch.testing.assert_close(gradient, layer.weight.grad.flatten(1))


def test_the_rank_of_a_gradient_is_at_most_that_of_error_and_activity():
    x = gaussian(80, 3) @ gaussian(3, 12, seed=1)
    network = perceptron(nn.ReLU)
    kinds = ["numerical"]
    answer = error_rank(network, x, torch.arange(80) % 5, kinds=kinds)
    first = answer.isel(layer=0, definition=0)
    assert first.error_rank.sel(view="channel") == 24
    assert first.gradient_rank == 3


def test_the_angle_is_that_of_alignment(network, batch):
    network.drop.p = 0.0
    dense = ["stem", "middle", "tokens", "readout"]
    found = error_rank(network, *batch).gradient_angle.sel(layer=dense)
    cosine = alignment(network, *batch).gradient_cosine.sel(layer=dense)
    np.testing.assert_allclose(np.cos(np.radians(found)), cosine, atol=1e-5)
    assert found.sel(layer="readout") < 0.1
    assert found.sel(layer="stem") > 5
    plain = error_rank(Net(), *batch).gradient_angle
    assert (plain < 0.1).all()


OPTIMISERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_update_is_that_of_the_next_step(name, network, batch):
    network.drop.p = 0.0
    optimiser = OPTIMISERS[name](network.parameters())

    def backward():
        optimiser.zero_grad()
        functional.cross_entropy(network(batch[0]), batch[1]).backward()

    for _ in range(3):  # so that the state of the optimiser counts
        backward()
        optimiser.step()
    answer = error_rank(network, *batch, optimiser=optimiser, kinds=["entropy"])
    backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    updates = weight_updates(network, optimiser, gradients)
    before = {n: w.detach().double().clone() for n, w in weights(network).items()}
    optimiser.step()
    assert updates.keys() == before.keys()
    for layer, weight in weights(network).items():
        step = (weight.detach().double() - before[layer]).flatten(1)
        torch.testing.assert_close(updates[layer], step, rtol=1e-3, atol=1e-6)
        found = answer.update_rank.sel(layer=layer).item()
        assert found == pytest.approx(rank(updates[layer]), rel=1e-3)
    if name == "AdamW":
        gradient_rank = answer.gradient_rank.sel(layer="tokens").item()
        assert answer.update_rank.sel(layer="tokens").item() > 1.02 * gradient_rank


def weights(network):
    return {
        name: module.dense_weight() if hasattr(module, "dense_weight") else module.weight
        for name, module in network.named_children()
        if name not in ("norm", "drop")
    }


def test_the_update_is_at_the_rate_before_the_schedule():
    net = nn.Sequential(nn.Linear(3, 2))
    sgd = torch.optim.SGD([{"params": net.parameters(), "base_rate": 0.5}], lr=1e-12)
    update = weight_updates(net, sgd, {"0.weight": torch.ones(2, 3)})["0"]
    torch.testing.assert_close(update, torch.full((2, 3), -0.5, dtype=torch.float64))
    assert sgd.param_groups[0]["lr"] == 1e-12


def everything(network, optimiser):
    """By value."""
    grads = {f"{n}.grad": copy.deepcopy(p.grad) for n, p in network.named_parameters()}
    modes = {f"{n}.training": m.training for n, m in network.named_modules()}
    state = copy.deepcopy((network.state_dict(), optimiser.state_dict()))
    return {**state[0], **grads, **modes, "random": torch.get_rng_state()}, state[1]


def train(network, batch, look_before=None):
    torch.manual_seed(3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    for step in range(4):
        if step == look_before:
            before = everything(network, optimiser)
            error_rank(network, *batch, optimiser=optimiser)
            after = everything(network, optimiser)
            torch.testing.assert_close(before, after, rtol=0, atol=0)
        optimiser.zero_grad()
        functional.cross_entropy(network(batch[0]), batch[1]).backward()
        optimiser.step()
    return everything(network, optimiser)


@pytest.mark.parametrize("step", [0, 2])
def test_training_is_bitwise_undisturbed(network, batch, step):
    other = copy.deepcopy(network)
    torch.testing.assert_close(
        train(network, batch, look_before=step), train(other, batch), rtol=0, atol=0
    )


def test_what_has_no_rank_is_nan(batch):
    network = Net()
    network.stem.requires_grad_(False)
    network.middle.requires_grad_(False)
    sgd = torch.optim.SGD(network.parameters(), lr=0.1)
    answer = error_rank(network, *batch, optimiser=sgd)
    nothing, passed_through = answer.sel(layer="stem"), answer.sel(layer="middle")
    for name in ("error_rank", "error_rank_normalised", "error_rank_ceiling", "gradient_rank"):
        assert nothing[name].isnull().all(), name
        assert passed_through[name].notnull().all(), name
        assert answer[name].sel(layer="tokens").notnull().all(), name
    assert answer.activity_rank.notnull().all()
    assert answer.update_rank.isnull().all("definition").values.tolist() == [1, 1, 0, 0, 0, 0]
    assert error_rank(network, *batch).update_rank.isnull().all()
    exploded = copy.deepcopy(network)
    exploded.readout.weight.data.fill_(float("inf"))
    assert error_rank(exploded, *batch).error_rank.isnull().all()


def test_participation_alone_is_the_same(network, batch):
    network.drop.p = 0.0
    alone = error_rank(network, *batch, kinds=["participation"])
    among = error_rank(network, *batch).sel(definition=["participation"])
    for name in ("error_rank", "error_rank_normalised", "activity_rank", "gradient_rank"):
        np.testing.assert_allclose(alone[name], among[name], rtol=1e-5)


def test_every_variable_says_what_it_is(network, batch):
    answer = error_rank(network, *batch)
    for name, values in answer.variables.items():
        assert values.attrs.get("units"), name
        assert values.attrs.get("long_name"), name
    assert answer.error_rank.dims == ("layer", "definition", "view")
    assert answer.attrs["num_images"] == 12
    units = answer.error_rank.sel(layer="readout")
    assert (units.sel(view="sample") == units.sel(view="pooled")).all()
    tokens = answer.error_rank_ceiling.sel(layer="tokens")
    assert tokens.values.tolist() == [5, 12, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["nuclear"]}, r"kinds=\('nuclear',\) must be some of entropy, "),
        ({"kinds": []}, r"kinds=\(\) must be some of"),
        ({"views": ["pixel"]}, r"views=\('pixel',\) must be some of channel, sample, pooled"),
        ({"optimiser": torch.optim.SGD([torch.ones(1)])}, "optimiser moves no parameter"),
    ],
)
def test_what_is_refused(options, message, batch):
    unchecked = getattr(error_rank, "__wrapped__", error_rank)
    with pytest.raises(ValueError, match=message):
        unchecked(Net(), *batch, **options)
    with pytest.raises(ValueError, match="not 12 images and 3 labels"):
        unchecked(Net(), batch[0], batch[1][:3])


def test_views_by_hand():
    delta = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    assert error_matrix(delta)[1].tolist() == delta[0, :, 0, 1].tolist()
    assert error_matrix(delta, "sample")[1].tolist() == list(range(12, 24))
    assert error_matrix(delta, "pooled")[1].tolist() == delta[1].sum((1, 2)).tolist()
    tokens = delta.flatten(2)
    assert error_matrix(tokens)[1].tolist() == tokens[0, 1].tolist()
    assert error_matrix(tokens, "pooled")[1].tolist() == tokens[1].sum(0).tolist()
    unchecked = getattr(error_matrix, "__wrapped__", error_matrix)
    with pytest.raises(ValueError, match="view='pixel' must be one of channel, sample, pooled"):
        unchecked(delta, "pixel")
    with pytest.raises(ValueError, match=r"delta of shape \(3,\) must have 2 dims"):
        unchecked(torch.ones(3))
