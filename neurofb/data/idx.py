"""Images in idx files, the layout of MNIST, and Fashion-MNIST as Debian packages it."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from neurofb.choices import check_choice
from neurofb.data.bounded import MAX_BYTES, check_folder, read_file
from neurofb.data.images import ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.splits import Arrays, check_sizes, from_arrays

#: Class names of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, table 2).
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class Idx:
    """Grey images and labels in four idx files, plain or ``.gz`` (MNIST and its relatives).

    Parameters
    ----------
    source
        Tag of this source.
    folder
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with ``t10k``
        or ``test``; a dot before ``idx`` and the ending ``.gz`` are understood too.
    num_train
        Number of train images, a seeded subset; None takes all.
    num_validation
        Number of validation images, drawn from the train images; None takes a tenth.
    seed
        Seed of both draws.
    num_classes
        Number of classes: only images of the first ones, by label, are taken, before the draws;
        None takes all.
    image_size
        Side of the images (pixels): larger pads with zeros, smaller crops, about the centre; None
        leaves them as they are.
    normalise
        See `normalise`.

    Examples
    --------
    >>> Idx(folder="missing").load()
    Traceback (most recent call last):
    ValueError: 'missing' does not exist
    """

    source: Literal["idx"] = "idx"
    folder: Path | str
    num_train: int | None = None
    num_validation: int | None = None
    seed: int = 1
    num_classes: int | None = None
    image_size: int | None = None
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        _check_settings(self)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Read the files; `cache` is not used, so that a changed file is never masked.

        Raises
        ------
        ValueError
            If a file is missing, damaged, of another type, or its numbers do not fit.
        """
        del cache
        return _load(self, Path(self.folder), name="idx images", classes=None)


@dataclass(frozen=True, kw_only=True)
class FashionMNIST:
    """Fashion-MNIST: 60000 + 10000 grey images of clothes, 28 × 28, ten classes.

    Parameters
    ----------
    source
        Tag of this source.
    folder
        Holds the four idx files; None looks for Debian's package dataset-fashion-mnist in the
        system's shared data folders (``XDG_DATA_DIRS``).
    num_train, num_validation, seed, num_classes, image_size, normalise
        As in `Idx`.

    References
    ----------
    Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.

    Examples
    --------
    >>> FashionMNIST(num_train=1000).num_train
    1000
    """

    source: Literal["fashion_mnist"] = "fashion_mnist"
    folder: Path | str | None = None
    num_train: int | None = None
    num_validation: int | None = None
    seed: int = 1
    num_classes: int | None = None
    image_size: int | None = None
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder))
        _check_settings(self)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Read the files; `cache` is not used, so that a changed file is never masked.

        Raises
        ------
        ValueError
            If the package is not installed and no folder given, or as in `Idx`.
        """
        del cache
        folder = _debian_folder() if self.folder is None else Path(self.folder)
        return _load(self, folder, name="Fashion-MNIST", classes=FASHION_CLASSES)


def _check_settings(source: Idx | FashionMNIST) -> None:
    """Check what the two sources share."""
    check_sizes(source.seed, num_train=source.num_train, num_validation=source.num_validation)
    check_choice("normalise", source.normalise, Normalisation)
    if source.num_classes is not None and source.num_classes < 2:
        raise ValueError(f"num_classes={source.num_classes} must be None or at least 2")
    if source.image_size is not None and not 4 <= source.image_size <= 1024:
        raise ValueError(f"image_size={source.image_size} must be None or from 4 to 1024")


def _debian_folder() -> Path:
    """Return the folder of Debian's package dataset-fashion-mnist."""
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for place in shared.split(":"):
        folder = Path(place) / "datasets" / "fashion-mnist"
        if folder.is_dir():
            return folder
    raise ValueError(
        f"Fashion-MNIST is not in datasets/fashion-mnist of {shared!r}: install Debian's package "
        "dataset-fashion-mnist, or give folder="
    )


