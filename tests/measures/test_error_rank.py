"""The probe of ranks: that it measures what hooks and the next step see, and disturbs nothing."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.measures import alignment, effective_rank, error_matrix, error_rank
from neurofb.measures.updates import weight_updates
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear
from neurofb.training import Optimiser

FA = fb.Random(start="normal")


def rank(x, kind="entropy", **options):
    return float(effective_rank(x, kind, **options))


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


def test_rounding_is_not_counted_in_the_numerical_rank_of_an_update():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 4))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    x, classes = torch.randn(60, 12), torch.arange(60) % 4
    answer = error_rank(net, x, classes, optimiser=sgd, kinds=["numerical", "entropy"])
    assert answer.update_rank.sel(definition="numerical").values.tolist() == [3, 3, 3]
    np.testing.assert_allclose(answer.update_rank, answer.gradient_rank, rtol=1e-5)


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
        ({"kinds": "nuclear"}, r"kinds=\('nuclear',\) must be some of"),
        ({"optimiser": torch.optim.SGD([torch.ones(1)])}, "optimiser moves no parameter"),
        ({"optimiser": Optimiser()}, r"optimiser=Optimiser must be .* by \.build\(network\)"),
    ],
)
def test_what_is_refused(options, message, batch):
    unchecked = getattr(error_rank, "__wrapped__", error_rank)
    with pytest.raises(ValueError, match=message):
        unchecked(Net(), *batch, **options)
    with pytest.raises(ValueError, match="not 12 images and 3 labels"):
        unchecked(Net(), batch[0], batch[1][:3])
    for wrong in (-100, 4):
        with pytest.raises(ValueError, match="must be classes of the network, 0 to 3"):
            error_rank(Net(), batch[0], torch.cat([batch[1][:-1], torch.tensor([wrong])]))


def test_one_definition_and_one_view_need_no_list(batch):
    answer = error_rank(Net(), *batch, kinds="entropy", views="sample")
    listed = error_rank(Net(), *batch, kinds=["entropy"], views=["sample"])
    assert answer.sizes == listed.sizes
    assert answer.definition.values.tolist() == ["entropy"]
