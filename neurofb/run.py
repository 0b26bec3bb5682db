"""One run: data, network, pathways, training, measures, and their nulls, as one labelled tree."""

import fnmatch
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.config import Measurement, RunConfig, difference, from_json, to_json
from neurofb.data import ImageSplits
from neurofb.feedback import attach, feedback_layers, fired
from neurofb.measures import (
    counted_units,
    receptive_field,
    response_to_images,
    shape_measures,
    spectrum_matched_noise,
)
from neurofb.training import evaluate, train
from neurofb.training.checkpoint import FILE_NAME, load_checkpoint

RESULT, CONFIG = "result.zarr", "config.json"


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
        done = _claim(Path(folder), config, resume, overwrite)
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
        snapshot=lambda net: map_layer(net, measure.layers[0], measure, data, seed),
        identity={"run": json.loads(to_json(config))},
    )
    _check_fired(network)
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


def build(config: RunConfig, data: ImageSplits) -> nn.Module:
    """Make the network of a run, with its pathways attached.

    Raises
    ------
    ValueError
        If the network's settings do not fit the data, the pathway not the layers, or if a pathway
        would never act.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> build(config, config.data.load()).config.bottleneck  # doctest: +SKIP
    32
    """
    if not len(data.test.labels):
        raise ValueError(
            f"the data {data.name!r} hold no test image; a run ends with testing on some"
        )
    net = config.network
    channels, height, width = data.image_shape
    if (channels, height, width) != (net.in_channels, net.image_size, net.image_size):
        raise ValueError(
            f"network.image_size={net.image_size} and network.in_channels={net.in_channels} do not "
            f"fit the data {data.name!r}, whose images are {channels}×{height}×{width}"
        )
    if len(data.classes) != net.num_classes:
        raise ValueError(
            f"network.num_classes={net.num_classes} must be {len(data.classes)}, the number of "
            f"classes of the data {data.name!r}"
        )
    network = net.build(config.seed)
    known = dict(network.named_modules())
    for layer in config.measurement.layers:
        if layer not in known:
            names = ", ".join(name for name in known if name)
            raise ValueError(f"measurement.layers: no layer {layer!r}; the network has {names}")
    if not config.feedback_layers and config.feedback.rule != "exact":
        raise ValueError(
            f"feedback_layers=() names no layer for the pathway feedback.rule="
            f"{config.feedback.rule!r}; ('vvs_1',) brings the error to the retina's output"
        )
    pathways = dict.fromkeys(config.feedback_layers, config.feedback)
    attach(network, pathways, example_input=data.train.images[:2], seed=config.seed)
    _check_acts(network, config)
    return network


def load_network(folder: Path) -> nn.Module:
    """Open the network that a run has left in its folder, with its pathways attached.

    Parameters
    ----------
    folder
        The run's folder; the last checkpoint in it is taken.

    Returns
    -------
    nn.Module
        In evaluation mode, on the CPU. `neurofb.feedback.detach` takes the pathways off.

    Raises
    ------
    ValueError
        If the folder holds no run or no checkpoint.

    Examples
    --------
    >>> load_network(Path("nowhere"))
    Traceback (most recent call last):
    ValueError: folder='nowhere' holds no run
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ValueError(f"folder={str(folder)!r} holds no run")
    config = from_json((folder / CONFIG).read_text(encoding="utf-8"))
    saved = load_checkpoint(folder)
    if saved is None:
        raise ValueError(f"folder={str(folder)!r} holds no checkpoint")
    net = config.network
    blank = torch.zeros(2, net.in_channels, net.image_size, net.image_size)
    network = net.build(config.seed)
    pathways = dict.fromkeys(config.feedback_layers, config.feedback)
    attach(network, pathways, example_input=blank, seed=config.seed)
    network.load_state_dict(saved["network"])
    return network.eval()


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


def discard(folder: Path) -> None:
    """Remove a run's files from its folder; whatever else is there stays.

    Raises
    ------
    ValueError
        If the files are not those of a run: nothing is removed then.

    Examples
    --------
    >>> discard(Path("no/such/folder"))
    """
    found = [folder / name for name in (FILE_NAME, RESULT, CONFIG) if (folder / name).exists()]
    if not found:
        return
    if found[-1].name != CONFIG:
        raise ValueError(
            f"folder={str(folder)!r} holds {found[0].name} but no {CONFIG}, so it may be of "
            "another tool; take another folder, or delete it yourself"
        )
    _read_config(folder)
    for path in found:  # the configuration last: until then the folder still says what it holds
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_config(folder: Path) -> dict[str, Any]:
    """Return a run's configuration as it was written, by whichever version."""
    path = folder / CONFIG
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict) or not {"network", "training", "data"} <= tree.keys():
        raise ValueError(
            f"{path} is damaged, or not the configuration of a run; take another folder, or "
            "delete it yourself"
        )
    return tree


def _claim(folder: Path, config: RunConfig, resume: bool, overwrite: bool) -> xr.DataTree | None:
    """Take the folder for this run, or refuse; return the result if the run is finished."""
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other")
    text = to_json(config)
    if (folder / CONFIG).exists() and not overwrite:
        if not resume:
            raise ValueError(
                f"folder={str(folder)!r} holds a run already; resume it, overwrite it, or take "
                "another folder"
            )
        changed = difference(json.dumps(_read_config(folder)), text)
        if changed:
            raise ValueError(
                f"folder={str(folder)!r} holds a run with other settings: {'; '.join(changed)}"
            )
        if (folder / RESULT).exists():
            return labels.load(folder / RESULT)
        return None
    discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CONFIG}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / CONFIG)
    return None


def _check_acts(network: nn.Module, config: RunConfig) -> None:
    """Refuse pathways that nothing would ever ask for an error."""
    first = _first_layer(network)
    chosen = [
        name
        for name, _ in feedback_layers(network)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in config.feedback_layers)
    ]
    if chosen == [first]:
        raise ValueError(
            f"feedback_layers={config.feedback_layers}: a pathway on {first!r} takes the error to "
            "the images, where nothing learns, so it would never fire; the pathway that teaches "
            f"{first!r} lies on the layer behind it"
        )


def _first_layer(network: nn.Module) -> str:
    return next(name for name, _ in network.named_parameters()).rpartition(".")[0]


def _check_fired(network: nn.Module) -> None:
    """Refuse a result whose pathway never acted."""
    silent = [name for name, count in fired(network).items() if not count]
    if any(name != _first_layer(network) for name in silent):
        raise ValueError(
            f"feedback_layers: the pathway on {', '.join(silent)} never fired in training"
        )
