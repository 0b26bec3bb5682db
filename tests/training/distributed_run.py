"""Small training runs for the test of distributed training, as a program or in the test's process.

Arguments: a folder for the runs. torchrun's environment variables say which process this is.
"""

import dataclasses
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from neurofb import feedback as fb
from neurofb.data.augment import Augmentation
from neurofb.networks import MLPConfig, RetinaVVSConfig, factorise
from neurofb.training import Optimiser, RankSchedule, SVDSpaceTraining, TrainingConfig, train
from neurofb.training.session import Session

TOY = runpy.run_path(str(Path(__file__).with_name("killed_run.py")))["toy"]
CONFIG = TrainingConfig(
    num_steps=11,
    batch_size=15,  # of 70 images: shares of 8 and 7, in an epoch's last batch of 5 and 5
    precision="float32",
    checkpoint_every=4,
    snapshot_steps=(0, 6),
    optimiser=Optimiser(name="SGD", learning_rate=0.05),
    augmentation=Augmentation(rotate=True, flip=True, shift=1),
)
SEED = 5
SVD_SPACE = SVDSpaceTraining(
    alignment="subspace",
    cosine_weight=0.1,
    rank_schedule=RankSchedule(factor=0.5, minimum=3, energy=0.2, until=1.0),
)


def convolutional() -> nn.Module:
    """A network without noise; the first layer has a pathway that never fires."""
    network = RetinaVVSConfig(
        image_size=8, kernel_size=3, retina_width=4, bottleneck=2, vvs_width=4, num_classes=3,
        hidden=5, dropout=0.0, input_noise=0.0,
    ).build(seed=0)  # fmt: skip
    pathways = {"vvs_1": fb.LowRank(rank=1), "retina_1": fb.Random(learning=fb.KolenPollack())}
    pathways["vvs_2"] = fb.Direct(source="readout", rank=2)
    network.double().register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return fb.attach(network, pathways, example_input=torch.zeros(1, 1, 8, 8))


def factored() -> nn.Module:
    """Factored layers with direct feedback, whose ranks are cut after 5 and 10 steps."""
    settings = {"image_size": 8, "in_channels": 1, "num_classes": 3, "hidden": (12, 10)}
    network = factorise(MLPConfig(**settings, normalisation="none").build(seed=0), 8)
    network.double().register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    pathways = {"hidden_2": fb.SVDSpaceDirect(), "readout": fb.SVDSpace()}
    return fb.attach(network, pathways, example_input=torch.zeros(1, 1, 8, 8))


def perceptron() -> nn.Module:
    """Batch norm and dropout: what differs from one process."""
    settings = {"image_size": 8, "in_channels": 1, "num_classes": 3, "hidden": (6, 6)}
    return MLPConfig(**settings, normalisation="batch", dropout=0.5).build(seed=0)


def snapshot(network: nn.Module, optimiser: torch.optim.Optimizer) -> xr.Dataset:
    """Go backwards outside of a training step, as a measure may."""
    x = next(network.parameters()).new_ones(2, 1, 8, 8)
    with fb.exact_backward(network):
        network(x).square().sum().backward()
    network.zero_grad()
    return xr.Dataset({"output": ("class", network(x)[0].detach().numpy())})


def run(
    make: Callable[[], nn.Module], folder: Path | None = None, resume: bool = False, **settings: Any
) -> dict[str, Any]:
    network = make()
    result = train(
        network,
        TOY(),
        dataclasses.replace(CONFIG, **settings),
        seed=SEED,
        device="cpu",
        folder=folder,
        resume=resume,
        snapshot=snapshot,
        progress=False,
    )
    assert result.snapshots is not None
    history = {name: torch.tensor(v.values) for name, v in result.history.data_vars.items()}
    return {
        "weights": {k: v for k, v in network.state_dict().items() if "extra_state" not in k},
        "history": history,
        "snapshots": torch.tensor(result.snapshots.output.values),
        "fired": fb.fired(network),
        "resumed_from": result.resumed_from,
    }


def stopped_and_resumed(folder: Path) -> dict[str, Any]:
    """Break off in every process at step 6, after the checkpoint of step 4."""
    update = Session.update

    def stopping_update(self: Session, step: int) -> None:
        if step == 6:
            raise InterruptedError
        update(self, step)

    Session.update = stopping_update
    try:
        run(convolutional, folder)
    except InterruptedError:
        pass
    finally:
        Session.update = update
    return run(convolutional, folder, resume=True)


def noise_seed() -> int:
    """Return the seed of the noise in the last step of a run."""
    seeds = []

    def remember(*_: object) -> None:
        seeds.append(torch.initial_seed())

    network = perceptron()
    network.readout.register_forward_hook(remember)
    run(lambda: network, num_steps=1, snapshot_steps=(0,))
    return seeds[-1]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    found = {
        "whole": run(convolutional),
        "resumed": stopped_and_resumed(folder / "run"),
        "perceptron": run(perceptron),
        "factored": run(factored, svd_space=SVD_SPACE),
        "noise_seed": noise_seed(),
    }
    try:
        run(convolutional, folder / "run")
    except ValueError as error:
        found["refused_folder"] = str(error)
    try:
        run(convolutional, batch_size=23)
    except ValueError as error:
        found["refused_batches"] = str(error)
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
