"""Check a run on one batch before a long one: shapes, pathways, memory, time to expect."""

import resource
import time
from pathlib import Path

import torch
from torch.nn import functional

from neurofb.config import RunConfig
from neurofb.feedback import describe, fired
from neurofb.run import build
from neurofb.training import resolve_arithmetic, resolve_device

NUM_STEPS = 5


def dry_run(config: RunConfig, cache: Path | None = None) -> str:
    """Run a few training steps of a run, and say what the whole would be like.

    Nothing is written but the cache of the data. The steps are plain: augmentation, checkpoints and
    measures are not timed.

    Parameters
    ----------
    config
        The run.
    cache
        Folder in which data that are slow to make are kept.

    Returns
    -------
    str
        Images, network and pathways (`neurofb.feedback.describe`), memory, time per step.

    Raises
    ------
    ValueError
        If the parts of the run do not fit each other.

    Examples
    --------
    >>> from neurofb.config import change
    >>> small = {"data.num_train": "64", "data.num_validation": "32", "data.num_test": "32"}
    >>> print(dry_run(change(RunConfig(name="tiny"), small)).splitlines()[0])
    tiny, seed 0: 1500 steps of 32 images (1×24×24, 10 classes; 64 train, 32 validation, 32 test)
    """
    data = config.data.load(cache)
    device = resolve_device(config.device)
    network = build(config, data).to(device)
    training = config.training
    arithmetic = resolve_arithmetic(training.precision, training.channels_last, device)
    arithmetic.layout_network(network)
    optimiser = training.optimiser.build(network)
    images = data.train.images[: training.batch_size].to(device)
    targets = data.train.labels[: training.batch_size].to(device)
    times = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for _ in range(NUM_STEPS):
            start = time.perf_counter()
            with arithmetic.autocast(device):
                loss = functional.cross_entropy(network(arithmetic.layout_images(images)), targets)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            times.append(float(loss.detach()) * 0 + time.perf_counter() - start)
    step = sorted(times)[NUM_STEPS // 2]
    channels, height, width = data.image_shape
    counts = ", ".join(
        f"{len(part.labels):,} {name}".replace(",", " ")
        for name, part in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
    )
    never = [name for name, count in fired(network).items() if not count]
    return "\n".join(
        [
            f"{config.name}, seed {config.seed}: {training.num_steps} steps of "
            f"{training.batch_size} images ({channels}×{height}×{width}, {len(data.classes)} "
            f"classes; {counts})",
            f"data: {data.name}, sha256 {data.checksum[:12]}",
            f"device: {device}, {arithmetic.precision}, "
            f"{'channels last' if arithmetic.channels_last else 'channels first'}, "
            f"{torch.get_num_threads()} threads",
            str(describe(network, optimiser)),
            *(
                f"pathway on {name}: never fired (no error is asked for behind it)"
                for name in never
            ),
            f"memory: {_peak_memory(device):.0f} MiB at its peak",
            f"time: {step * 1e3:.1f} ms a step, about {step * training.num_steps / 60:.1f} min of "
            "training",
        ]
    )


def _peak_memory(device: torch.device) -> float:
    """Return the largest memory in use so far, in MiB: of the GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
