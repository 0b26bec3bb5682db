import dataclasses
import math
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from neurofb.data.augment import Augmentation
from neurofb.data.images import ImageSet
from neurofb.feedback import (
    Direct,
    FactoredKolenPollack,
    LowRank,
    Oja,
    Random,
    SvdRefresh,
    attach,
)
from neurofb.training import (
    Constant,
    Cosine,
    NonFiniteLossError,
    Optimiser,
    TrainingConfig,
    evaluate,
    train,
)
from neurofb.training.checkpoint import load_checkpoint, save_checkpoint
from neurofb.training.order import batch_indices
from neurofb.training.session import Session

NO_AUGMENTATION = Augmentation(rotate=False, flip=False, shift=0)
CONFIG = TrainingConfig(num_steps=12, batch_size=16, precision="float32", checkpoint_every=5)
PLAIN: dict[str, Any] = {"seed": 5, "device": "cpu", "progress": False}


def vary(**settings: Any) -> TrainingConfig:
    return dataclasses.replace(CONFIG, **settings)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Stop(Exception):
    pass


def stop_before(monkeypatch: pytest.MonkeyPatch, step_to_stop: int) -> None:
    update = Session.update

    def stopping_update(self, step: int) -> None:
        if step == step_to_stop:
            raise Stop
        update(self, step)

    monkeypatch.setattr(Session, "update", stopping_update)


