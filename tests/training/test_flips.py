"""Flips of gradients against the same flips written by hand."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.config import RunConfig, change, from_json, to_json
from neurofb.dry_run import dry_run
from neurofb.networks import MLPConfig
from neurofb.training import (
    Constant,
    FlipSpec,
    Optimiser,
    TrainingConfig,
    flip_gradients,
    flip_masks,
    train,
    train_stacked,
)

SGD = Optimiser(name="SGD", learning_rate=0.05, weight_decay=0.1, decay_on="all")
FLIPS = (
    FlipSpec(layer="*", fraction=0.3, seed=4),
    FlipSpec(layer="1", side="postsynaptic", indices=(1,), strength=0.25),
)


PLAIN: dict[str, Any] = {"seed": 2, "progress": False, "device": "cpu"}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def loss_of(net: nn.Module, seed: int = 1, size: int = 5) -> torch.Tensor:
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(seed))
    return net(x).square().sum()


def gradients(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_columns_and_rows_are_those_of_the_rule():
    net = network()
    loss_of(net).backward()
    exact = gradients(net)
    d_in = torch.tensor([1.0, -1.0, 1.0, 1.0])
    d_out = torch.tensor([-0.5, 1.0])
    flips = (
        FlipSpec(layer="0", indices=(1,)),
        FlipSpec(layer="1", side="postsynaptic", count=1, strength=0.75),
    )
    flip_gradients(net, flips).apply()
    flipped = gradients(net)
    assert torch.equal(flipped["0.weight"], exact["0.weight"] @ torch.diag(d_in))
    assert torch.equal(flipped["0.bias"], exact["0.bias"])  # nobody is presynaptic to a bias
    assert torch.equal(flipped["1.weight"], torch.diag(d_out) @ exact["1.weight"])
    assert torch.equal(flipped["1.bias"], d_out * exact["1.bias"])


def test_both_sides_of_a_layer_multiply():
    both = (FlipSpec(layer="0", count=1), FlipSpec(layer="0", side="postsynaptic", count=1))
    signs = flip_masks(network(), both)["0.weight"]
    expected = torch.ones(3, 4, dtype=torch.float64)
    expected[0] *= -1
    expected[:, 0] *= -1
    assert torch.equal(signs, expected)


def test_all_flipped_is_ascent():
    """D = -I changes the weights by minus what descent would, to the last bit."""
    descent, ascent = network(), network()
    flips = flip_gradients(ascent, [FlipSpec(layer="*", side="postsynaptic", fraction=1)])
    for net in (descent, ascent):
        optimiser = torch.optim.SGD(net.parameters(), lr=2.0**-6)
        loss_of(net).backward()
        if net is ascent:
            flips.apply()
        optimiser.step()
    start = network()
    assert loss_of(descent) < loss_of(start) < loss_of(ascent)
    for p, q in zip(descent.parameters(), ascent.parameters(), strict=True):
        assert torch.equal(p.grad, -q.grad)  # type: ignore[operator]


def test_frozen_synapses_do_not_move():
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    flip_gradients(net, [FlipSpec(layer="0", count=2, strength=0.5)]).on(optimiser)
    loss_of(net).backward()
    optimiser.step()
    moved = (net[0].weight != network()[0].weight).all(0)
    assert moved.tolist() == [False, False, True, True]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_channels_of_a_convolution(kind: type[nn.Module], groups: int):
    """A presynaptic flip is as if the flipped channels came with D times their activity."""
    layer: Any = kind(4, 6, 3, groups=groups)
    dims = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]
    x = torch.randn(2, 4, *(5,) * dims)
    error = torch.randn_like(layer(x))
    layer(x).backward(error)
    flip_gradients(layer, [FlipSpec(layer="", indices=(1, 2), strength=0.8)]).apply()
    signs = torch.tensor([1.0, -0.6, -0.6, 1.0]).reshape(4, *(1,) * dims)
    (expected,) = torch.autograd.grad(layer(x * signs), layer.weight, error)
    torch.testing.assert_close(layer.weight.grad, expected)


def test_accumulated_gradients_are_flipped_once():
    once, parts = network(), network()
    halves = [torch.randn(3, 4), torch.randn(2, 4)]
    once(torch.cat(halves)).square().sum().backward()
    for half in halves:
        parts(half).square().sum().backward()
    for net in (once, parts):
        flip_gradients(net, FLIPS).apply()
    for p, q in zip(once.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_hook_of_an_optimiser_flips_every_step_until_removed():
    by_hand, hooked = network(), network()
    first, second = (torch.optim.Adam(net.parameters(), lr=0.01) for net in (by_hand, hooked))
    flips, handle = flip_gradients(by_hand, FLIPS), flip_gradients(hooked, FLIPS).on(second)
    for step in range(6):
        for net, optimiser in ((by_hand, first), (hooked, second)):
            optimiser.zero_grad(set_to_none=step % 2 == 0)
            loss_of(net, step).backward()
            if net is by_hand and step < 4:
                flips.apply()
            if net is hooked and step == 4:
                handle.remove()
            optimiser.step()
    for p, q in zip(by_hand.parameters(), hooked.parameters(), strict=True):
        assert torch.equal(p, q)


def test_closures_are_refused():
    net = network()
    optimiser = torch.optim.LBFGS(net.parameters())
    flip_gradients(net, FLIPS).on(optimiser)
    with pytest.raises(ValueError, match="closure: must be None where gradients are flipped"):
        optimiser.step(lambda: loss_of(net))


def test_which_neurons():
    spec = FlipSpec(layer="0", fraction=0.25, seed=3)
    assert torch.equal(spec.diagonal(40), spec.diagonal(40))
    assert (spec.diagonal(40) < 0).sum() == 10
    assert not torch.equal(spec.diagonal(40), FlipSpec(layer="0", fraction=0.25).diagonal(40))
    other = FlipSpec(layer="0", fraction=0.25, seed=5)
    assert not torch.equal(spec.diagonal(40), other.diagonal(40))


def test_pathways_keep_their_own_updates():
    """The weight's update is flipped, that of a Kolen-Pollack feedback matrix is not."""
    net = fb.attach(network(), {"1": fb.Random(learning=fb.KolenPollack())})
    loss_of(net).backward()
    exact = gradients(net)
    flip_gradients(net, [FlipSpec(layer="1", fraction=1)]).apply()
    assert torch.equal(gradients(net)["1.weight"], -exact["1.weight"])
    assert torch.equal(gradients(net)["1.pathway.B"], exact["1.pathway.B"])


