"""A small factored network, its settings and what tests look at in it."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.networks import MLPConfig, factorise
from neurofb.networks.factorised import factored_layers
from neurofb.training import (
    Constant,
    Optimiser,
    RankSchedule,
    SVDSpaceTraining,
    TrainingConfig,
)
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