def biases(network: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> xr.Dataset:
    values = network.get_submodule("retina_1").bias.detach().numpy().copy()
    return xr.Dataset(
        {"bias": ("unit", values), "status": ("unit", ["ok", "dead", "ok", "truncated"])},
        coords={"unit": range(4)},
        attrs={"title": "biases"},
    )


def test_history_is_aligned_with_the_steps(tiny: ModuleType):
    network = tiny.tiny_network()
    history = train(network, tiny.toy(), CONFIG, **PLAIN).history
    assert history.sizes == {"step": 12, "epoch": 3}
    assert history.step.values.tolist() == list(range(12))
    assert not history.to_array().isnull().any()
    factors = [CONFIG.schedule.factor(s, num_steps=12, steps_per_epoch=5) for s in range(12)]
    np.testing.assert_allclose(history.learning_rate, 1e-3 * np.array(factors), rtol=1e-12)
    assert history.epoch_at_step.values.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert history.step_at_epoch.values.tolist() == [5, 10, 12]
    np.testing.assert_allclose(history.epoch, [1.0, 2.0, 2.4])
    assert history.batch_checksum.values.tolist() == [
        zlib.crc32(batch_indices(5, step, 70, 16).numpy().tobytes()) for step in range(12)
    ]
    final = evaluate(network, tiny.toy().validation)
    assert history.validation_loss.values[-1] == pytest.approx(final.loss)
    assert history.validation_accuracy.values[-1] == final.accuracy
    assert all({"units", "long_name"} <= set(variable.attrs) for variable in history.values())


def test_two_steps_are_the_written_out_updates(tiny: ModuleType):
    config = vary(
        num_steps=2,
        augmentation=NO_AUGMENTATION,
        optimiser=Optimiser(name="SGD", learning_rate=0.1),
        schedule=Constant(),
    )
    settings = {"pathway": False, "input_noise": 0.0, "dropout": 0.0}
    network, data = tiny.tiny_network(**settings), tiny.toy()
    history = train(network, data, config, **PLAIN).history
    expected = tiny.tiny_network(**settings)
    for step in range(2):
        indices = batch_indices(5, step, 70, 16)
        logits = expected(data.train.images[indices])
        loss = functional.cross_entropy(logits, data.train.labels[indices])
        assert history.loss.values[step] == pytest.approx(loss.item(), rel=1e-6)
        gradients = torch.autograd.grad(loss, list(expected.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(expected.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    for one, other in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_separable_problem_is_learnt(tiny: ModuleType):
    config = vary(num_steps=60, optimiser=Optimiser(learning_rate=0.02))
    network = tiny.tiny_network(pathway=False, input_noise=0.0, dropout=0.0)
    result = train(network, tiny.toy(), config, **PLAIN)
    assert result.history.validation_accuracy.values[-1] > 0.8
    assert result.history.loss.values[-5:].mean() < 0.5 * result.history.loss.values[:5].mean()


def test_weights_follow_from_the_seed_alone(tiny: ModuleType):
    first, again, other = tiny.tiny_network(), tiny.tiny_network(), tiny.tiny_network()
    train(first, tiny.toy(), CONFIG, **PLAIN)
    torch.manual_seed(99)
    torch.rand(7)
    train(again, tiny.toy(), CONFIG, **PLAIN)
    train(other, tiny.toy(), CONFIG, **{**PLAIN, "seed": 6})
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_the_callers_state_is_given_back(tiny: ModuleType):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    network = tiny.tiny_network()
    train(network, tiny.toy(), CONFIG, **PLAIN)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_test_images_play_no_part(tiny: ModuleType):
    data = tiny.toy()
    other_test = ImageSet(images=data.test.images + 5, labels=data.test.labels)
    others = dataclasses.replace(data, test=other_test)
    one, two = tiny.tiny_network(), tiny.tiny_network()
    history = train(one, data, CONFIG, **PLAIN).history
    xr.testing.assert_identical(history, train(two, others, CONFIG, **PLAIN).history)
    assert same_weights(one, two)


def test_without_validation_images_nothing_is_validated(tiny: ModuleType):
    data = tiny.toy()
    none = ImageSet(images=data.test.images[:0], labels=data.test.labels[:0])
    data = dataclasses.replace(data, validation=none, checksum="")
    assert train(tiny.tiny_network(), data, CONFIG, **PLAIN).history.sizes["epoch"] == 0


@pytest.mark.parametrize("stopped", [0, 3, 5, 7, 10, 11])
def test_stopped_and_resumed_equals_uninterrupted(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: int
):
    config = vary(snapshot_steps=(0, 5, 8, 12))
    alone = tiny.tiny_network()
    expected = train(alone, tiny.toy(), config, snapshot=biases, **PLAIN)
    with monkeypatch.context() as patch:
        stop_before(patch, stopped)
        with pytest.raises(Stop):
            train(
                tiny.tiny_network(), tiny.toy(), config, folder=tmp_path, snapshot=biases, **PLAIN
            )
    network = tiny.tiny_network(init_scale=0.1)  # resuming brings the weights
    result = train(
        network, tiny.toy(), config, folder=tmp_path, resume=True, snapshot=biases, **PLAIN
    )
    assert result.resumed_from == stopped // 5 * 5
    if stopped >= 5:
        assert same_weights(alone, network)
        xr.testing.assert_identical(result.history, expected.history)
        xr.testing.assert_identical(result.snapshots, expected.snapshots)


PATHWAYS = [
    LowRank(rank=2, learning=SvdRefresh(every=3), start="svd", spatial_factor="P"),
    LowRank(rank=2, learning=FactoredKolenPollack()),
    LowRank(rank=1, learning=Oja(), spatial_factor="P"),
    Direct(source="hidden", rank=3, learning=Oja()),
    Random(),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("pathway", PATHWAYS, ids=str)
def test_every_pathway_can_be_resumed(
    tiny: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pathway: Any,
    precision: Literal["float32", "bfloat16"],
):
    config = vary(precision=precision, channels_last="auto")

    def network() -> nn.Module:
        plain = tiny.tiny_network(pathway=False)
        return attach(plain, {"vvs_1": pathway}, example_input=tiny.toy().test.images)

    alone, resumed = network(), network()
    train(alone, tiny.toy(), config, **PLAIN)
    with monkeypatch.context() as patch:
        stop_before(patch, 7)
        with pytest.raises(Stop):
            train(network(), tiny.toy(), config, folder=tmp_path, **PLAIN)
    result = train(resumed, tiny.toy(), config, folder=tmp_path, resume=True, **PLAIN)
    assert result.resumed_from == 5
    for name, value in alone.state_dict().items():
        other = resumed.state_dict()[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def test_resuming_a_finished_run_does_nothing(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network = tiny.tiny_network()
    first = train(network, tiny.toy(), CONFIG, folder=tmp_path, **PLAIN)
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    stop_before(monkeypatch, 0)
    again = tiny.tiny_network()
    result = train(again, tiny.toy(), CONFIG, folder=tmp_path, resume=True, **PLAIN)
    assert result.resumed_from == 12
    assert same_weights(network, again)
    xr.testing.assert_identical(result.history, first.history)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp
    assert not again.training


def test_a_run_can_be_made_longer_if_the_schedule_allows(tiny: ModuleType, tmp_path: Path):
    short, long = vary(num_steps=8, schedule=Constant()), vary(num_steps=12, schedule=Constant())
    alone, network = tiny.tiny_network(), tiny.tiny_network()
    expected = train(alone, tiny.toy(), long, **PLAIN).history
    train(tiny.tiny_network(), tiny.toy(), short, folder=tmp_path, **PLAIN)
    result = train(network, tiny.toy(), long, folder=tmp_path, resume=True, **PLAIN)
    assert result.resumed_from == 8
    assert same_weights(alone, network)
    xr.testing.assert_identical(result.history.loss, expected.loss)
    with pytest.raises(ValueError, match=r"config\.num_steps: 12 -> 8"):
        train(network, tiny.toy(), short, folder=tmp_path, resume=True, **PLAIN)


def test_changed_settings_are_refused_by_name(tiny: ModuleType, tmp_path: Path):
    train(tiny.tiny_network(), tiny.toy(), CONFIG, folder=tmp_path, identity={"a": 1}, **PLAIN)

    def resume(**changes: Any) -> Any:
        options = {
            "network": tiny.tiny_network(),
            "data": tiny.toy(),
            "config": CONFIG,
            "identity": {"a": 1},
            **PLAIN,
            **changes,
        }
        return train(**options, folder=tmp_path, resume=True)

    resume(config=vary(checkpoint_every=3))
    with pytest.raises(ValueError, match=r"config\.optimiser\.learning_rate: 0\.001 -> 0\.1"):
        resume(config=vary(optimiser=Optimiser(learning_rate=0.1, weight_decay=1.0)))
    with pytest.raises(ValueError, match=r"num_steps cannot grow because the cosine schedule"):
        resume(config=vary(num_steps=30))
    with pytest.raises(ValueError, match=r"seed: 5 -> 6"):
        resume(seed=6)
    with pytest.raises(ValueError, match=r"data\.checksum: "):
        resume(data=tiny.toy(num_images=71))
    with pytest.raises(ValueError, match=r"input_noise: 'GaussianNoise\(std=0\.3\)' -> 'G"):
        resume(network=tiny.tiny_network(input_noise=0.1))
    with pytest.raises(ValueError, match=r"identity\.a: 1 -> 2"):
        resume(identity={"a": 2})


def test_what_cannot_start_is_refused(tiny: ModuleType, tmp_path: Path):
    train(tiny.tiny_network(), tiny.toy(), CONFIG, folder=tmp_path, **PLAIN)
    with pytest.raises(ValueError, match=r"holds a checkpoint; resume=True goes on from it"):
        train(tiny.tiny_network(), tiny.toy(), CONFIG, folder=tmp_path, **PLAIN)
    with pytest.raises(ValueError, match=r"seed=-1 must be an integer >= 0"):
        train(tiny.tiny_network(), tiny.toy(), CONFIG, **{**PLAIN, "seed": -1})
    with pytest.raises(ValueError, match=r"resume=True needs a folder"):
        train(tiny.tiny_network(), tiny.toy(), CONFIG, resume=True, **PLAIN)


def test_another_torch_is_said_when_resuming(tiny: ModuleType, tmp_path: Path):
    train(tiny.tiny_network(), tiny.toy(), CONFIG, folder=tmp_path, **PLAIN)
    state = load_checkpoint(tmp_path)
    assert state is not None
    state["surroundings"]["torch"] = "1.0"
    save_checkpoint(state, tmp_path)
    with pytest.warns(UserWarning, match=r"resuming on another torch \(1\.0 -> 2"):
        train(tiny.tiny_network(), tiny.toy(), CONFIG, folder=tmp_path, resume=True, **PLAIN)


def test_snapshots_are_stacked_over_steps(tiny: ModuleType):
    config = vary(snapshot_steps=(0, 12, 4))
    network = tiny.tiny_network()
    result = train(network, tiny.toy(), config, snapshot=biases, **PLAIN)
    assert result.snapshots is not None
    assert result.snapshots.step.values.tolist() == [0, 4, 12]
    assert not result.snapshots.bias.sel(step=0).any()
    xr.testing.assert_equal(result.snapshots.sel(step=12, drop=True), biases(network))
    plain = tiny.tiny_network()
    train(plain, tiny.toy(), CONFIG, **PLAIN)
    assert same_weights(network, plain)
    with pytest.raises(ValueError, match=r"snapshot_steps=\(0, 12, 4\) need a snapshot function"):
        train(network, tiny.toy(), config, **PLAIN)


class Poisoned(nn.Module):
    """Returns NaN from its eighth training batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.readout = nn.Linear(64, 3)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches += 1
        return self.readout(images.flatten(1)) + (math.nan if self.batches > 7 else 0.0)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tiny: ModuleType, tmp_path: Path):
    message = r"the loss is nan at step 7 .*last good checkpoint is that of step 5, .*checkpoint.pt"
    with pytest.raises(NonFiniteLossError, match=message):
        train(Poisoned(), tiny.toy(), CONFIG, folder=tmp_path, **PLAIN)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5
    with pytest.raises(NonFiniteLossError, match=r"no checkpoint was written"):
        train(Poisoned(), tiny.toy(), CONFIG, **PLAIN)


def test_weights_that_are_not_finite_are_never_saved(tiny: ModuleType, tmp_path: Path):
    config = vary(
        num_steps=1,
        optimiser=Optimiser(name="SGD", learning_rate=3e38, options={"momentum": 0.0}),
        schedule=Constant(),
    )
    network = tiny.tiny_network(pathway=False)
    with torch.no_grad():
        network.readout.weight.mul_(1e3)
    with pytest.raises(NonFiniteLossError, match=r"a weight is not finite after 1 updates"):
        train(network, tiny.toy(), config, folder=tmp_path, **PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_images_that_do_not_fit_are_refused(tiny: ModuleType):
    with pytest.raises(ValueError, match=r"does not take the images of 'toy', shape \(1, 8, 8\)"):
        train(tiny.tiny_network(in_channels=3), tiny.toy(), CONFIG, **PLAIN)
    with pytest.raises(ValueError, match=r"returns shape \(1, 2\) .* there are 3 classes"):
        train(tiny.tiny_network(num_classes=2), tiny.toy(), CONFIG, **PLAIN)


def test_bfloat16_and_channels_last_train_alike(tiny: ModuleType):
    config = vary(num_steps=12, precision="bfloat16", channels_last=True)
    result = train(tiny.tiny_network(pathway=False), tiny.toy(), config, **PLAIN)
    assert (result.arithmetic.precision, result.arithmetic.channels_last) == ("bfloat16", True)
    exact = train(tiny.tiny_network(pathway=False), tiny.toy(), CONFIG, **PLAIN)
    np.testing.assert_allclose(result.history.loss, exact.history.loss, atol=0.03)
    assert not np.array_equal(result.history.loss, exact.history.loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, r"num_steps=0 must be an integer >= 1"),
        ({"batch_size": 0}, r"batch_size=0 must be an integer >= 1"),
        ({"checkpoint_every": -1}, r"checkpoint_every=-1 must be an integer >= 1"),
        ({"validate_every": 0}, r"validate_every=0 must be an integer >= 1"),
        ({"snapshot_steps": (13,)}, r"snapshot_steps=\(13,\) must be .*\[0,12\]$"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        vary(**settings)


def test_validation_at_chosen_steps(tiny: ModuleType):
    history = train(tiny.tiny_network(), tiny.toy(), vary(validate_every=5), **PLAIN).history
    assert history.step_at_epoch.values.tolist() == [5, 10, 12]
    assert Cosine().depends_on_num_steps
