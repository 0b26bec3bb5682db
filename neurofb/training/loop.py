"""The training loop."""

import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from neurofb.data.augment import augment
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.training import snapshots
from neurofb.training.arithmetic import Arithmetic, resolve_arithmetic
from neurofb.training.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint, sweep
from neurofb.training.config import TrainingConfig
from neurofb.training.device import preserved_random_state, resolve_device, seed_everything
from neurofb.training.evaluate import evaluate
from neurofb.training.fingerprint import check_same_run, fingerprint
from neurofb.training.history import History
from neurofb.training.optimisers import set_learning_rates
from neurofb.training.order import augmentation_seed, batch_indices, noise_seed, num_batches
from neurofb.training.progress import Progress

#: Steps between looks at whether the loss is finite (each waits for the device).
_CHECK_EVERY = 50


class NonFiniteLossError(ArithmeticError):
    """The loss or the weights are no longer finite; the last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What `train` returns.

    Attributes
    ----------
    history
        Dims ``step`` (loss, accuracy, learning_rate, epoch_at_step, batch_checksum: what the batch
        after `step` updates gave) and ``epoch`` (validation_loss, validation_accuracy,
        step_at_epoch).
    snapshots
        What `snapshot` returned, stacked over ``step`` (number of updates done); None if nothing.
    arithmetic, device
        What ``"auto"`` came to.
    wall_seconds, cpu_seconds
        Time taken, by all the sittings of a resumed run together.
    resumed_from
        Number of updates that a checkpoint had brought, 0 for a run from the beginning.
    """

    history: xr.Dataset
    snapshots: xr.Dataset | None
    arithmetic: Arithmetic
    device: str
    wall_seconds: float
    cpu_seconds: float
    resumed_from: int


