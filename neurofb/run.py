"""One run: data, network, pathways, training, measures, and their nulls, as one labelled tree."""

import json
import time
from pathlib import Path

import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.build import build, check_fired, load_network
from neurofb.claim import CONFIG, RESULT, claim, discard
from neurofb.config import Measurement, RunConfig, to_json
from neurofb.data import ImageSplits
from neurofb.measures import (
    counted_units,
    receptive_field,
    response_to_images,
    shape_measures,
    spectrum_matched_noise,
)
from neurofb.training import evaluate, train

__all__ = [
    "CONFIG",
    "RESULT",
    "build",
    "characterise",
    "discard",
    "load_network",
    "map_layer",
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
) -> xr.DataTree:
    """Train a network and measure it.

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

    Returns
    -------
    xr.DataTree
        ``/`` test_loss, test_accuracy, and configuration and provenance in the attributes;
        ``/training`` (step, epoch); ``/receptive_field/<layer>`` (unit, channel, y, x) with the
        measures of shape, below it ``untrained`` and ``noise``, the nulls; ``/snapshots``.

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
    if folder is not None:
        done = claim(Path(folder), config, resume, overwrite)
        if done is not None:
            return done
    wall, cpu = time.perf_counter(), time.process_time()
    data = config.data.load(cache)
    network = build(config, data)
    measure, seed = config.measurement, config.seed
    untrained = {layer: map_layer(network, layer, measure, data, seed) for layer in measure.layers}
    result = train(
        network,
        data,
        config.training,
        seed=seed,
        device=config.device,
        folder=folder,
        resume=resume,
        progress=progress,
        snapshot=(lambda net: map_layer(net, measure.layers[0], measure, data, seed))
        if measure.layers
        else None,
        identity={"run": json.loads(to_json(config))},
    )
    check_fired(network, data.train.images[:2])
    test = evaluate(network, data.test, arithmetic=result.arithmetic)
    tree = {"/training": result.history}
    if result.snapshots is not None:
        tree["/snapshots"] = result.snapshots
    for layer in measure.layers:
        trained = map_layer(network, layer, measure, data, seed)
        tree |= characterise(layer, trained, untrained[layer], measure, seed)
    tree["/"] = xr.Dataset(
        {
            "test_loss": labels.variable((), test.loss, "nat", "cross-entropy on the test set"),
            "test_accuracy": labels.variable((), test.accuracy, "1", "accuracy on the test set"),
        },
        attrs=labels.provenance(
            title=f"{config.name}, seed {seed}",
            config=to_json(config),
            seed=seed,
            device=result.device,
            data_checksum=data.checksum,
            wall_seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            references="arXiv:1901.00945 arXiv:2502.20580",
        ),
    )
    whole = xr.DataTree.from_dict(tree)
    if folder is not None:
        labels.save(whole, Path(folder) / RESULT)
    return whole


def map_layer(
    network: nn.Module, layer: str, measure: Measurement, data: ImageSplits, seed: int
) -> xr.Dataset:
    """Map the receptive fields of a layer, and which units are alive on validation images.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> data = config.data.load()  # doctest: +SKIP
    >>> map_layer(build(config, data), "retina_2", Measurement(), data, 0).sizes  # doctest: +SKIP
    Frozen({'unit': 32, 'channel': 1, 'y': 13, 'x': 13})
    """
    rf = receptive_field(
        network,
        layer,
        input_shape=data.image_shape,
        num_probes=measure.num_probes,
        probe_std=measure.probe_std,
        seed=seed,
    )
    images = data.validation if len(data.validation.labels) else data.train
    return rf.merge(response_to_images(network, layer, images.images[: measure.num_images]))


def characterise(
    layer: str, trained: xr.Dataset, untrained: xr.Dataset, measure: Measurement, seed: int
) -> dict[str, xr.Dataset]:
    """Measure the shape of a layer's fields and, with the same call, of their two nulls.

    Returns
    -------
    dict
        Path in the tree → Dataset: the layer, below it ``untrained`` (the network before training)
        and ``noise`` (noise with the amplitude spectrum of each trained field).

    Examples
    --------
    >>> tree = characterise("retina_2", trained, untrained, Measurement(), 0)  # doctest: +SKIP
    >>> list(tree)  # doctest: +SKIP
    ['/receptive_field/retina_2', '/receptive_field/retina_2/untrained', ...]
    """
    fields = {
        "": trained,
        "/untrained": untrained,
        "/noise": spectrum_matched_noise(trained, seed=seed),
    }
    tree = {}
    for key, rf in fields.items():
        reference = None if key else untrained
        shape = shape_measures(rf, reference=reference, fits=measure.fits)
        table = rf[["receptive_field"]].merge(shape)
        if not key:
            table = table.merge(rf[["alive", "active_fraction"]])
            silent = (table["alive"] == 0) & table["status"].isin(["ok", "truncated"])
            table["status"] = table["status"].where(~silent, "silent")
            table["counted"] = counted_units(table)
        tree[f"/receptive_field/{layer}{key}"] = table
    return tree
