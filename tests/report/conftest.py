"""Results to report on, made by hand: a scan in the layout of a store, a study, a run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, change, to_json
from neurofb.feedback import LowRank
from neurofb.run import run

#: goes wherever a text of the data can stand; must never become part of the page's code
EVIL = "<script>document.title='taken over'</script><img src=x onerror=alert(1)> & \"quoted\""
TRACEBACK = """Traceback (most recent call last):
  File "neurofb/scan/cell.py", line 41, in compute
    return per_run(run(config))
  File "neurofb/training/loop.py", line 118, in train
    raise ArithmeticError(f"loss is {loss} at step {step}")
ArithmeticError: loss is nan at step STEP"""


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., xr.Dataset]:
    return build_scan


@pytest.fixture(scope="session")
def scan() -> xr.Dataset:
    return build_scan()


@pytest.fixture(scope="session")
def scan_store(tmp_path_factory: pytest.TempPathFactory, scan: xr.Dataset) -> Path:
    store = tmp_path_factory.mktemp("scan") / "symmetry.zarr"
    scan.to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    return store


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps with receptive fields, in the folder that `neurofb run` writes."""
    small = {"training.num_steps": "20", "measurement.fits": "false", "name": "tiny"}
    data = {"data.num_train": "64", "data.num_validation": "32", "data.num_test": "32"}
    folder = tmp_path_factory.mktemp("run") / "tiny"
    run(change(RunConfig(name="tiny"), small | data), folder, progress=False)
    return folder


def build_scan(
    *, bottlenecks: int = 3, ranks: int = 4, rules: int = 1, seeds: int = 5, curves: bool = True
) -> xr.Dataset:
    """Invent a scan: symmetry rises as rank or bottleneck falls; two cells failed, two to do."""
    axes = {
        "bottleneck": [4, 8, 16, 32, 64, 128][:bottlenecks],
        "rank": [1, 2, 4, 32, 64][:ranks],
        "rule": ["low_rank", "direct", "random"][:rules],
        "seed": list(range(seeds)),
    }
    settings = {
        "bottleneck": "network.bottleneck",
        "rank": "feedback.rank",
        "rule": "feedback.rule",
        "seed": "seed",
    }
    dims, shape = tuple(axes), tuple(map(len, axes.values()))
    rng = np.random.default_rng(0)
    place = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    symmetry = 0.85 - 0.12 * place[1] - 0.06 * place[0] - 0.1 * place[2]
    symmetry = symmetry + rng.normal(0, 0.03, shape)
    accuracy = 0.75 + 0.05 * place[1] - 0.02 * place[2] + rng.normal(0, 0.01, shape)
    step = np.arange(0, 300, 10)
    loss = 2.3 * np.exp(-(0.004 + 0.004 * place[1][..., None]) * step)
    loss = loss + 0.03 * rng.normal(size=(*shape, step.size))
    status = np.ones(shape, dtype=np.int8)
    status[0, -1, 0, :2] = 2
    status[-1, 0, 0, -1] = 2
    status[-1, -1, 0, -2:] = 0
    status[-1, -1, -1, 0] = -1
    done = status == 1
    failure = np.full(shape, "", dtype=object)
    failure[0, -1, 0, 0] = TRACEBACK.replace("STEP", "40")
    failure[0, -1, 0, 1] = TRACEBACK.replace("STEP", "171")
    failure[-1, 0, 0, -1] = f"Traceback (most recent call last):\nValueError: {EVIL}"
    config = np.full(shape, "", dtype=object)
    for index in np.ndindex(*shape):
        cell = {settings[dim]: axes[dim][at] for dim, at in zip(dims, index, strict=True)}
        config[index] = json.dumps(cell)

    def measure(values: np.ndarray, long_name: str, *more: str) -> xr.Variable:
        mask = done.reshape(*done.shape, *[1] * len(more))
        return labels.variable((*dims, *more), np.where(mask, values, np.nan), "1", long_name)

    variables = {
        "status": labels.variable(dims, status, "1", "status of the cell"),
        "settings": labels.variable(dims, config, "1", "settings of the cell"),
        "failure": labels.variable(dims, failure, "1", "traceback"),
        "cell_seconds": labels.variable(
            dims, np.where(status > 0, rng.uniform(3, 5, shape), np.nan), "s", "wall time"
        ),
        "rotational_symmetry": measure(symmetry, "rotational symmetry"),
        "rotational_symmetry_untrained": measure(
            0.15 + rng.normal(0, 0.02, shape), "rotational symmetry before training"
        ),
        "test_accuracy": measure(accuracy, "accuracy on the test set"),
    }
    if curves:
        variables["loss"] = measure(loss, "training loss", "step")
    coords = {
        dim: labels.variable(dim, values, "1", settings[dim].replace(".", " "))
        for dim, values in axes.items()
    }
    for dim, setting in settings.items():
        coords[dim].attrs["setting"] = setting
    if curves:
        coords["step"] = labels.coordinate("step", step)
    base = RunConfig(name="symmetry", feedback=LowRank(rank=1))
    attrs = labels.provenance(
        title="RF symmetry over bottleneck and rank",
        config=to_json(base),
        references="arXiv:1901.00945 doi:10.1038/nature14539",
    )
    about = {
        "recipe": "models/retina_vvs.py::ldfa",
        "analyse": "analyses/receptive_fields.py",
        "axes": {settings[dim]: values for dim, values in axes.items()},
        "where": "",
    }
    attrs |= {"neurofb_scan": json.dumps(about), "comment": EVIL}
    return xr.Dataset(variables, coords, attrs)
