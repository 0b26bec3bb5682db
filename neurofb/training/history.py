"""What a training run leaves behind: losses per step, validation per epoch, snapshots."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from neurofb import labels
from neurofb.training import snapshots
from neurofb.training.evaluate import Evaluation


@dataclass(kw_only=True)
class History:
    """Records of a run. Losses stay on the device, so that recording one does not wait for it.

    Entry `step` of the per-step arrays belongs to the batch seen after `step` updates.
    """

    num_steps: int
    steps_per_epoch: int
    device: torch.device
    validation: list[tuple[int, float, float]] = field(default_factory=list)
    snapshots: dict[int, xr.Dataset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loss = torch.full((self.num_steps,), math.nan, device=self.device)
        self.accuracy = torch.full((self.num_steps,), math.nan, device=self.device)
        self.learning_rate = torch.full((self.num_steps,), math.nan, dtype=torch.float64)
        self.batch_checksum = torch.zeros(self.num_steps, dtype=torch.int64)

    def validated(self, step: int, evaluation: Evaluation) -> None:
        """Keep an evaluation on the validation images after `step` updates."""
        self.validation.append((step, evaluation.loss, evaluation.accuracy))

    def first_bad_step(self, step: int) -> int | None:
        """Return the first of the steps before `step` whose loss is not finite."""
        bad = (~torch.isfinite(self.loss[:step])).nonzero()
        return int(bad[0]) if len(bad) else None

    def state(self, step: int) -> dict[str, Any]:
        """Return the first `step` entries in a form that a checkpoint can hold."""
        return {
            **{name: getattr(self, name)[:step].cpu().clone() for name in _PER_STEP},
            "validation": list(self.validation),
            "snapshots": {step: snapshots.encode(ds) for step, ds in self.snapshots.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name in _PER_STEP:
            values: Tensor = state[name]
            getattr(self, name)[: len(values)] = values.to(self.device)
        self.validation = [tuple(entry) for entry in state["validation"]]
        self.snapshots = {step: snapshots.decode(code) for step, code in state["snapshots"].items()}

    def dataset(self) -> xr.Dataset:
        """Return the labelled history (dims: step, epoch)."""
        steps = torch.arange(self.num_steps)
        validated = [step for step, _, _ in self.validation]
        return xr.Dataset(
            {
                "loss": labels.variable("step", self.loss, "nat", "training loss of the batch"),
                "accuracy": labels.variable(
                    "step", self.accuracy, "1", "training accuracy of the batch"
                ),
                "learning_rate": labels.variable(
                    "step", self.learning_rate, "1", "learning rate of the weights"
                ),
                "epoch_at_step": labels.variable(
                    "step", steps // self.steps_per_epoch, "1", "number of the epoch, from 0"
                ),
                "batch_checksum": labels.variable(
                    "step", self.batch_checksum, "1", "CRC-32 of the batch's image indices"
                ),
                "validation_loss": labels.variable(
                    "epoch", [loss for _, loss, _ in self.validation], "nat", "validation loss"
                ),
                "validation_accuracy": labels.variable(
                    "epoch", [hits for _, _, hits in self.validation], "1", "validation accuracy"
                ),
                "step_at_epoch": labels.variable(
                    "epoch", torch.tensor(validated, dtype=torch.int64), "1", "updates done"
                ),
            },
            coords={
                "step": labels.coordinate("step", steps),
                "epoch": labels.coordinate(
                    "epoch", [step / self.steps_per_epoch for step in validated]
                ),
            },
        )


_PER_STEP = ("loss", "accuracy", "learning_rate", "batch_checksum")
