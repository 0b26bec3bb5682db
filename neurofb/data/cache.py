"""A cache of generated images: one plain ``.npz`` file for each group of settings."""

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurofb.data.array_file import read_npz
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.splits import SPLITS

#: Part of the file name: raised whenever a source's images or the file's layout change.
FORMAT_VERSION = 1


def default_cache() -> Path:
    """Return the user's cache folder: ``$NEUROFB_CACHE`` or ``~/.cache/neurofb``.

    Examples
    --------
    >>> isinstance(default_cache(), Path)
    True
    """
    return Path(os.environ.get("NEUROFB_CACHE") or Path.home() / ".cache" / "neurofb")


def cached(
    settings: Mapping[str, Any], build: Callable[[], ImageSplits], folder: Path | None
) -> ImageSplits:
    """Return what `build` makes, from the folder's file if it is there and undamaged.

    Parameters
    ----------
    settings
        All that decides the images, JSON-serialisable; its key ``source`` starts the file's name.
    build
        Makes the images.
    folder
        Cache folder, made if missing; None neither reads nor writes a file.

    Warns
    -----
    UserWarning
        If the file is damaged (it is made anew) or cannot be written (the images are returned all
        the same).

    Examples
    --------
    >>> one = ImageSet(images=torch.ones(1, 1, 4, 4), labels=torch.tensor([0]))
    >>> toy = ImageSplits(train=one, validation=one, test=one, classes=("a",), name="toy")
    >>> cached({"source": "toy"}, lambda: toy, None) is toy
    True
    """
    if folder is None:
        return build()
    path = cache_path(settings, folder)
    if path.exists():
        try:
            return _read(path)
        except ValueError as error:
            warnings.warn(f"made the cached images anew: {error}", stacklevel=3)
    splits = build()
    try:
        _write(splits, path)
    except OSError as error:
        warnings.warn(f"could not cache the images in {str(folder)!r}: {error}", stacklevel=3)
    return splits


def cache_path(settings: Mapping[str, Any], folder: Path) -> Path:
    """Return the cache file's name, which holds a hash of all settings and the format version.

    Examples
    --------
    >>> cache_path({"source": "toy"}, Path("folder")).name
    'toy-v1-ea9227dadfaf21cc.npz'
    """
    text = json.dumps(dict(settings), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(folder) / f"{settings['source']}-v{FORMAT_VERSION}-{digest}.npz"


def _write(splits: ImageSplits, path: Path) -> None:
    """Write the file under another name and rename it, so that a kill leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {
        "name": np.array(splits.name),
        "classes": np.array(splits.classes),
        "checksum": np.array(splits.checksum),
    }
    for split in SPLITS:
        arrays[f"{split}_images"] = getattr(splits, split).images.numpy()
        arrays[f"{split}_labels"] = getattr(splits, split).labels.numpy()
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.partial.npz")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> ImageSplits:
    """Read a cache file and compare its checksum."""
    arrays = read_npz(path)
    required = {"name", "classes", "checksum"}
    required |= {f"{split}_{part}" for split in SPLITS for part in ("images", "labels")}
    if set(arrays) != required:
        raise ValueError(f"{str(path)!r} holds {sorted(arrays)}, not {sorted(required)}")
    sets = {
        split: ImageSet(
            images=torch.from_numpy(arrays[f"{split}_images"]),
            labels=torch.from_numpy(arrays[f"{split}_labels"]),
        )
        for split in SPLITS
    }
    splits = ImageSplits(
        name=str(arrays["name"]),
        classes=tuple(map(str, arrays["classes"])),
        train=sets["train"],
        validation=sets["validation"],
        test=sets["test"],
    )
    if splits.checksum != str(arrays["checksum"]):
        raise ValueError(f"{str(path)!r} is damaged: its checksum does not fit its images")
    return splits
