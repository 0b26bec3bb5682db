"""A training run in progress: one step, and all that happens between steps."""

import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from neurofb.data.augment import augment
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.feedback import present_targets
from neurofb.training.arithmetic import Arithmetic
from neurofb.training.checkpoint import FILE_NAME, save_checkpoint
from neurofb.training.config import TrainingConfig
from neurofb.training.device import seed_everything
from neurofb.training.distributed import Processes
from neurofb.training.evaluate import evaluate
from neurofb.training.flips import flip_gradients
from neurofb.training.history import History
from neurofb.training.optimisers import set_learning_rates
from neurofb.training.order import augmentation_seed, batch_indices, noise_seed, num_batches
from neurofb.training.svd_space_control import control

#: Steps between looks at whether the loss is finite (each waits for the device).
_CHECK_EVERY = 50


class NonFiniteLossError(ArithmeticError):
    """The loss or the weights are no longer finite; the last good checkpoint is kept.

    `step` is the number of updates after which that was so.
    """

    def __init__(self, message: str, step: int = 0):
        super().__init__(message)
        self.step = step


class Session:
    """A run in progress: `update` is one training step, `look` is all that happens between."""

    def __init__(
        self,
        network: nn.Module,
        data: ImageSplits,
        config: TrainingConfig,
        seed: int,
        device: torch.device,
        arithmetic: Arithmetic,
        folder: Path | None,
        snapshot: Callable[[nn.Module, torch.optim.Optimizer], xr.Dataset] | None,
        this: dict[str, Any],
        processes: Processes,
    ):
        self.network, self.config, self.seed, self.device = network, config, seed, device
        self.arithmetic, self.folder, self.snapshot, self.this = arithmetic, folder, snapshot, this
        self.processes = processes
        processes.check_batches(data.train.num_images, config.batch_size)
        network.to(device)
        arithmetic.layout_network(network)
        _check_fits(network, data, device)
        network.train()
        self.train_set, self.validation_set = _to(data.train, device), _to(data.validation, device)
        self.optimiser = config.optimiser.build(network)
        self.steps_per_epoch = num_batches(data.train.num_images, config.batch_size)
        self.svd_space = control(network, self.optimiser, config, self.steps_per_epoch)
        self.flips = flip_gradients(network, config.flips)
        self.history = History(
            num_steps=config.num_steps, steps_per_epoch=self.steps_per_epoch, device=device
        )
        self.good_step: int | None = None
        self.began = time.perf_counter(), time.process_time()

    def update(self, step: int) -> None:
        """Do one training step (0 is the first)."""
        config, history, processes = self.config, self.history, self.processes
        indices = batch_indices(self.seed, step, self.train_set.num_images, config.batch_size)
        factor = config.schedule.factor(
            step, num_steps=config.num_steps, steps_per_epoch=self.steps_per_epoch
        )
        set_learning_rates(self.optimiser, factor)
        seed_everything(self.device, noise_seed(self.seed, step) + processes.rank)

        images, labels = self._batch(step, indices)
        with self.arithmetic.autocast(self.device), self.svd_space.watching():
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss = processes.weigh(loss, len(labels), len(indices))
        self.optimiser.zero_grad(set_to_none=True)
        present_targets(self.network, labels)
        with processes.backward():
            loss.backward()
        self.svd_space.after_backward(len(labels) * processes.count / len(indices))
        processes.average_gradients(self.network)
        self.flips.apply()
        self.svd_space.before_step()
        self.optimiser.step()
        self.svd_space.after_step(step + 1)

        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        accuracy = processes.weigh(accuracy, len(labels), len(indices))
        history.loss[step], history.accuracy[step] = processes.average(loss.detach(), accuracy)
        history.learning_rate[step] = config.optimiser.learning_rate * factor
        history.batch_checksum[step] = zlib.crc32(indices.numpy().tobytes())

    def look(self, step: int) -> bool:
        """Check, validate, snapshot and save after `step` updates; tell if it was validated."""
        config = self.config
        validates = config.validates_after(step, self.steps_per_epoch)
        saves = self.folder is not None and config.checkpoints_after(step)
        if validates or saves or step % _CHECK_EVERY == 0 or step in config.snapshot_steps:
            self._check_finite(step)
            self.processes.synchronise(self.network)
        if validates and self.validation_set.num_images:
            result = evaluate(self.network, self.validation_set, arithmetic=self.arithmetic)
            self.history.validated(step, result)
        self.take_snapshot(step)
        if saves:
            self._save(step)
        return validates

    def take_snapshot(self, step: int) -> None:
        """Call the snapshot function if it is to be called after `step` updates."""
        if self.snapshot is None or step not in self.config.snapshot_steps:
            return
        self.network.eval()
        self.history.snapshots[step] = self.snapshot(self.network, self.optimiser)
        self.network.train()

    def seconds(self) -> tuple[float, float]:
        """Return wall and CPU seconds since the run began, earlier sittings included."""
        wall, cpu = self.began
        return time.perf_counter() - wall, time.process_time() - cpu

    def restore(self, saved: dict[str, Any]) -> int:
        """Take over a checkpoint and return the number of updates it has done."""
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.history.restore(saved["history"])
        wall, cpu = saved["seconds"]
        self.began = self.began[0] - wall, self.began[1] - cpu
        before = {"number of processes": 1, **saved["surroundings"]}
        for name, value in self._surroundings().items():
            if before.get(name) != value:
                warnings.warn(
                    f"resuming on another {name} ({before.get(name)} -> {value}): "
                    "weights may differ in the last digits from an uninterrupted run's",
                    stacklevel=3,
                )
        self.good_step = int(saved["step"])
        return self.good_step

    def _batch(self, step: int, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented images and the labels of a step: this process's share."""
        augmentation = self.config.augmentation
        indices = indices.to(self.device)
        images = augment(
            self.train_set.images[indices],
            generator=torch.Generator().manual_seed(augmentation_seed(self.seed, step)),
            **asdict(augmentation),
        )
        images, labels = map(self.processes.share, (images, self.train_set.labels[indices]))
        return self.arithmetic.layout_images(images), labels

    def _check_finite(self, step: int) -> None:
        """Refuse to go on, or to save, when the loss or a weight is not finite."""
        bad = self.history.first_bad_step(step)
        weights = [p for p in self.network.parameters() if not torch.isfinite(p).all()]
        if bad is None and not weights:
            return
        what = (
            f"a weight is not finite after {step} updates"
            if bad is None
            else f"the loss is {self.history.loss[bad].item()} at step {bad}"
        )
        kept = (
            "no checkpoint was written"
            if self.good_step is None or self.folder is None
            else f"the last good checkpoint is that of step {self.good_step}, "
            f"{self.folder / FILE_NAME}"
        )
        rate = self.config.optimiser.learning_rate
        message = f"{what} (learning_rate={rate}); {kept}"
        raise NonFiniteLossError(message, step if bad is None else bad)

    def _save(self, step: int) -> None:
        """Write a checkpoint after `step` updates."""
        assert self.folder is not None
        state = {
            "step": step,
            "fingerprint": self.this,
            "arithmetic": asdict(self.arithmetic),
            "surroundings": self._surroundings(),
            "seconds": self.seconds(),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "history": self.history.state(step),
        }
        if self.processes.is_first:
            save_checkpoint(state, self.folder)
        self.good_step = step

    def _surroundings(self) -> dict[str, str | int]:
        """Return what bitwise equality depends on beside the settings."""
        return {
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "device": self.device.type,
            "number of processes": self.processes.count,
        }


@torch.no_grad()
def _check_fits(network: nn.Module, data: ImageSplits, device: torch.device) -> None:
    """Refuse a network that does not take these images, or has too few outputs."""
    try:
        logits = network.eval()(data.train.images[:1].to(device))
    except RuntimeError as error:
        raise ValueError(
            f"network does not take the images of {data.name!r}, shape {data.image_shape}: {error}"
        ) from error
    if logits.ndim != 2 or logits.shape[1] < data.num_classes:
        raise ValueError(
            f"network returns shape {tuple(logits.shape)} for one image of {data.name!r}; it must "
            f"be (1, number of classes), and there are {data.num_classes} classes"
        )


def _to(images: ImageSet, device: torch.device) -> ImageSet:
    return ImageSet(images=images.images.to(device), labels=images.labels.to(device))
