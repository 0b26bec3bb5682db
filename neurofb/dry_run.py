"""Try a run or a study on one batch before a long one: shapes, pathways, memory, time."""

import dataclasses
import resource
import time
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from neurofb.build import build
from neurofb.config import RunConfig
from neurofb.data import ImageSplits
from neurofb.feedback import describe, fired, present_targets
from neurofb.study import Study
from neurofb.training import (
    Arithmetic,
    flip_gradients,
    flipped_neurons,
    resolve_arithmetic,
    resolve_device,
)
from neurofb.workers import num_cores

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
    network, optimiser, arithmetic, step = _train_a_little(config, data)
    device, training = resolve_device(config.device), config.training
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
            *_flips_text(network, config),
            *(
                f"pathway on {name}: never fired (no error is asked for behind it)"
                for name in never
            ),
            f"memory: {_peak_memory(device):.0f} MiB at its peak",
            f"time: {step * 1e3:.1f} ms a step, about {step * training.num_steps / 60:.1f} min of "
            "training",
        ]
    )


def _flips_text(network: nn.Module, config: RunConfig) -> list[str]:
    """Return a line a layer and side: how many of its neurons have flipped synapses."""
    flipped = flipped_neurons(network, config.training.flips) if config.training.flips else []
    counts = Counter((neuron.layer, neuron.side) for neuron in flipped)
    return [f"flips on {layer}: {count} {side}" for (layer, side), count in counts.items()]


def dry_run_study(study: Study, workers: int | None = None, cache: Path | None = None) -> str:
    """Run a few training steps of each condition, on one thread, and say how long the study takes.

    Parameters
    ----------
    study
        The study; each condition is tried with the first seed.
    workers
        Processes at a time; the number of cores by default.
    cache
        Folder in which data that are slow to make are kept.

    Raises
    ------
    ValueError
        If the parts of a condition do not fit each other; it is named.

    Examples
    --------
    >>> study = Study(name="demo", conditions={"BP": RunConfig(name="BP")}, seeds=(0, 1))
    >>> print(dry_run_study(study, cache=Path("cache")))  # doctest: +SKIP
    demo: 2 runs, 1 conditions × 2 seeds
      BP: 1500 steps, 6.1 ms each, 0.2 min a run
    time: about 0.3 min of training, 0.2 min on 2 cores (measures, validation come on top)
    """
    workers = workers or num_cores()
    lines, total, images = [], 0.0, {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for condition, config in study.conditions.items():
            config = dataclasses.replace(config, seed=study.seeds[0])
            try:
                if repr(config.data) not in images:
                    images = {repr(config.data): config.data.load(cache)}
                *_, step = _train_a_little(config, images[repr(config.data)])
            except ValueError as error:
                raise ValueError(f"condition {condition!r}: {error}") from error
            num_steps = config.training.num_steps
            total += step * num_steps * len(study.seeds) / 60
            lines.append(
                f"  {condition}: {num_steps} steps, {step * 1e3:.1f} ms each, "
                f"{step * num_steps / 60:.1f} min a run"
            )
    finally:
        torch.set_num_threads(threads)
    cores = min(workers, study.num_runs)
    return "\n".join(
        [
            f"{study.name}: {study.num_runs} runs, {len(study.conditions)} conditions × "
            f"{len(study.seeds)} seeds",
            *lines,
            f"time: about {total:.1f} min of training, {total / cores:.1f} min on {cores} cores "
            "(measures, validation come on top)",
        ]
    )


def _train_a_little(
    config: RunConfig, data: ImageSplits
) -> tuple[nn.Module, torch.optim.Optimizer, Arithmetic, float]:
    """Make a few training steps; return their parts and the median time of one in seconds."""
    device = resolve_device(config.device)
    network = build(config, data).to(device)
    training = config.training
    arithmetic = resolve_arithmetic(training.precision, training.channels_last, device)
    arithmetic.layout_network(network)
    optimiser = training.optimiser.build(network)
    flips = flip_gradients(network, training.flips)
    images = data.train.images[: training.batch_size].to(device)
    targets = data.train.labels[: training.batch_size].to(device)
    times = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for _ in range(NUM_STEPS):
            start = time.perf_counter()
            with arithmetic.autocast(device):
                logits = network(arithmetic.layout_images(images))
            loss = functional.cross_entropy(logits.float(), targets)
            present_targets(network, targets)
            loss.backward()
            flips.apply()
            optimiser.step()
            optimiser.zero_grad()
            times.append(float(loss.detach()) * 0 + time.perf_counter() - start)
    return network, optimiser, arithmetic, sorted(times)[NUM_STEPS // 2]


def _peak_memory(device: torch.device) -> float:
    """Return the largest memory in use so far, in MiB: of the GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
