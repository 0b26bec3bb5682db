"""The update of a network as a field: the same as a step's, pure, and the network untouched."""

import copy

import pytest
import torch
from torch import nn

from neurofb.feedback import (
    Direct,
    DirectRandom,
    KolenPollack,
    LowRank,
    Normative,
    Oja,
    Random,
    SvdRefresh,
    SVDSpace,
    WeightMirror,
    attach,
    pathway_parameters,
    present_targets,
)
from neurofb.measures import rule_curl, update_field
from neurofb.networks import MLPConfig, factorise
from neurofb.training import FlipSpec

RULES = {
    "FA": Random(),
    "KP": Random(learning=KolenPollack()),
    "WM": Random(learning=WeightMirror()),
    "Oja": LowRank(rank=2),
    "Oja, target": LowRank(rank=2, learning=Oja(drive="target")),
    "normative": LowRank(rank=2, learning=Normative()),
    "refresh": LowRank(rank=2, learning=SvdRefresh(every=1), start="svd"),
    "DFA": DirectRandom(source="readout"),
    "dLDFA": Direct(source="readout", rank=2, learning=KolenPollack()),
}
X = torch.randn(12, 1, 3, 3, generator=torch.Generator().manual_seed(5))
Y = torch.arange(12) % 4


def network(**settings):
    config = MLPConfig(
        image_size=3, in_channels=1, num_classes=4, hidden=(7, 6), activation="tanh", **settings
    )
    return config.build(seed=1)


def with_rule(name, **settings):
    rule, last = RULES[name], RULES[name]
    if isinstance(rule, Direct | DirectRandom):
        last = Random()
    elif name == "Oja, target":
        rule = RULES["Oja"]
    return attach(network(**settings), {"hidden_2": rule, "readout": last}, example_input=X)


@pytest.mark.parametrize("name", RULES)
def test_it_is_minus_what_a_backward_pass_leaves(name):
    net = with_rule(name, normalisation="none").double()
    before = copy.deepcopy(net.state_dict())
    field, theta = update_field(net, X, Y, parameters="all")
    update = field(theta)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in net.parameters())
    loss = nn.functional.cross_entropy(net(X.double()), Y)
    present_targets(net, Y)
    loss.backward()
    expected = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else -p.grad).flatten() for p in net.parameters()]
    )
    torch.testing.assert_close(update, expected, rtol=1e-12, atol=1e-15)
    assert field.loss(theta) == pytest.approx(float(loss.detach()))
    # and once more: what the passes before have changed plays no part
    torch.testing.assert_close(field(theta), update, rtol=0, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_weights_alone_are_the_first_part(name):
    net = with_rule(name, normalisation="none")
    field, theta = update_field(net, X, Y)
    whole, everything = update_field(net, X, Y, parameters="all")
    learned = sum(p.numel() for p in pathway_parameters(net))
    assert len(everything) - len(theta) == learned
    assert not any("pathway" in key for key in field.names)
    values = dict(zip(whole.names, whole(everything).split(whole._sizes), strict=True))
    torch.testing.assert_close(field(theta), torch.cat([values[key] for key in field.names]))
    # backpropagation's gradient is the same by both ways, and zero for feedback matrices
    torch.testing.assert_close(field.gradient(theta).norm(), whole.gradient(everything).norm())


def test_flips_are_those_of_training():
    net = network(normalisation="none")
    specs = (FlipSpec(layer="readout", indices=(1, 3)), FlipSpec(layer="hidden_1", count=2))
    plain, theta = update_field(net, X, Y)
    flipped, _ = update_field(net, X, Y, flips=specs)
    torch.testing.assert_close(flipped(theta), flipped.signs * plain(theta), rtol=0, atol=0)
    assert int((flipped.signs < 0).sum()) == 2 * 4 + 2 * 7
    torch.testing.assert_close(flipped(theta) * flipped.signs, -flipped.gradient(theta))
    found = rule_curl(net, X, Y, num_probes=10, flips=specs)
    share = float(found.flipped_power)
    assert 0 < share < 1
    assert float(found.gradient_cosine) == pytest.approx(1 - 2 * share)
    assert float(found.curl_index) > 0.1


def test_all_flipped_is_ascent():
    net = network(normalisation="none")
    specs = [
        FlipSpec(layer=name, side="postsynaptic", fraction=1)
        for name in ("hidden_1", "hidden_2", "readout")
    ]
    found = rule_curl(net, X, Y, num_probes=10, flips=specs)
    assert float(found.gradient_cosine) == pytest.approx(-1)
    assert float(found.curl_index) < 1e-4
    assert float(found.flipped_power) == 1


def test_noise_is_the_same_at_every_call_and_leaves_no_trace():
    net = network(normalisation="batch", dropout=0.5)
    field, theta = update_field(net, X, Y, seed=3)
    state = torch.random.get_rng_state()
    assert torch.equal(field(theta), field(theta))
    assert torch.equal(state, torch.random.get_rng_state())
    other, _ = update_field(net, X, Y, seed=4)
    assert not torch.equal(field(theta), other(theta))
    assert int(net.norm_1.num_batches_tracked) == 0


def test_layers_that_keep_factors():
    net = factorise(network(normalisation="none"), 1.0)
    attach(net, {"hidden_2": SVDSpace(), "readout": SVDSpace()})
    field, theta = update_field(net, X, Y)
    assert {"hidden_2.U", "hidden_2.s", "hidden_2.V"} <= set(field.names)
    before = field(theta)
    for name in ("hidden_2", "readout"):
        layer = net.get_submodule(name)
        layer.pathway.copy_from_layer(layer)
    exact, _ = update_field(net, X, Y)
    assert not torch.allclose(before, -field.gradient(theta))
    torch.testing.assert_close(exact(theta), -exact.gradient(theta))


def test_feedback_that_learns_is_part_of_the_whole_field_only():
    found = rule_curl(with_rule("KP", normalisation="none"), X, Y, num_probes=10)
    assert abs(float(found.curl_index) - float(found.curl_index_all)) > 1e-3
    fixed = rule_curl(with_rule("FA", normalisation="none"), X, Y, num_probes=10)
    assert float(fixed.curl_index) == float(fixed.curl_index_all) > 0.1


def test_what_is_refused():
    net, unchecked = network(), getattr(update_field, "__wrapped__", update_field)
    for arguments, message in (
        ({"loss": "hinge"}, "loss='hinge' must be one of cross_entropy, mse"),
        ({"parameters": "biases"}, "parameters='biases' must be one of weights, all"),
    ):
        with pytest.raises(ValueError, match=message):
            unchecked(net, X, Y, **arguments)
    with pytest.raises(ValueError, match="12 images and 3 labels"):
        unchecked(net, X, Y[:3])
    with pytest.raises(ValueError, match="0 images"):
        update_field(net, X[:0], Y[:0])
    with pytest.raises(ValueError, match="need loss='mse'"):
        update_field(net, X, torch.zeros(12, 4))
    field, theta = update_field(net, X, Y + 1)
    with pytest.raises(ValueError, match="labels from 1 to 4 must be classes"):
        field(theta)
    with pytest.raises(ValueError, match=r"theta of shape \(3,\)"):
        field(theta[:3])
    field, theta = update_field(net, X, torch.zeros(12, 3), loss="mse")
    with pytest.raises(ValueError, match="must have the shape of the outputs"):
        field(theta)
    with pytest.raises(ValueError, match="no parameter that learns"):
        update_field(nn.Identity(), X, Y)
