"""The training loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from neurofb.data.images import ImageSplits
from neurofb.training import snapshots
from neurofb.training.arithmetic import Arithmetic, resolve_arithmetic
from neurofb.training.checkpoint import open_folder
from neurofb.training.config import TrainingConfig
from neurofb.training.device import preserved_random_state
from neurofb.training.distributed import join
from neurofb.training.fingerprint import check_same_run, fingerprint
from neurofb.training.progress import Progress
from neurofb.training.session import NonFiniteLossError, Session


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
    diverged_at
        Number of updates after which the loss or a weight was not finite and the run ended
        (`TrainingConfig.on_divergence`), the history NaN from there; None if it came to its end.
    """

    history: xr.Dataset
    snapshots: xr.Dataset | None
    arithmetic: Arithmetic
    device: str
    wall_seconds: float
    cpu_seconds: float
    resumed_from: int
    diverged_at: int | None = None


def train(
    network: nn.Module,
    data: ImageSplits,
    config: TrainingConfig,
    *,
    seed: int,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    snapshot: Callable[[nn.Module, torch.optim.Optimizer], xr.Dataset] | None = None,
    progress: bool = True,
    identity: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train a network in place; it is left on the device, in evaluation mode.

    The order of the images, the noise and the augmentation follow from (seed, step) alone. So a run
    that is killed at any moment and resumed ends with bitwise the same weights as one that was not
    (same machine, torch and number of threads; on a CPU). The test images are never looked at.

    In several processes, started by torchrun or with `torch.distributed` initialised, each takes
    its share of every batch (see `neurofb.training.distributed`). All must call `train` alike; all
    get the same result, and the first one writes it. Noise and dropout differ between processes,
    and batch norm normalises each share by its own statistics.

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
        Called with the network, in evaluation mode, and its optimiser after the numbers of updates
        in ``config.snapshot_steps``; it must leave both as they are.
    progress
        Show how far the run is, on stderr.
    identity
        Anything else that a resumed run must share (JSON values), the whole run's settings say.

    Raises
    ------
    ValueError
        If the device, the images, the folder or the checkpoint does not fit; what differs is named.
    NonFiniteLossError
        If the loss or a weight becomes infinite or NaN, unless ``config.on_divergence`` keeps it.

    Examples
    --------
    >>> import torch
    >>> from neurofb.data import ImageSet
    >>> images = ImageSet(images=torch.ones(8, 1, 4, 4), labels=torch.arange(8) % 2)
    >>> data = ImageSplits(
    ...     train=images, validation=images, test=images, classes=("a", "b"), name="toy"
    ... )
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> config = TrainingConfig(num_steps=3, batch_size=4)
    >>> dict(train(network, data, config, seed=0, progress=False).history.sizes)
    {'step': 3, 'epoch': 2}
    """
    if seed < 0:
        raise ValueError(f"seed={seed} must be an integer >= 0")
    if config.snapshot_steps and snapshot is None:
        raise ValueError(f"snapshot_steps={config.snapshot_steps} need a snapshot function")
    processes = join()
    place = processes.device(device)
    this = fingerprint(network, data, config, seed, identity or {})
    folder = None if folder is None else Path(folder)
    saved = processes.in_turn(lambda: open_folder(folder, resume))
    if saved:
        check_same_run(saved["fingerprint"], this, config)
        arithmetic = Arithmetic(**saved["arithmetic"])
    else:
        arithmetic = resolve_arithmetic(config.precision, config.channels_last, place)
    with preserved_random_state(place):
        session = Session(
            network, data, config, seed, place, arithmetic, folder, snapshot, this, processes
        )
        first = session.restore(saved) if saved else 0
        shown = progress and processes.is_first and first < config.num_steps
        bar = Progress(config.num_steps, first, shown)
        diverged_at = None
        try:
            for step in range(first, config.num_steps):
                if step == 0:
                    session.take_snapshot(0)
                session.update(step)
                bar.update(step + 1, session.history, milestone=session.look(step + 1))
        except NonFiniteLossError as error:
            if config.on_divergence == "raise":
                raise
            diverged_at = error.step
        finally:
            bar.close()
            network.eval().zero_grad(set_to_none=True)
    wall_seconds, cpu_seconds = session.seconds()
    return TrainingResult(
        history=session.history.dataset(),
        snapshots=snapshots.stack(session.history.snapshots),
        arithmetic=arithmetic,
        device=str(place),
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        resumed_from=first,
        diverged_at=diverged_at,
    )
