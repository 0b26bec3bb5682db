"""Labels: dims, units, CF attributes and provenance; reading and writing of results.

Every result of neurofb is an xarray object made through this file. Arrays are variables, never
attributes; configuration and provenance are JSON strings, so that both zarr and netCDF keep them.
"""

import datetime
import glob
import json
import os
import platform
import shutil
import subprocess
import uuid
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

#: dim -> (units, long_name). The same name means the same thing everywhere.
COORDINATES: dict[str, tuple[str, str]] = {
    "unit": ("1", "unit (channel of a convolution, output of a linear layer)"),
    "channel": ("1", "input channel"),
    "y": ("pixel", "vertical position from the unit's centre"),
    "x": ("pixel", "horizontal position from the unit's centre"),
    "layer": ("1", "layer name"),
    "step": ("1", "training step (number of updates done)"),
    "epoch": ("1", "epoch (number of passes over the training images)"),
    "seed": ("1", "random seed of the run"),
    "condition": ("1", "experimental condition"),
    "network": ("1", "network"),
    "rule": ("1", "feedback rule"),
    "rank": ("1", "rank of the feedback"),
    "route": ("1", "route of the error to the retina"),
    "bottleneck": ("1", "channels of the retinal output"),
    "width": ("1", "units in each hidden layer"),
    "num_classes": ("1", "number of classes"),
    "learning_rate": ("1", "learning rate"),
    "optimiser": ("1", "optimiser"),
    "normalisation": ("1", "normalisation of the hidden layers"),
    "control": ("1", "what is done to the singular values of an update"),
    "definition": ("1", "definition of the effective rank"),
    "view": ("1", "how the errors of a layer are laid out as a matrix"),
    "stimulus": ("1", "stimulus"),
    "drift": ("cycle", "time since a grating began to drift, in cycles"),
    "orientation": ("degree", "orientation, counter-clockwise from horizontal"),
    "frequency": ("cycle / pixel", "spatial frequency"),
    "harmonic": ("1", "angular harmonic"),
    "lag": ("1", "lag"),
    "phase": ("1", "part of a training step"),
    "kind": ("1", "kind of operation: matrix product and the like, or element by element"),
    "mode": ("1", "mode of the task (pair of singular vectors), strongest first"),
    "flip": ("1", "which synapses learn with the wrong sign"),
    "ratio": ("1", "inputs per hidden neuron, c = M / N"),
    "hidden_flips": ("1", "fraction of inputs whose synapses onto the hidden layer are flipped"),
    "readout_flips": ("1", "fraction of hidden neurons whose readout synapses are flipped"),
    "gain": ("1", "size of the initial weights, g"),
    "activation": ("1", "activation function"),
    "eigenvalue": ("1", "number of the eigenvalue, largest first"),
    "start": ("1", "where learning starts"),
    "total": ("1", "inputs and hidden neurons, M + N"),
    "vertex": ("1", "point of a theory's curve"),
    "trial": ("1", "trial (noise and start of its own)"),
    "matrix": ("1", "realisation of the weights"),
    "time": ("membrane time constant", "time"),
    "signal": ("1", "input signal"),
    "balance": ("1", "balance b: strength of the negative feedback"),
    "disorder": ("1", "disorder g of the recurrent weights"),
    "noise": ("1", "noise sigma of a neuron's input"),
    "delay": ("membrane time constant", "delay d of the feedback"),
    "num_units": ("1", "number of neurons N"),
    "drive": ("1", "constant input x"),
    "law": ("1", "how the balance grows with the number of neurons"),
    "ramp": ("1", "direction in which the balance is moved"),
    "angular_frequency": ("radian / membrane time constant", "angular frequency"),
    "source": ("1", "source of the fluctuations"),
    "noise_variance": ("1", "noise variance Delta of the tensor's entries"),
    "noise_ratio": ("1", "variance of added noise over the mean square of the activity"),
    "prior_mean": ("1", "mean of the factors' entries"),
    "shape_ratio": ("1", "first side of the tensor over the geometric mean of all"),
    "axis": ("1", "axis of the tensor"),
    "component": ("1", "component of the decomposition"),
    "algorithm": ("1", "algorithm, and where it starts"),
    "sweep": ("1", "sweep over the axes of the tensor"),
    "side": ("1", "side of a cubic tensor"),
    "schedule": ("1", "order in which the axes are updated"),
}