def _load(
    source: Idx | FashionMNIST, folder: Path, *, name: str, classes: tuple[str, ...] | None
) -> ImageSplits:
    """Read the four files and split them."""
    check_folder(folder)
    train, test = (
        _read_pair(folder, prefixes, None if classes is None else len(classes))
        for prefixes in (("train",), ("t10k", "test"))
    )
    if classes is None:
        highest = max(int(arrays.labels.max(initial=0)) for arrays in (train, test))
        classes = tuple(str(label) for label in range(highest + 1))
    if source.num_classes is not None:
        if source.num_classes > len(classes):
            raise ValueError(
                f"num_classes={source.num_classes} is too many: {str(folder)!r} has {len(classes)} "
                "classes"
            )
        classes = classes[: source.num_classes]
        train, test = (_first_classes(arrays, len(classes)) for arrays in (train, test))
    if source.image_size is not None:
        train = Arrays(_resize(train.images, source.image_size), train.labels)
        test = Arrays(_resize(test.images, source.image_size), test.labels)
    return from_arrays(
        name=name,
        where=folder,
        classes=classes,
        train=train,
        test=test,
        num_train=source.num_train,
        num_validation=source.num_validation,
        seed=source.seed,
        normalisation=source.normalise,
    )


def _read_pair(folder: Path, prefixes: tuple[str, ...], num_classes: int | None) -> Arrays:
    """Read images and labels of one set."""
    image_path = _find(folder, prefixes, "images", 3)
    label_path = _find(folder, prefixes, "labels", 1)
    images, labels = _read_idx(image_path, 3), _read_idx(label_path, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{str(image_path)!r} has {len(images)} images, but {str(label_path)!r} "
            f"{len(labels)} labels"
        )
    if 0 in images.shape[1:]:
        raise ValueError(f"{str(image_path)!r} has images of shape {images.shape[1:]}")
    if num_classes is not None and labels.max(initial=0) >= num_classes:
        raise ValueError(
            f"{str(label_path)!r} has label {labels.max()}, allowed are 0 to {num_classes - 1}"
        )
    return Arrays(images[:, None], labels)


def _find(folder: Path, prefixes: tuple[str, ...], what: str, num_dims: int) -> Path:
    """Return the file of one array under any of its usual names."""
    for prefix in prefixes:
        for dot in "-.":
            for ending in ("", ".gz"):
                path = folder / f"{prefix}-{what}{dot}idx{num_dims}-ubyte{ending}"
                if path.exists():
                    return path
    raise ValueError(
        f"{str(folder)!r} has no file {prefixes[0]}-{what}-idx{num_dims}-ubyte or "
        f"{prefixes[0]}-{what}-idx{num_dims}-ubyte.gz"
    )


def _read_idx(path: Path, num_dims: int) -> UInt8[np.ndarray, "..."]:
    """Read one idx file of unsigned bytes: magic number, big-endian sizes, values."""
    content = read_file(path, MAX_BYTES)
    start = 4 + 4 * num_dims
    if len(content) < start or content[:2] != b"\0\0":
        raise ValueError(f"{str(path)!r} is no idx file: its header is damaged or missing")
    if content[2] != 8:
        raise ValueError(
            f"{str(path)!r} has dtype code {content[2]:#04x}, allowed is 0x08 (unsigned byte)"
        )
    if content[3] != num_dims:
        raise ValueError(f"{str(path)!r} has {content[3]} dimensions, not {num_dims}")
    shape = tuple(np.frombuffer(content, ">u4", num_dims, 4).tolist())
    if prod(shape) != len(content) - start:
        raise ValueError(
            f"{str(path)!r} has {len(content) - start} bytes of data, but its header says "
            f"{' × '.join(map(str, shape))}: truncated or damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _first_classes(arrays: Arrays, num_classes: int) -> Arrays:
    """Return the images of the first classes, in their order."""
    chosen = arrays.labels < num_classes
    return Arrays(arrays.images[chosen], arrays.labels[chosen])


def _resize(
    images: UInt8[np.ndarray, "image channel y x"], size: int
) -> UInt8[np.ndarray, "image channel _size _size"]:
    """Crop or pad with zeros about the centre."""
    for axis in (2, 3):
        extra = size - images.shape[axis]
        if extra > 0:
            pad = [(0, 0)] * 4
            pad[axis] = (extra // 2, extra - extra // 2)
            images = np.pad(images, pad)
        else:
            images = images.take(np.arange(size) + -extra // 2, axis)
    return images
