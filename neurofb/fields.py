"""The receptive fields of a run's layers, their shapes, and the two nulls."""

import xarray as xr
from torch import nn

from neurofb.config import Measurement
from neurofb.data import ImageSplits
from neurofb.measures import (
    counted_units,
    receptive_field,
    response_to_images,
    shape_measures,
    spectrum_matched_noise,
)


def map_layer(
    network: nn.Module, layer: str, measure: Measurement, data: ImageSplits, seed: int
) -> xr.Dataset:
    """Map the receptive fields of a layer, and which units are alive on validation images.

    Examples
    --------
    >>> from neurofb.data import ShapesOnLeaves
    >>> from neurofb.networks import RetinaVVSConfig
    >>> data = ShapesOnLeaves(num_train=8, num_validation=8, num_test=8).load()
    >>> network = RetinaVVSConfig(bottleneck=4).build(seed=0)
    >>> dict(map_layer(network, "retina_2", Measurement(num_probes=2), data, 0).sizes)
    {'unit': 4, 'channel': 1, 'y': 13, 'x': 13}
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
