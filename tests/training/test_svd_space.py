"""Training in SVD space: what is done to the factors around each step, and across breaks."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks import ConvNetConfig, MLPConfig, factorise
from neurofb.networks.factorised import factored_layers
from neurofb.training import (
    Constant,
    NonFiniteLossError,
    Optimiser,
    RankSchedule,
    SVDSpaceTraining,
    TrainingConfig,
    train,
    why_not_stacked,
)
from neurofb.training.local_losses import cosine_term, frobenius_term, hoyer_term
from neurofb.training.session import Session
from neurofb.training.svd_space_control import SVDSpaceControl

CONFIG = TrainingConfig(
    num_steps=12,
    batch_size=16,
    precision="float32",
    checkpoint_every=3,
    optimiser=Optimiser(name="AdamW", learning_rate=3e-3),
    schedule=Constant(),
    svd_space=SVDSpaceTraining(),
)
PLAIN: dict[str, Any] = {"seed": 5, "device": "cpu", "progress": False}
CUTS = RankSchedule(factor=0.5, minimum=3, energy=0.2, until=1.0)
HIDDEN = ("hidden_1", "hidden_2", "readout")

PATHWAYS: dict[str, dict[str, fb.PathwaySpec]] = {
    "SVD-BP": {},
    "SSA-FA": {name: fb.SVDSpace() for name in HIDDEN[1:]},
    "SSA-DFA": {"hidden_2": fb.SVDSpaceDirect(), "readout": fb.SVDSpace()},
}


def network(method: str = "SSA-FA", rank: int = 8, **pathways: fb.PathwaySpec) -> nn.Module:
    config = MLPConfig(
        image_size=8, in_channels=1, num_classes=3, hidden=(12, 10), normalisation="none",
        initialisation="he_normal",
    )  # fmt: skip
    net = factorise(config.build(seed=0), rank)
    chosen = PATHWAYS[method] | pathways
    return fb.attach(net, chosen, example_input=torch.zeros(2, 1, 8, 8), seed=1)


def vary(base: TrainingConfig = CONFIG, /, **settings: Any) -> TrainingConfig:
    own = {f.name for f in dataclasses.fields(SVDSpaceTraining)}
    parts = {key: value for key, value in settings.items() if key in own}
    rest = {key: value for key, value in settings.items() if key not in own}
    assert base.svd_space is not None
    space = dataclasses.replace(base.svd_space, **parts)
    return dataclasses.replace(base, svd_space=space, **rest)


def control_of(net: nn.Module, **settings: Any) -> SVDSpaceControl:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    space = SVDSpaceTraining(**settings)
    return SVDSpaceControl(net, optimiser, space, num_steps=10, steps_per_epoch=5)


def residual(net: nn.Module) -> float:
    gaps = [
        (f.T @ f - torch.eye(f.shape[1])).norm().item()
        for layer in factored_layers(net).values()
        for f in (layer.U.detach(), layer.V.detach())
    ]
    return max(gaps, key=lambda gap: math.inf if math.isnan(gap) else gap)


def backward(net: nn.Module, num_images: int = 6) -> None:
    x = torch.randn(num_images, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    functional.cross_entropy(net(x), torch.arange(num_images) % 3).backward()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def same_state(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    plain = {key for key, value in first.items() if isinstance(value, Tensor)}
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in plain)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Session, int], None]], None]:
    """Call a function after every step of a training run."""

    def install(look: Callable[[Session, int], None]) -> None:
        update = Session.update

        def looked(self: Session, step: int) -> None:
            update(self, step)
            look(self, step)

        monkeypatch.setattr(Session, "update", looked)

    return install


@pytest.mark.parametrize("method", PATHWAYS)
@pytest.mark.parametrize("orthogonality", ["retract", "polar"])
def test_factors_are_orthonormal_after_every_step(
    tiny: ModuleType, looks, method: str, orthogonality: str
):
    seen: list[float] = []
    looks(lambda session, step: seen.append(residual(session.network)))
    train(network(method), tiny.toy(), vary(orthogonality=orthogonality), **PLAIN)
    assert len(seen) == 12
    assert max(seen) < 1e-5
    seen.clear()
    train(network(method), tiny.toy(), vary(orthogonality="none"), **PLAIN)
    assert max(seen) > 1e-2  # without it they drift


def test_random_feedback_inflates_factors_that_nothing_holds(tiny: ModuleType):
    """What is specific to feedback: backpropagation's factors stay small without any control."""
    long = vary(num_steps=150, optimiser=Optimiser(name="SGD", learning_rate=0.1))
    found: dict[tuple[str, str], float] = {}
    for method in ("SVD-BP", "SSA-FA"):
        for mode in ("none", "retract"):
            net = network(method)
            try:
                train(net, tiny.toy(), vary(long, orthogonality=mode), **PLAIN)
                found[method, mode] = residual(net)
            except NonFiniteLossError:
                found[method, mode] = math.inf
    assert found["SSA-FA", "none"] > 5 * found["SVD-BP", "none"]
    assert max(found["SSA-FA", "retract"], found["SVD-BP", "retract"]) < 1e-5


