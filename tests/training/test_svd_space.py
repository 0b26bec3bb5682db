"""Training in SVD space: what is done to the factors around each step, and across breaks."""

import dataclasses
import itertools
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.networks import ConvNetConfig, factorise
from neurofb.networks.factorised import factored_layers
from neurofb.training import (
    NonFiniteLossError,
    Optimiser,
    SVDSpaceTraining,
    TrainingConfig,
    train,
    why_not_stacked,
)
from neurofb.training.session import Session

SVD_SPACE_RUN = runpy.run_path(str(Path(__file__).with_name("svd_space_run.py")))
CONFIG = SVD_SPACE_RUN["CONFIG"]
PLAIN = SVD_SPACE_RUN["PLAIN"]
CUTS = SVD_SPACE_RUN["CUTS"]
HIDDEN = SVD_SPACE_RUN["HIDDEN"]
PATHWAYS = SVD_SPACE_RUN["PATHWAYS"]
network = SVD_SPACE_RUN["network"]
vary = SVD_SPACE_RUN["vary"]
residual = SVD_SPACE_RUN["residual"]
same_state = SVD_SPACE_RUN["same_state"]


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