#: papers that the library stands on, as results name them
REFERENCES = " ".join(
    (
        "arXiv:1901.00945",  # Lindsey et al. 2019, the retina
        "arXiv:2502.20580",  # Hanut & Kadmon 2025, low-rank feedback
        "arXiv:2606.11123",  # Boeshertz, Pascanu & Clopath 2026, rank of the error
        "arXiv:2510.25594",  # Roy et al. 2025, learning in SVD space
        "arXiv:2510.02765",  # curl descent, 2025
        "arXiv:2006.14178",  # Kadmon, Timcheck & Ganguli 2020, balanced predictive coding
        "arXiv:1810.10065",  # Kadmon & Ganguli 2018, message passing for low-rank tensors
    )
)


def variable(
    dims: str | Iterable[str], values: Any, units: str, long_name: str, **attrs: str | int | float
) -> xr.Variable:
    """Make a variable that says what it is.

    Parameters
    ----------
    dims
        Names of the dimensions, lowercase singular nouns (see `COORDINATES`).
    values
        Array-like; torch tensors are detached and moved to the CPU; strings become
        variable-length strings.
    units
        Physical unit, ``"1"`` for a number without one.
    long_name
        What a stranger reads on the axis.
    **attrs
        Further attributes (strings and numbers only).

    Raises
    ------
    ValueError
        If an attribute is neither a string nor a number.

    Examples
    --------
    >>> variable("unit", [0.5, 1.0], "1", "rotational symmetry").attrs["units"]
    '1'
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    for name, value in attrs.items():
        if not isinstance(value, str | int | float):
            raise ValueError(
                f"attribute {name!r} is a {type(value).__name__}; allowed: str, int, float "
                "(arrays are variables)"
            )
    values = np.asarray(values)
    if values.dtype.kind in "US":
        values = values.astype(object)
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    return xr.Variable(dims, values, {"units": units, "long_name": long_name, **attrs})


def coordinate(dim: str, values: Any) -> xr.Variable:
    """Make the coordinate of a dimension named in `COORDINATES`, with its units and long name.

    Examples
    --------
    >>> coordinate("x", [-1, 0, 1]).attrs["units"]
    'pixel'
    """
    if dim not in COORDINATES:
        raise ValueError(f"dim={dim!r} has no label; known dims: {', '.join(COORDINATES)}")
    units, long_name = COORDINATES[dim]
    return variable(dim, values, units, long_name)


def provenance(
    *,
    title: str,
    config: str = "{}",
    seed: int | None = None,
    device: str = "cpu",
    data_checksum: str = "",
    wall_seconds: float = float("nan"),
    cpu_seconds: float = float("nan"),
    references: str = "",
) -> dict[str, str | int | float]:
    """Collect the global attributes that make a result traceable (CF and ACDD names first).

    Parameters
    ----------
    title
        One line that says what the dataset is.
    config
        The run's configuration as a JSON string.
    seed, device, data_checksum, wall_seconds, cpu_seconds
        What the run used, and how long it took (seconds).
    references
        DOI or arXiv identifiers.

    Examples
    --------
    >>> provenance(title="a run", seed=1)["seed"]
    1
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Conventions": "CF-1.11",
        "title": title,
        "source": f"neurofb {version('neurofb')}",
        "history": f"{now} created by neurofb {version('neurofb')}",
        "references": references,
        "created": now,
        "seed": -1 if seed is None else seed,
        "device": device,
        "threads": torch.get_num_threads(),
        "data_checksum": data_checksum,
        "wall_seconds": float(wall_seconds),
        "cpu_seconds": float(cpu_seconds),
        "neurofb_version": version("neurofb"),
        "neurofb_config": config,
        "git_commit": git_commit(),
        "versions": json.dumps(
            {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "numpy", "xarray")},
            }
        ),
    }