def test_a_stronger_soft_term_holds_factors_closer(tiny: ModuleType):
    found = []
    for weight in (0.0, 0.1, 1.0):
        net = network()
        config = vary(num_steps=60, orthogonality="soft", orthogonality_weight=weight)
        train(net, tiny.toy(), config, **PLAIN)
        found.append(residual(net))
    assert found[0] > 1.5 * found[1] > 2 * found[2]


def test_terms_are_added_to_the_gradients():
    net = network("SSA-FA")
    backward(net)
    data = gradients(net)
    settings = {"alignment": "frobenius", "alignment_weight": 0.2, "hoyer_weight": 0.3}
    soft = {"orthogonality": "soft", "orthogonality_weight": 0.7}
    control_of(net, **settings, **soft).before_step()
    total = gradients(net)
    for name, layer in factored_layers(net).items():
        target = layer.pathway if name != "hidden_1" else None
        for key, other in (("U", "B_U"), ("s", "B_S"), ("V", "B_V")):
            x = layer.get_parameter(key).detach()
            expected = data[f"{name}.{key}"]
            if target is not None:
                expected = expected + 0.2 * frobenius_term(x, target.get_buffer(other))[1]
            if key == "s":
                expected = expected + 0.3 * hoyer_term(x)[1]
            else:
                expected = expected + 0.7 * 4 * x @ (x.T @ x - torch.eye(x.shape[1]))
            torch.testing.assert_close(total[f"{name}.{key}"], expected)
        assert torch.equal(total[f"{name}.bias"], data[f"{name}.bias"])


def test_direct_feedback_aligns_each_factor_with_the_pathway_that_it_meets():
    """U with the B_U on the next layer's input, V with that on its own; the readout has its own."""
    net = network("SSA-DFA")
    backward(net)
    data = gradients(net)
    control_of(net, alignment="subspace", alignment_weight=0.2, orthogonality="none").before_step()
    total = gradients(net)
    layers = factored_layers(net)
    targets = {
        "hidden_1.U": layers["hidden_2"].pathway.B_U,
        "hidden_2.V": layers["hidden_2"].pathway.B_U,
        "readout.U": layers["readout"].pathway.B_U,
        "readout.V": layers["readout"].pathway.B_V,
    }
    for name, gradient in total.items():
        if name in targets:
            b, x = targets[name], net.get_parameter(name).detach()
            torch.testing.assert_close(gradient, data[name] - 0.2 * 2 * b @ (b.T @ x))
        else:
            assert torch.equal(gradient, data[name]), name


