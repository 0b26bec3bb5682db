"""One run: data, network, pathways, training, measures, and their nulls, as one labelled tree."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.build import build, check_fired, load_network, num_parameters
from neurofb.claim import CONFIG, RESULT, claim, discard
from neurofb.config import RunConfig, to_json
from neurofb.data import ImageSplits
from neurofb.fields import characterise, map_layer
from neurofb.tracking import tracked_training, tracker, unpack
from neurofb.training import TrainingResult, evaluate, train
from neurofb.training.distributed import join

__all__ = [
    "CONFIG",
    "RESULT",
    "build",
    "characterise",
    "discard",
    "load_network",
    "map_layer",
    "measured",
    "prepare",
    "run",
]


def run(
    config: RunConfig,
    folder: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    cache: Path | None = None,
    data: ImageSplits | None = None,
) -> xr.DataTree:
    """Train a network and measure it.

    Under torchrun the processes train it together and all return the tree; the first one writes.

    Parameters
    ----------
    config
        The run.
    folder
        Where ``result.zarr``, ``config.json`` and checkpoints go; None keeps nothing on disk.
    resume, overwrite
        What to do with what is in the folder already: go on from the last checkpoint (a finished
        run is returned as it is), or start again (the run's files are removed, others stay).
        Without either an existing run is refused.
    progress
        Show a progress bar.
    cache
        Folder in which data that are slow to make are kept.
    data
        What ``config.data.load`` returns, if it is at hand already.

    Returns
    -------
    xr.DataTree
        ``/`` test_loss, test_accuracy, num_parameters, diverged_at where a run that diverges is
        kept (`TrainingConfig.on_divergence`), and configuration and provenance in the attributes;
        ``/training`` (step, epoch); ``/receptive_field/<layer>`` (unit, channel, y, x)
        with the measures of shape, below it ``untrained`` and ``noise``, the nulls; ``/snapshots``;
        ``/alignment``, ``/error_rank``, ``/factors`` (epoch, layer, …).

    Raises
    ------
    ValueError
        If the configuration does not fit the data, or the folder holds another run.

    Examples
    --------
    >>> from neurofb.config import change
    >>> small = {"training.num_steps": "2", "measurement.fits": "false",
    ...          "data.num_train": "64", "data.num_validation": "32", "data.num_test": "32"}
    >>> tree = run(change(RunConfig(name="tiny"), small), progress=False)
    >>> sorted(tree.children)
    ['receptive_field', 'training']
    """
    processes = join()
    if folder is not None:
        anew = overwrite and processes.is_first  # the others find what the first one has claimed
        goes_on = resume or not processes.is_first
        done = processes.in_turn(lambda: claim(Path(folder), config, goes_on, anew))
        if done is not None:
            return done
    wall, cpu = time.perf_counter(), time.process_time()
    data = processes.in_turn(lambda: config.data.load(cache)) if data is None else data
    network, untrained = prepare(config, data)
    result = train(
        network,
        data,
        tracked_training(config),
        seed=config.seed,
        device=config.device,
        folder=folder,
        resume=resume,
        progress=progress,
        snapshot=tracker(config, data),
        identity={"run": json.loads(to_json(config))},
    )
    tree = measured(config, data, network, untrained, result)
    tree.attrs["wall_seconds"] = time.perf_counter() - wall
    tree.attrs["cpu_seconds"] = time.process_time() - cpu
    if folder is not None and processes.is_first:
        labels.save(tree, Path(folder) / RESULT)
    return tree


def prepare(config: RunConfig, data: ImageSplits) -> tuple[nn.Module, dict[str, xr.Dataset]]:
    """Make a run's network, and map the receptive fields that it has before training.

    Parameters
    ----------
    config
        The run.
    data
        Its data.

    Returns
    -------
    tuple
        The network with its pathways, and layer → fields of each layer that the run measures.

    Examples
    --------
    >>> from neurofb.config import Measurement
    >>> config = RunConfig(name="test", measurement=Measurement(layers=("retina_1",), num_probes=2))
    >>> network, fields = prepare(config, config.data.load())  # doctest: +SKIP
    >>> list(fields)  # doctest: +SKIP
    ['retina_1']
    """
    network, measure = build(config, data), config.measurement
    layers = measure.layers
    return network, {name: map_layer(network, name, measure, data, config.seed) for name in layers}


def measured(
    config: RunConfig,
    data: ImageSplits,
    network: nn.Module,
    untrained: Mapping[str, xr.Dataset],
    result: TrainingResult,
) -> xr.DataTree:
    """Test and measure a run's trained network.

    Parameters
    ----------
    config, data
        The run and its data.
    network
        The trained network.
    untrained
        Its fields before training, from `prepare`.
    result
        What training gave.

    Returns
    -------
    xr.DataTree
        As `run` returns it; in its attributes are the times of the training.

    Raises
    ------
    ValueError
        If a pathway never fired.

    Examples
    --------
    >>> tree = measured(config, data, network, untrained, result)  # doctest: +SKIP
    >>> sorted(tree.children)  # doctest: +SKIP
    ['receptive_field', 'training']
    """
    measure, seed = config.measurement, config.seed
    check_fired(network, data.train.images[:2])
    test = evaluate(network, data.test, arithmetic=result.arithmetic)
    if result.diverged_at is not None:
        test = replace(test, loss=math.nan, accuracy=math.nan)
    tree = {"/training": result.history, **unpack(result.snapshots, config, data)}
    for layer in measure.layers:
        trained = map_layer(network, layer, measure, data, seed)
        tree |= characterise(layer, trained, untrained[layer], measure, seed)
    tree["/"] = xr.Dataset(
        {
            "test_loss": labels.variable((), test.loss, "nat", "cross-entropy on the test set"),
            "test_accuracy": labels.variable((), test.accuracy, "1", "accuracy on the test set"),
            "num_parameters": labels.variable(
                (), num_parameters(network), "1", "weights and biases, without the feedback's"
            ),
        },
        attrs=labels.provenance(
            title=f"{config.name}, seed {seed}",
            config=to_json(config),
            seed=seed,
            device=result.device,
            data_checksum=data.checksum,
            wall_seconds=result.wall_seconds,
            cpu_seconds=result.cpu_seconds,
            references=labels.REFERENCES,
        ),
    )
    if config.training.on_divergence == "keep":
        at = math.nan if result.diverged_at is None else float(result.diverged_at)
        text = "updates after which loss or weights were not finite; NaN if they always were"
        tree["/"]["diverged_at"] = labels.variable((), at, "1", text)
    return xr.DataTree.from_dict(tree)