def test_compiled_networks():
    eager, compiled = network(), network()
    program: Any = torch.compile(compiled, backend="aot_eager")
    for net, run in ((eager, eager), (compiled, program)):
        loss_of(run).backward()
        flip_gradients(net, FLIPS).apply()
    for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.fixture
def small(tiny: Any) -> tuple[Any, MLPConfig, TrainingConfig]:
    mlp = MLPConfig(image_size=8, in_channels=1, num_classes=3, hidden=(6, 5))
    config = TrainingConfig(
        num_steps=8,
        batch_size=16,
        precision="float32",
        optimiser=SGD,
        checkpoint_every=4,
    )
    return tiny.toy(), mlp, config


def flips_for(net: nn.Module) -> tuple[FlipSpec, ...]:
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return (
        FlipSpec(layer="*", fraction=0.3, seed=4),
        FlipSpec(layer=names[1], side="postsynaptic", indices=(0, 2), strength=0.25),
    )


def test_training_flips_each_step(small):
    data, mlp, config = small
    net, other, plain = (mlp.build(seed=1) for _ in range(3))
    flips = flips_for(net)
    flipping = dataclasses.replace(config, flips=flips)
    train(net, data, flipping, **PLAIN)
    for name, mask in flip_masks(other, flips).items():
        other.get_parameter(name).register_hook(lambda g, d=mask: g * d.to(g.dtype))
    train(other, data, config, **PLAIN)
    train(plain, data, config, **PLAIN)
    for name, p in net.named_parameters():
        assert torch.equal(p, other.get_parameter(name))
    assert any(not torch.equal(p, plain.get_parameter(n)) for n, p in net.named_parameters())