@pytest.mark.parametrize("method", PATHWAYS)
def test_the_cosine_term_is_that_of_output_and_error(method: str):
    net = network(method)
    control = control_of(net, cosine_weight=0.5)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in factored_layers(net).items():

        def keep(module: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            a, h = out.detach(), inputs[0].detach()
            out.register_hook(lambda delta: seen.update({name: (h, cosine_term(a, delta)[1])}))

        layer.register_forward_hook(keep)
    with control.watching():
        backward(net)
    data, seen_before = gradients(net), dict(seen)
    control.after_backward()
    total = gradients(net)
    assert len(seen_before) == 3
    for name, (h, up) in seen_before.items():
        layer = net.get_submodule(name)
        u, s, v = (f.detach() for f in (layer.U, layer.s, layer.V))
        own = {
            "U": up.T @ ((h @ v) * s),
            "s": ((up @ u) * (h @ v)).sum(0),
            "V": h.T @ ((up @ u) * s),
            "bias": up.sum(0),
        }
        for key, expected in own.items():
            change = total[f"{name}.{key}"] - data[f"{name}.{key}"]
            torch.testing.assert_close(change, 0.5 * expected, rtol=1e-4, atol=1e-6)
    assert not control.seen


def test_shares_of_the_cosine_term_average_to_the_whole_batchs():
    def gradient(images: Tensor, share: float) -> Tensor:
        net = network()
        control = control_of(net, cosine_weight=1.0)
        with control.watching():
            out = net(images)
        (out.square().sum() / 10).backward()
        net.zero_grad()
        control.after_backward(share)
        return net.get_parameter("hidden_2.U").grad

    x = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    parts = [gradient(part, 2 * len(part) / 10) for part in (x[:6], x[6:])]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, gradient(x, 1.0))


def test_projected_gradients_are_tangent():
    net = network()
    backward(net)
    control_of(net, tangent=True, hoyer_weight=0.1).before_step()
    for layer in factored_layers(net).values():
        for factor in (layer.U, layer.V):
            inner = factor.detach().T @ factor.grad
            assert (inner + inner.T).abs().max() < 1e-6
            assert factor.grad.norm() > 1e-4


def test_no_error_gives_no_gradient_of_the_data():
    for method in PATHWAYS:
        net = network(method)
        (net(torch.randn(4, 1, 8, 8)) * 0).sum().backward()
        assert all(not gradient.any() for gradient in gradients(net).values())
        assert len(gradients(net)) == 12


@pytest.mark.parametrize("feedback", ["track", "kolen_pollack"])
def test_feedback_that_moves_meets_the_factors(tiny: ModuleType, looks, feedback: Any):
    """Tracking: B' − X' = (1 − rate) (B − X'); Kolen-Pollack: B' − X' = (1 − rate) (B − X)."""
    net, rate = network(), 0.2
    layers = {name: factored_layers(net)[name] for name in HIDDEN[1:]}

    def state() -> dict[str, tuple[Tensor, Tensor]]:
        pairs = (("U", "B_U"), ("s", "B_S"), ("V", "B_V"))
        return {
            f"{name}.{key}": (
                layer.get_parameter(key).detach().clone(),
                layer.pathway.get_buffer(other).clone(),
            )
            for name, layer in layers.items()
            for key, other in pairs
        }

    states = [state()]
    looks(lambda session, step: states.append(state()))
    train(net, tiny.toy(), vary(feedback=feedback, feedback_rate=rate), **PLAIN)
    for before, after in itertools.pairwise(states):
        for key, (x, b) in after.items():
            reached = x if feedback == "track" else before[key][0]
            expected = (1 - rate) * (before[key][1] - reached)
            torch.testing.assert_close(b - x, expected, rtol=1e-4, atol=1e-5)
    for key, (x, b) in states[-1].items():
        start = (states[0][key][0] - states[0][key][1]).norm()
        assert (x - b).norm() < 0.2 * start


def test_fixed_feedback_stays(tiny: ModuleType):
    net = network()
    before = net.get_buffer("hidden_2.pathway.B_U").clone()
    train(net, tiny.toy(), CONFIG, **PLAIN)
    assert torch.equal(net.get_buffer("hidden_2.pathway.B_U"), before)


