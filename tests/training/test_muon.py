"""Muon as an optimiser: equal to torch's where torch has it, and all that torch's refuses."""

import copy
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.config import RunConfig, change, from_json, to_json
from neurofb.training import (
    Constant,
    Muon,
    Optimiser,
    TrainingConfig,
    newton_schulz,
    train,
)

SHAPES = ((6, 6), (4, 9), (9, 4), (3, 30), (6, 6), (6, 6))


def parameters(shapes: tuple = SHAPES, seed: int = 0, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def give_gradients(own: list[nn.Parameter], seed: int) -> None:
    for parameter, gradient in zip(
        own, parameters(tuple(p.shape for p in own), 100 + seed, own[0].dtype), strict=True
    ):
        parameter.grad = gradient.detach().clone()


def run(optimiser: torch.optim.Optimizer, own: list[nn.Parameter], steps: range = range(4)):
    for step in steps:
        give_gradients(own, step)
        optimiser.step()
    return [parameter.detach().clone() for parameter in own]


TORCH = [
    {},
    {"weight_decay": 0.3},
    {"nesterov": False, "momentum": 0.8},
    {"scale": "match_rms_adamw", "weight_decay": 0.1},
]


def theirs(own: list[nn.Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    settings = {"weight_decay": 0.0, "lr": 0.05, **settings}
    return torch.optim.Muon(own, adjust_lr_fn=settings.pop("scale", None), **settings)


needs_torchs = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own"
)


@needs_torchs
@pytest.mark.parametrize("settings", TORCH)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_torchs_to_its_half_precision(settings: dict[str, Any], dtype: str):
    ours, other = parameters(), parameters()
    result = run(Muon(ours, lr=0.05, ns_dtype=dtype, **settings), ours)
    expected = run(theirs(other, settings), other)
    tolerance = {"float32": 0.05, "bfloat16": 0.02}[dtype]
    start = parameters()
    for a, b, c in zip(result, expected, start, strict=True):
        assert float((a - b).norm() / (b - c.detach()).norm()) < tolerance


@needs_torchs
@pytest.mark.parametrize("settings", TORCH)
def test_all_but_the_arithmetic_equals_torchs(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    def in_double(g: Tensor, *_: Any) -> Tensor:
        return newton_schulz(g, dtype=torch.float64)

    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", in_double)
    ours, other = (parameters(dtype=torch.float64) for _ in range(2))
    result = run(Muon(ours, lr=0.05, ns_dtype="float64", **settings), ours)
    for a, b in zip(result, run(theirs(other, settings), other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_the_others_get_adamw(fused: bool):
    shapes = ((5,), (3, 4), (), (2, 1, 3, 3))
    ours, other = parameters(shapes), parameters(shapes)
    settings: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1, "betas": (0.7, 0.9), "eps": 1e-3}
    result = run(Muon(ours, matrix=False, **settings), ours)
    expected = run(torch.optim.AdamW(other, fused=fused, **settings), other)
    for a, b in zip(result, expected, strict=True):
        if fused:
            assert torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_kernel_is_its_flattened_matrix():
    for settings in ({}, {"scale": "match_rms_adamw"}, {"exact": True}, {"weight_decay": 0.5}):
        kernel, matrix = parameters(((8, 3, 3, 3),)), parameters(((8, 27),))
        laid_out = [nn.Parameter(kernel[0].detach().to(memory_format=torch.channels_last))]
        a = run(Muon(kernel, **settings), kernel)[0]
        b = run(Muon(matrix, **settings), matrix)[0]
        c = run(Muon(laid_out, **settings), laid_out)[0]
        assert torch.equal(a.flatten(1), b)
        torch.testing.assert_close(c, a, rtol=1e-5, atol=1e-6)


def test_together_as_one_by_one():
    joint, alone = parameters(), parameters()
    result = run(Muon(joint, lr=0.1), joint)
    for parameter, other, seed_of in zip(result, alone, range(len(alone)), strict=True):
        single = Muon([other], lr=0.1)
        for step in range(4):
            give_gradients(alone, step)
            single.step()
        torch.testing.assert_close(parameter, alone[seed_of].detach(), rtol=0, atol=2e-6)


def test_gradients_are_left_and_their_absence_is_left_alone():
    own = parameters(((4, 5), (4, 5), (6, 2, 3, 3)))
    vector = parameters(((3,),))
    muon = Muon([{"params": own}, {"params": vector, "matrix": False}])
    give_gradients(own, 0)
    give_gradients(vector, 0)
    own[1].grad = None
    before = [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in own]
    muon.step()
    assert torch.equal(own[1], before[1][0])
    for parameter, (_, gradient) in zip(own, before, strict=True):
        assert parameter.grad is gradient or torch.equal(parameter.grad, gradient)
    assert not torch.equal(own[0], before[0][0])
    assert muon.step(lambda: torch.tensor(3.0)) == 3.0


def test_zero_gradients_move_nothing_but_by_decay():
    for decay in (0.0, 0.2):
        own = parameters(((3, 4), (2, 30)))
        before = [parameter.detach().clone() for parameter in own]
        for parameter in own:
            parameter.grad = torch.zeros_like(parameter)
        Muon(own, lr=0.5, weight_decay=decay).step()
        for parameter, old in zip(own, before, strict=True):
            torch.testing.assert_close(parameter.detach(), old * (1 - 0.5 * decay))


def saved_and_loaded(
    muon: torch.optim.Optimizer, own: list[nn.Parameter]
) -> tuple[Muon, list[nn.Parameter]]:
    file = io.BytesIO()
    torch.save({"weights": own, "state": muon.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = [nn.Parameter(parameter.detach().clone()) for parameter in state["weights"]]
    loaded = groups(again)
    loaded.load_state_dict(state["state"])
    return loaded, again


def deep_copied(muon: torch.optim.Optimizer, own: list[nn.Parameter]):
    own, muon = copy.deepcopy((own, muon))
    return muon, own


def groups(own: list[nn.Parameter]) -> Muon:
    return Muon([{"params": own[:3]}, {"params": own[3:], "matrix": False, "lr": 0.01}], lr=0.1)


@pytest.mark.parametrize("kept", [saved_and_loaded, deep_copied])
def test_state_survives_bitwise(kept: Callable[..., Any]):
    shapes = ((6, 6), (3, 4, 3, 3), (6, 6), (5,), (2, 2))
    own = parameters(shapes)
    muon = groups(own)
    run(muon, own, range(3))
    other, copied = kept(muon, own)
    assert other.state_dict()["param_groups"] == muon.state_dict()["param_groups"]
    for a, b in zip(run(muon, own, range(3, 6)), run(other, copied, range(3, 6)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["Muon", "RankControlled"])
def test_a_run_is_resumed_bitwise(tiny: ModuleType, tmp_path: Path, name: str):
    options = {"Muon": {"scale": "spectral"}, "RankControlled": {"mode": "flat", "share": 0.5}}
    optimiser = Optimiser(
        name=name, learning_rate=0.01, other_learning_rate=1e-3, options=options[name]
    )

    def finish(folder: Path | None, num_steps: int) -> nn.Module:
        config = TrainingConfig(
            num_steps=num_steps,
            batch_size=16,
            checkpoint_every=4,
            optimiser=optimiser,
            schedule=Constant(),
            precision="float32",
        )
        network = fb.attach(
            tiny.tiny_network(pathway=False),
            {"vvs_1": fb.LowRank(rank=1), "vvs_2": fb.Random(learning=fb.KolenPollack())},
        )
        resume = folder is not None and any(folder.iterdir())
        settings = {"folder": folder, "resume": resume, "progress": False}
        train(network, tiny.toy(), config, seed=5, device="cpu", **settings)
        return network

    whole = finish(None, 8)
    finish(tmp_path, 4)
    resumed = finish(tmp_path, 8)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_vectors_among_matrices_are_listed():
    layer = nn.Linear(3, 2)
    pattern = r"params: Muon acts on real matrices .* these are none: bias \(2,\); put them"
    with pytest.raises(ValueError, match=pattern):
        Muon(layer.named_parameters())
    with pytest.raises(ValueError, match=r"number 0 \(3,\), number 2 \(4,\)"):
        Muon(parameters(((3,), (2, 2), (4,))))
    muon = Muon([layer.weight])
    with pytest.raises(ValueError, match=r"number 0 \(2,\)"):
        muon.add_param_group({"params": [layer.bias]})
    assert len(muon.param_groups) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, r"lr=-1.0 must be a finite number >= 0"),
        ({"weight_decay": float("nan")}, r"weight_decay=nan must be a finite number >= 0"),
        ({"momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
        ({"scale": "rms"}, r"scale='rms' must be one of original, match_rms_adamw, spectral"),
        ({"num_iterations": 0}, r"num_iterations=0 must be an integer >= 1"),
        ({"ns_dtype": "int8"}, r"ns_dtype='int8' must be one of float32, bfloat16, float64"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be two numbers in \[0, 1\)"),
        ({"eps": -1e-8}, r"eps=-1e-08 must be a number >= 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Muon([nn.Linear(2, 2).weight], **settings)
    if settings.keys() & {"lr", "weight_decay"}:
        return
    with pytest.raises(ValueError, match=f"Muon with options=.*: {message}"):
        Optimiser(name="Muon", options=settings).build(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "AdamW", "other_learning_rate": 0.1}, r"other_learning_rate=0.1 must be None"),
        ({"name": "Muon", "other_learning_rate": -0.1}, r"other_learning_rate=-0.1 must be a fin"),
        ({"name": "Muon", "options": {"matrix": False}}, r"options\['matrix'\] is no option"),
        ({"name": "Muon", "options": {"ns_steps": 3}}, r"options\['ns_steps'\] is no option of M"),
    ],
)
def test_options_that_do_not_fit_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Optimiser(**settings)


def test_settings_survive_json_and_changes_by_name():
    text: dict[str, Any] = {"scale": "match_rms_adamw", "exact": True, "num_iterations": 3}
    muon = Optimiser(name="Muon", other_learning_rate=1e-3, options=text)
    cut = Optimiser(name="RankControlled", options={"mode": "truncate", "rank": 2})
    for optimiser in (muon, cut):
        config = RunConfig(name="a", training=TrainingConfig(optimiser=optimiser))
        again = from_json(to_json(config))
        assert again == config
        kinds = [type(value) for value in again.training.optimiser.options.values()]
        assert kinds == [type(value) for value in optimiser.options.values()]
        again.training.optimiser.build(nn.Linear(3, 2))
    changes = {
        "training.optimiser.name": "Muon",
        "training.optimiser.other_learning_rate": "0.5",
        "training.optimiser.options": '{"scale": "spectral"}',
    }
    changed = change(RunConfig(name="a"), changes).training.optimiser
    assert (changed.name, changed.other_learning_rate) == ("Muon", 0.5)
    assert changed.options == {"scale": "spectral"}


def test_odd_arguments_of_newton_schulz():
    with pytest.raises(ValueError, match=r"g of shape \(3,\) must have rows and columns"):
        inspect.unwrap(newton_schulz)(torch.ones(3))
    with pytest.raises(ValueError, match=r"num_iterations=2.5 must be an integer >= 1"):
        Muon([{"params": [nn.Linear(2, 2).weight], "num_iterations": 2.5}])
    with pytest.raises(ValueError, match="num_iterations=0 must be at least 1"):
        newton_schulz(torch.eye(2), num_iterations=0)
    with pytest.raises(ValueError, match=r"dtype=torch.int64 must be a floating-point type"):
        newton_schulz(torch.eye(2), dtype=torch.int64)


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="a gradient is sparse"):
        Muon(embedding.parameters()).step()
