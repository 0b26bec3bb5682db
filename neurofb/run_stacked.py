"""Runs that differ in the seed alone, trained as one stack: what `neurofb.run.run` gives for each.

For many seeds of a small network: where a training step takes a millisecond, most of that is the
time between the operations, and a stack pays it once for all the seeds.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
import xarray as xr

from neurofb.build import build
from neurofb.config import RunConfig, difference, to_json
from neurofb.data import ImageSet, ImageSplits
from neurofb.run import measured, prepare
from neurofb.training import train_stacked, why_not_stacked
from neurofb.training.device import resolve_device


def run_stacked(
    configs: Sequence[RunConfig],
    *,
    data: ImageSplits | None = None,
    cache: Path | None = None,
    progress: bool = False,
) -> list[xr.DataTree | Exception]:
    """Train the networks of several seeds together and measure each of them.

    The numbers are those of `neurofb.run.run` up to rounding, which training makes grow. Nothing is
    written to disk, and a stack that was interrupted begins again.

    Parameters
    ----------
    configs
        Runs that differ in `RunConfig.seed` alone.
    data
        What ``config.data.load`` returns, if it is at hand already.
    cache
        Folder in which data that are slow to make are kept.
    progress
        Show how far the training is.

    Returns
    -------
    list
        For each run what `neurofb.run.run` returns, with the attribute ``stacked``, the number of
        networks in the stack; ``wall_seconds`` and ``cpu_seconds`` are equal shares of all the
        work. Where `run` would have raised (a loss that is not finite), the exception; the other
        runs are not touched by it.

    Raises
    ------
    ValueError
        If there is no run, the runs differ in more than the seed, or they cannot be stacked
        (`can_stack`); `neurofb.run.run` does them one by one.

    Examples
    --------
    >>> from neurofb.config import change
    >>> small = {"training.num_steps": "2", "measurement.layers": "[]", "data.num_train": "64",
    ...          "data.num_validation": "32", "data.num_test": "32"}
    >>> configs = [change(RunConfig(name="tiny", seed=seed), small) for seed in (0, 1)]
    >>> [tree.attrs["seed"] for tree in run_stacked(configs)]
    [0, 1]
    """
    _check_alike(configs)
    first = configs[0]
    if reason := can_stack(first):
        raise ValueError(f"the runs cannot be stacked, do them one by one: {reason}")
    wall, cpu = time.perf_counter(), time.process_time()
    splits = first.data.load(cache) if data is None else data
    prepared = [prepare(config, splits) for config in configs]
    results = train_stacked(
        [network for network, _ in prepared],
        splits,
        first.training,
        seeds=[config.seed for config in configs],
        device=first.device,
        progress=progress,
    )
    trees: list[xr.DataTree | Exception] = []
    for config, (network, untrained), result in zip(configs, prepared, results, strict=True):
        if isinstance(result, Exception):
            trees.append(result)
            continue
        try:
            trees.append(measured(config, splits, network, untrained, result))
        except Exception as error:  # whatever it is, it is this run's and not the others'
            trees.append(error)
    share = len(configs)
    wall, cpu = (time.perf_counter() - wall) / share, (time.process_time() - cpu) / share
    for tree in trees:
        if isinstance(tree, xr.DataTree):
            tree.attrs |= {"stacked": share, "wall_seconds": wall, "cpu_seconds": cpu}
    return trees


def can_stack(config: RunConfig) -> str:
    """Return why the seeds of a run cannot be trained as one stack; "" if they can.

    A network is built and run on two images of zeros; no data are loaded.

    Parameters
    ----------
    config
        One of the runs.

    Examples
    --------
    >>> can_stack(RunConfig(name="test"))
    ''
    >>> from neurofb.config import Measurement
    >>> can_stack(RunConfig(name="test", measurement=Measurement(alignment_images=8)))
    'measurement.alignment_images=8: alignment is not followed in a stack'
    """
    net, measure = config.network, config.measurement
    if measure.alignment_images:
        return (
            f"measurement.alignment_images={measure.alignment_images}: alignment is not followed "
            "in a stack"
        )
    if measure.rank_images:
        return f"measurement.rank_images={measure.rank_images}: ranks are not followed in a stack"
    if measure.curl_images:
        return f"measurement.curl_images={measure.curl_images}: curl is not followed in a stack"
    images = torch.zeros(2, net.in_channels, net.image_size, net.image_size)
    blank = ImageSet(images=images, labels=torch.zeros(2, dtype=torch.int64))
    classes = tuple(str(number) for number in range(net.num_classes))
    data = ImageSplits(train=blank, validation=blank, test=blank, classes=classes, name="blank")
    try:
        device = str(resolve_device(config.device))
        network = build(config, data)
    except ValueError as error:
        return str(error)
    return why_not_stacked(network, config.training, images, device=device)


def _check_alike(configs: Sequence[RunConfig]) -> None:
    """Refuse runs that differ in more than the seed."""
    if not configs:
        raise ValueError("configs=() holds no run")
    texts = [to_json(config) for config in configs]
    for number, text in enumerate(texts):
        lines = [line for line in difference(texts[0], text) if not line.startswith("seed: ")]
        if lines:
            raise ValueError(
                f"configs[{number}] differs from configs[0] in more than the seed: "
                f"{'; '.join(lines)}"
            )