@pytest.mark.parametrize("method", PATHWAYS)
def test_ranks_fall_at_ends_of_epochs_and_training_goes_on(tiny: ModuleType, looks, method: str):
    net = network(method)
    seen: list[list[int]] = []
    looks(
        lambda session, step: seen.append(
            [layer.rank for layer in factored_layers(session.network).values()]
        )
    )
    result = train(net, tiny.toy(), vary(rank_schedule=CUTS), **PLAIN)  # 5 steps an epoch
    assert seen[:4] == [[8, 8, 3]] * 4
    assert seen[4:9] == [[4, 4, 3]] * 5
    assert seen[9:] == [[3, 3, 3]] * 3
    assert residual(net) < 1e-5
    assert result.history.loss.notnull().all()
    for name, layer in factored_layers(net).items():
        if method == "SSA-FA" and name != "hidden_1":
            shapes = [tuple(b.shape)[-1] for b in layer.pathway.buffers()]
            assert shapes == [layer.rank] * 3
    if method == "SSA-DFA":
        pathway = net.get_submodule("hidden_2").pathway
        assert [tuple(b.shape) for b in pathway.buffers()] == [(12, 3), (3,), (3, 3)]


def test_feedback_is_cut_along_the_index_of_the_factors():
    """A pathway that holds the layer's own factors still holds them after a cut."""
    net = network("SSA-FA")
    layers = [factored_layers(net)[name] for name in HIDDEN[1:]]
    for layer in layers:
        with torch.no_grad():
            layer.s.copy_(layer.s.flip(0))  # the strongest components are the last
        layer.pathway.copy_from_layer(layer)
    control_of(net, rank_schedule=RankSchedule(factor=0.5, minimum=2, energy=0.1)).after_step(5)
    assert [layer.rank for layer in layers] == [4, 2]
    for layer in layers:
        for factor, name in ((layer.U, "B_U"), (layer.s, "B_S"), (layer.V, "B_V")):
            torch.testing.assert_close(factor.detach(), layer.pathway.get_buffer(name))


@pytest.mark.parametrize("method", PATHWAYS)
@pytest.mark.parametrize("stop", [4, 6, 10])
def test_a_run_that_was_broken_off_ends_bitwise_alike(
    tiny: ModuleType, tmp_path, monkeypatch: pytest.MonkeyPatch, method: str, stop: int
):
    """Checkpoints after 3, 6 and 9 updates; cuts after 5 and 10: before, between, behind them."""
    moving = {} if method != "SSA-FA" else {"feedback": "track", "alignment": "frobenius"}
    config = vary(rank_schedule=CUTS, hoyer_weight=0.01, **moving)
    whole = network(method)
    history = train(whole, tiny.toy(), config, **PLAIN).history

    class Stop(Exception):
        pass

    with monkeypatch.context() as patch:
        update = Session.update

        def stopping(self: Session, step: int) -> None:
            if step == stop:
                raise Stop
            update(self, step)

        patch.setattr(Session, "update", stopping)
        with pytest.raises(Stop):
            train(network(method), tiny.toy(), config, folder=tmp_path, **PLAIN)
    again = network(method)
    resumed = train(again, tiny.toy(), config, folder=tmp_path, resume=True, **PLAIN)
    assert resumed.resumed_from == stop // 3 * 3
    assert same_state(again, whole)
    assert resumed.history.identical(history)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("unfolding", ["separable", "channel"])