def test_a_resumed_run_is_the_same_bits(small, tmp_path: Path):
    data, mlp, config = small
    flipping = dataclasses.replace(
        config,
        flips=flips_for(mlp.build(seed=1)),
        schedule=Constant(),
        optimiser=Optimiser(name="Adam"),
    )
    whole, stopped, resumed = (mlp.build(seed=1) for _ in range(3))
    train(whole, data, flipping, **PLAIN)
    half = dataclasses.replace(flipping, num_steps=4)
    train(stopped, data, half, folder=tmp_path, **PLAIN)
    result = train(resumed, data, flipping, folder=tmp_path, resume=True, **PLAIN)
    assert result.resumed_from == 4
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
    plain = dataclasses.replace(flipping, flips=())
    with pytest.raises(ValueError, match=r"settings have changed: config\.flips"):
        train(mlp.build(seed=1), data, plain, folder=tmp_path, resume=True, **PLAIN)


def test_stacked_training_flips_as_single_training_does(small):
    data, mlp, config = small
    flipping = dataclasses.replace(config, flips=flips_for(mlp.build(seed=1)))
    alone = [mlp.build(seed=seed) for seed in (1, 2)]
    stack = copy.deepcopy(alone)
    for net, seed in zip(alone, (5, 6), strict=True):
        train(net, data, flipping, seed=seed, progress=False, device="cpu")
    train_stacked(stack, data, flipping, seeds=(5, 6), device="cpu")
    for one, other in zip(alone, stack, strict=True):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 1.2}, "fraction=1.2 must be a fraction from 0 to 1"),
        ({"fraction": -0.1}, "fraction=-0.1 must be a fraction from 0 to 1"),
        ({"fraction": math.nan}, "fraction=nan must be a fraction from 0 to 1"),
        ({"count": -1}, "count=-1 must be a number of neurons, at least 0"),
        ({"indices": (0, -1)}, r"indices=\(0, -1\) must be different indices from 0"),
        ({"indices": (1, 1)}, r"indices=\(1, 1\) must be different indices from 0"),
        ({"indices": (1,), "seed": 3}, "seed=3 must be None"),
        ({"count": 1, "strength": 1.5}, "strength=1.5 must lie from 0 to 1"),
        ({}, "exactly one of fraction, count and indices"),
        ({"count": 1, "fraction": 0.5}, "exactly one of fraction, count and indices"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        FlipSpec(layer="0", **settings)


def test_a_count_is_no_fraction():
    unchecked = copy.copy(FlipSpec(layer="0", count=1))  # the type checker of tests comes first
    for count in (0.5, math.nan):
        vars(unchecked)["count"] = count
        with pytest.raises(ValueError, match=f"count={count} must be a whole number"):
            unchecked.__post_init__()


@pytest.mark.parametrize(
    ("flips", "message"),
    [
        ([FlipSpec(layer="0", count=5)], "layer='0', presynaptic: count=5 must choose among 4"),
        ([FlipSpec(layer="1", indices=(3,))], r"indices=\(3,\) must choose among 3 neurons"),
        ([FlipSpec(layer="readout", count=1)], "layer='readout' matches no linear layer .* 0, 1"),
        ([FlipSpec(layer="*", count=1)] * 2, "layer='0' is flipped twice on its presynaptic side"),
    ],
)
def test_flips_that_do_not_fit(flips: list[FlipSpec], message: str):
    with pytest.raises(ValueError, match=message):
        flip_gradients(network(), flips)


def test_a_frozen_layer_is_refused():
    net = network()
    net[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="layer='0': its weight is no parameter that learns"):
        flip_gradients(net, [FlipSpec(layer="0", count=1)])


def test_flips_are_settings_of_a_run():
    small = {
        "data.num_train": "64",
        "data.num_validation": "32",
        "data.num_test": "32",
        "training.flips": '[{"layer": "readout", "fraction": 0.1}]',
    }
    config = change(RunConfig(name="tiny"), small)
    assert config.training.flips == (FlipSpec(layer="readout", fraction=0.1),)
    assert from_json(to_json(config)) == config
    said = dry_run(change(config, {"training.flips": '[{"layer": "readout", "count": 2}]'}))
    assert "flips on readout: 2 presynaptic" in said
    assert "flips" not in dry_run(change(config, {"training.flips": "[]"}))
    nowhere = change(config, {"training.flips": '[{"layer": "nowhere", "count": 1}]'})
    with pytest.raises(ValueError, match="layer='nowhere' matches no linear layer"):
        dry_run(nowhere)
    with pytest.raises(ValueError, match=r"fraction=2\.0 must be a fraction from 0 to 1"):
        change(config, {"training.flips": '[{"layer": "readout", "fraction": 2.0}]'})
