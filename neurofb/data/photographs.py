"""Fifteen photographs that installed packages carry, and their tiles for train and test.

None is downloaded or stored here. scikit-image: astronaut, camera, chelsea, coffee, coins,
motorcycle, rocket, brick, grass, gravel, moon, hubble; scikit-learn: china, flower (CC BY 2.0);
matplotlib: grace_hopper.
"""

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32

#: Names of all photographs.
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "motorcycle",
    "rocket",
    "brick",
    "grass",
    "gravel",
    "moon",
    "hubble",
    "china",
    "flower",
    "grace_hopper",
)

#: Least side of a tile (pixels); a tile belongs to one split as a whole.
TILE = 128

#: Share of a photograph's tiles that validation and test take, each at least one tile.
HELD_OUT = 0.15

#: y from, y to, x from, x to (pixels).
Box = tuple[int, int, int, int]


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph(name: str) -> Float32[np.ndarray, "y x"]:
    """Return a photograph as grey values in [0, 1], the plain mean of its colours.

    The array is shared between calls and read-only.

    Raises
    ------
    ValueError
        If the name is unknown, or the package that carries the photograph is missing.

    Examples
    --------
    >>> photograph("camera").shape
    (512, 512)
    """
    if name in ("china", "flower"):
        pixels = _from_sklearn(name)
    elif name == "grace_hopper":
        pixels = _from_matplotlib(name)
    elif name in PHOTOGRAPHS:
        pixels = _from_skimage(name)
    else:
        raise ValueError(f"photograph {name!r} is not one of {', '.join(PHOTOGRAPHS)}")
    grey = np.asarray(pixels, np.float32) / np.float32(255)
    if grey.ndim == 3:
        grey = grey[..., :3].mean(-1, dtype=np.float32)
    grey.flags.writeable = False
    return grey


def tiles(height: int, width: int, rng: np.random.Generator) -> tuple[list[Box], ...]:
    """Cut a photograph into tiles and deal them to train, validation and test.

    The tiles cover the photograph without overlap; their sides are `TILE` pixels, and up to twice
    that where the photograph's side is no multiple.

    Examples
    --------
    >>> [len(boxes) for boxes in tiles(512, 512, np.random.default_rng(0))]
    [12, 2, 2]
    """
    rows = np.linspace(0, height, max(1, height // TILE) + 1).astype(int).tolist()
    columns = np.linspace(0, width, max(1, width // TILE) + 1).astype(int).tolist()
    boxes = [
        (rows[i], rows[i + 1], columns[j], columns[j + 1])
        for i in range(len(rows) - 1)
        for j in range(len(columns) - 1)
    ]
    order = [boxes[number] for number in rng.permutation(len(boxes))]
    held_out = max(1, round(HELD_OUT * len(boxes)))
    return order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out]


def dealt_tiles(name: str, seed: int) -> tuple[list[Box], ...]:
    """Return the tiles of a photograph for each split, the same whichever others are used.

    Examples
    --------
    >>> [len(boxes) for boxes in dealt_tiles("camera", seed=1)]
    [12, 2, 2]
    """
    stream = np.random.SeedSequence(seed, spawn_key=(100 + PHOTOGRAPHS.index(name),))
    height, width = photograph(name).shape
    return tiles(height, width, np.random.default_rng(stream))


def random_cuts(
    rng: np.random.Generator, num_cuts: int, *, split: int, size: int, seed: int
) -> Float32[np.ndarray, "image y x"]:
    """Cut squares at random places of random photographs, within the tiles of one split.

    Parameters
    ----------
    rng
        Draws photograph, tile and place.
    num_cuts, size
        Number of squares and their side (pixels).
    split
        Index of the split: 0 train, 1 validation, 2 test.
    seed
        Seed of the dealing of the tiles.

    Examples
    --------
    >>> random_cuts(np.random.default_rng(0), 2, split=0, size=24, seed=1).shape
    (2, 24, 24)
    """
    boxes = [(name, box) for name in PHOTOGRAPHS for box in dealt_tiles(name, seed)[split]]
    per_photograph = np.array([sum(other == name for other, _ in boxes) for name, _ in boxes])
    chance = 1 / per_photograph / len(PHOTOGRAPHS)
    cuts = np.empty((num_cuts, size, size), np.float32)
    for cut, number in zip(cuts, rng.choice(len(boxes), num_cuts, p=chance), strict=True):
        name, (top, bottom, left, right) = boxes[number]
        y = rng.integers(top, bottom - size + 1)
        x = rng.integers(left, right - size + 1)
        cut[:] = photograph(name)[y : y + size, x : x + size]
    return cuts


def _from_skimage(name: str) -> np.ndarray:
    """Read a photograph of scikit-image."""
    data = _require("skimage.data", "scikit-image", name)
    names = {"motorcycle": "stereo_motorcycle", "hubble": "hubble_deep_field"}
    read: Callable[[], Any] = getattr(data, names.get(name, name))
    return read()[0] if name == "motorcycle" else read()


def _from_sklearn(name: str) -> np.ndarray:
    """Read a photograph of scikit-learn."""
    return _require("sklearn.datasets", "scikit-learn", name).load_sample_image(f"{name}.jpg")


def _from_matplotlib(name: str) -> np.ndarray:
    """Read a photograph of matplotlib."""
    from PIL import Image

    cbook = _require("matplotlib.cbook", "matplotlib", name)
    with Image.open(cbook.get_sample_data(f"{name}.jpg", asfileobj=False)) as image:
        return np.asarray(image)


def _require(module: str, package: str, name: str) -> Any:
    """Import a package that carries photographs, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"photograph {name!r} needs {package}, which is not installed: "
            f"pip install {package}, or leave {name!r} out"
        ) from error