def test_convolutions_train_and_are_cut(tiny: ModuleType, tmp_path, precision: Any, unfolding: Any):
    def make() -> nn.Module:
        config = ConvNetConfig(
            image_size=8, in_channels=1, num_classes=3, channels=(4, 6), strides=(2, 1),
            normalisation="batch",
        )  # fmt: skip
        net = factorise(config.build(seed=0), 9, unfolding=unfolding)
        return fb.attach(net, {"conv_2": fb.SVDSpace(), "readout": fb.SVDSpace()}, seed=1)

    settings = {"cosine_weight": 0.1, "alignment": "frobenius", "feedback": "track"}
    config = vary(rank_schedule=CUTS, precision=precision, num_steps=10, **settings)
    net = make()
    starts = {name: layer.rank for name, layer in factored_layers(net).items()}
    train(net, tiny.toy(), config, folder=tmp_path, **PLAIN)
    assert residual(net) < 1e-5
    ranks = {name: layer.rank for name, layer in factored_layers(net).items()}
    assert ranks == {name: min(start, 3) for name, start in starts.items()}
    again = make()
    train(again, tiny.toy(), config, folder=tmp_path, resume=True, **PLAIN)
    assert same_state(again, net)


def test_the_same_seed_gives_the_same_bits(tiny: ModuleType):
    nets = [network("SSA-DFA") for _ in range(2)]
    for net in nets:
        train(net, tiny.toy(), vary(rank_schedule=CUTS, cosine_weight=0.01), **PLAIN)
    assert same_state(*nets)
    assert not same_state(nets[0], network("SSA-DFA", rank=3))


def test_a_run_with_a_rank_schedule_cannot_be_prolonged(tiny: ModuleType, tmp_path):
    """`until` is a share of all steps, so that the cuts would have come at other times."""
    config = vary(rank_schedule=CUTS, num_steps=6)
    train(network(), tiny.toy(), config, folder=tmp_path, **PLAIN)
    longer = dataclasses.replace(config, num_steps=9)
    with pytest.raises(ValueError, match="num_steps cannot grow because the rank schedule"):
        train(network(), tiny.toy(), longer, folder=tmp_path, resume=True, **PLAIN)


def test_frozen_factors_stay(tiny: ModuleType):
    net = network()
    frozen = net.get_parameter("hidden_2.U").requires_grad_(False)
    before = frozen.clone()
    settings = {"alignment": "subspace", "cosine_weight": 0.1}
    train(net, tiny.toy(), vary(tangent=True, **settings), **PLAIN)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("SVD-BP", {"alignment": "subspace"}, "alignment='subspace': no factored layer has"),
        ("SVD-BP", {"feedback": "track"}, "feedback='track': no factored layer has"),
        ("SSA-DFA", {"feedback": "kolen_pollack"}, "direct pathway on layer 'hidden_2' has no"),
        (
            "SSA-DFA",
            {"alignment": "frobenius", "rank_schedule": CUTS},
            "with a rank_schedule.*must be 'subspace'",
        ),
    ],
)
def test_what_the_feedback_does_not_allow_is_named(method: str, settings: Any, message: str):
    with pytest.raises(ValueError, match=message):
        control_of(network(method), **settings)


def test_frobenius_alignment_needs_equal_shapes():
    net = network("SSA-DFA", hidden_2=fb.SVDSpaceDirect(rank=4))
    with pytest.raises(ValueError, match=r"of layer '\w+' has shape \(12, 8\) .* they must agree"):
        control_of(net, alignment="frobenius")
    control_of(net, alignment="subspace")


def test_a_dense_network_is_refused():
    with pytest.raises(ValueError, match=r"svd_space: the network has no factored layer"):
        control_of(nn.Sequential(nn.Linear(3, 2)))


def test_a_stack_refuses_by_name():
    reason = why_not_stacked(network("SVD-BP"), CONFIG, torch.zeros(2, 1, 8, 8))
    assert reason.startswith("svd_space=")


def test_settings_survive_json_and_name_what_is_wrong():
    adapter = TypeAdapter(TrainingConfig)
    config = vary(rank_schedule=CUTS, alignment="subspace", feedback="track")
    assert adapter.validate_json(adapter.dump_json(config)) == config
    for settings, message in (
        ({"hoyer_weight": -1.0}, "hoyer_weight=-1.0 must be a finite number >= 0"),
        ({"cosine_weight": math.inf}, "cosine_weight=inf must be a finite number"),
        ({"feedback_rate": 0.0}, r"feedback_rate=0.0 must be in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            SVDSpaceTraining(**settings)