def save(result: xr.Dataset | xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a dataset or a tree whole or not at all; ``.nc`` writes netCDF, ``.zarr`` zarr v3.

    The result is written beside `path` under another name and renamed at the end, so a kill leaves
    either the old result or the new one. An existing result is replaced. (A folder cannot be
    replaced in one step: after a kill between the two renames, `load` finds the old one aside.)

    Raises
    ------
    ValueError
        If the suffix is neither ``.zarr`` nor ``.nc``.
    ImportError
        If netCDF is asked for and its packages are not installed.
    """
    path = Path(path)
    _check_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        if path.suffix == ".nc":
            result.to_netcdf(partial, engine="h5netcdf", encoding=_compressed(result))
        else:
            result.to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
        _replace(partial, path)
    finally:
        _remove(partial)
    return path


def load(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a saved result as a `DataTree`, read into memory.

    Raises
    ------
    ValueError
        If there is no such result, or the file is not one that neurofb can read.
    ImportError
        If netCDF is asked for and its packages are not installed.
    """
    path = Path(path)
    source = path if path.exists() else max(_set_aside(path), key=_modified, default=None)
    if source is None:
        raise ValueError(f"path={str(path)!r} does not exist")
    _check_format(path)
    engines: Mapping[str, dict[str, Any]] = {
        ".nc": {"engine": "h5netcdf"},
        ".zarr": {"engine": "zarr", "consolidated": False},
    }
    try:
        with warnings.catch_warnings():
            # xarray leaves out an array whose metadata is damaged, with no more than a warning
            warnings.filterwarnings("error", message="Object at .* is not recognized")
            with xr.open_datatree(source, **engines[path.suffix]) as tree:
                return tree.load().map_over_datasets(_text_as_objects)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, UserWarning) as error:
        raise ValueError(f"path={str(path)!r} is not a readable result: {error}") from error


def _text_as_objects(dataset: xr.Dataset) -> xr.Dataset:
    """Bring text to objects, whatever a format made of it, so that it can be written again."""
    text = {name: v for name, v in dataset.variables.items() if v.dtype.kind in "UT"}
    return dataset.assign_coords(
        {name: v.astype(object) for name, v in text.items() if name in dataset.coords}
    ).assign({name: v.astype(object) for name, v in text.items() if name in dataset.data_vars})


def git_commit() -> str:
    """Return the commit of the working tree that neurofb is imported from, or '' outside one.

    Examples
    --------
    >>> len(git_commit()) in (0, 40)
    True
    """
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def _compressed(result: xr.Dataset | xr.DataTree) -> dict[str, Any]:
    """Return netCDF's encoding in which every array of numbers is compressed."""
    if isinstance(result, xr.DataTree):
        return {node.path: _compressed(node.to_dataset(inherit=False)) for node in result.subtree}
    zlib = {"zlib": True, "complevel": 5, "shuffle": True}
    return {
        str(name): zlib for name, v in result.data_vars.items() if v.ndim and v.dtype.kind in "fiu"
    }


def _check_format(path: Path) -> None:
    """Refuse another suffix, and netCDF where it is not installed."""
    if path.suffix not in (".zarr", ".nc"):
        raise ValueError(f"path={str(path)!r} must end in .zarr or .nc")
    missing = [name for name in ("h5netcdf", "h5py") if find_spec(name) is None]
    if path.suffix == ".nc" and missing:
        raise ImportError(
            f"path={str(path)!r} needs {' and '.join(missing)}: pip install 'neurofb[netcdf]'"
        )


def _replace(partial: Path, path: Path) -> None:
    """Put `partial` in the place of `path`; a folder is moved aside first, then removed."""
    if path.is_dir() or (partial.is_dir() and path.exists()):
        old = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.old{path.suffix}")
        path.rename(old)
        try:
            partial.replace(path)
        except OSError:
            old.rename(path)
            raise
    else:
        partial.replace(path)
    for old in _set_aside(path):
        _remove(old)


def _set_aside(path: Path) -> list[Path]:
    """Find what `_replace` moved aside and a kill kept it from removing."""
    return list(path.parent.glob(f"{glob.escape(path.stem)}.????????.old{path.suffix}"))


def _modified(path: Path) -> float:
    """Return the time of the last change."""
    return path.stat().st_mtime


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