def train(
    network: nn.Module,
    data: ImageSplits,
    config: TrainingConfig,
    *,
    seed: int,
    device: str = "auto",
    folder: Path | None = None,
    resume: bool = False,
    snapshot: Callable[[nn.Module], xr.Dataset] | None = None,
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train a network in place; it is left on the device, in evaluation mode.

    The order of the images, the noise and the augmentation follow from (seed, step) alone. So a run
    that is killed at any moment and resumed ends with bitwise the same weights as one that was not
    (same machine, torch and number of threads; on a CPU). The test images are never looked at.

    Parameters
    ----------
    network
        Maps images to logits; pathways, if any, are attached before.
    data
        Images; those of `validation` are looked at after each epoch.
    config
        Settings.
    seed
        Of everything random in the loop (not of the initial weights).
    device
        ``"auto"`` (cuda, else mps, else cpu) or a name.
    folder
        Where checkpoints go; None keeps none.
    resume
        Go on from the checkpoint in `folder`; without one, start from the beginning. A finished
        run's result is returned at once.
    snapshot
        Called in evaluation mode after the numbers of updates in ``config.snapshot_steps``.
    progress
        Show how far the run is, on stderr.
    identity
        Anything else that a resumed run must share (JSON values), the whole run's settings say.

    Raises
    ------
    ValueError
        If the device, the images, the folder or the checkpoint does not fit; what differs is named.
    NonFiniteLossError
        If the loss or a weight becomes infinite or NaN.
    """
    if config.snapshot_steps and snapshot is None:
        raise ValueError(f"snapshot_steps={config.snapshot_steps} need a snapshot function")
    place = resolve_device(device)
    this = fingerprint(network, data, config, seed, identity or {})
    saved = _open(folder, resume)
    if saved:
        check_same_run(saved["fingerprint"], this, config)
        arithmetic = Arithmetic(**saved["arithmetic"])
    else:
        arithmetic = resolve_arithmetic(config.precision, config.channels_last, place)
    with preserved_random_state(place):
        run = _Run(network, data, config, seed, place, arithmetic, folder, snapshot, this)
        first = run.restore(saved) if saved else 0
        bar = Progress(config.num_steps, first, progress and first < config.num_steps)
        try:
            for step in range(first, config.num_steps):
                if step == 0:
                    run.take_snapshot(0)
                run.update(step)
                bar.update(step + 1, run.history, milestone=run.look(step + 1))
        finally:
            bar.close()
            network.eval()
    wall_seconds, cpu_seconds = run.seconds()
    return TrainingResult(
        history=run.history.dataset(),
        snapshots=snapshots.stack(run.history.snapshots),
        arithmetic=arithmetic,
        device=str(place),
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        resumed_from=first,
    )


class _Run:
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
        snapshot: Callable[[nn.Module], xr.Dataset] | None,
        this: dict[str, Any],
    ):
        self.network, self.config, self.seed, self.device = network, config, seed, device
        self.arithmetic, self.folder, self.snapshot, self.this = arithmetic, folder, snapshot, this
        network.to(device)
        arithmetic.layout_network(network)
        _check_fits(network, data, device)
        network.train()
        self.train_set, self.validation_set = _to(data.train, device), _to(data.validation, device)
        self.optimiser = config.optimiser.build(network)
        self.steps_per_epoch = num_batches(data.train.num_images, config.batch_size)
        self.history = History(
            num_steps=config.num_steps, steps_per_epoch=self.steps_per_epoch, device=device
        )
        self.good_step: int | None = None
        self.began = time.perf_counter(), time.process_time()

    def update(self, step: int) -> None:
        """Do one training step (0 is the first)."""
        config, history = self.config, self.history
        indices = batch_indices(self.seed, step, self.train_set.num_images, config.batch_size)
        factor = config.schedule.factor(
            step, num_steps=config.num_steps, steps_per_epoch=self.steps_per_epoch
        )
        set_learning_rates(self.optimiser, factor)
        seed_everything(self.device, noise_seed(self.seed, step))

        images, labels = self._batch(step, indices)
        with self.arithmetic.autocast(self.device):
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

        history.loss[step] = loss.detach()
        history.accuracy[step] = (logits.detach().argmax(1) == labels).float().mean()
        history.learning_rate[step] = config.optimiser.learning_rate * factor
        history.batch_checksum[step] = zlib.crc32(indices.numpy().tobytes())

    def look(self, step: int) -> bool:
        """Check, validate, snapshot and save after `step` updates; tell if it was validated."""
        config = self.config
        validates = config.validates_after(step, self.steps_per_epoch)
        saves = self.folder is not None and config.checkpoints_after(step)
        if validates or saves or step % _CHECK_EVERY == 0 or step in config.snapshot_steps:
            self._check_finite(step)
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
        self.history.snapshots[step] = self.snapshot(self.network)
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
        for name, value in _surroundings(self.device).items():
            if saved["surroundings"].get(name) != value:
                warnings.warn(
                    f"resuming on another {name} ({saved['surroundings'].get(name)} -> {value}): "
                    "weights may differ in the last digits from an uninterrupted run's",
                    stacklevel=3,
                )
        self.good_step = int(saved["step"])
        return self.good_step

    def _batch(self, step: int, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented images and the labels of a step."""
        augmentation = self.config.augmentation
        indices = indices.to(self.device)
        images = augment(
            self.train_set.images[indices],
            generator=torch.Generator().manual_seed(augmentation_seed(self.seed, step)),
            **asdict(augmentation),
        )
        return self.arithmetic.layout_images(images), self.train_set.labels[indices]

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
        raise NonFiniteLossError(f"{what} (learning_rate={rate}); {kept}")

    def _save(self, step: int) -> None:
        """Write a checkpoint after `step` updates."""
        assert self.folder is not None
        state = {
            "step": step,
            "fingerprint": self.this,
            "arithmetic": asdict(self.arithmetic),
            "surroundings": _surroundings(self.device),
            "seconds": self.seconds(),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "history": self.history.state(step),
        }
        save_checkpoint(state, self.folder)
        self.good_step = step


def _open(folder: Path | None, resume: bool) -> dict[str, Any] | None:
    """Prepare the folder and return the checkpoint to go on from, if any."""
    if folder is None:
        if resume:
            raise ValueError("resume=True needs a folder")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    if not resume and (folder / FILE_NAME).exists():
        raise ValueError(
            f"folder={str(folder)!r} holds a checkpoint; resume=True goes on from it, "
            "or delete the folder to start from the beginning"
        )
    return load_checkpoint(folder) if resume else None


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


def _surroundings(device: torch.device) -> dict[str, str | int]:
    """Return what bitwise equality depends on beside the settings."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
