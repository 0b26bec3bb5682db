"""Images and labels in the user's own ``.npz`` file."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from neurofb.choices import check_choice
from neurofb.data.array_file import read_npz
from neurofb.data.images import ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.splits import SPLITS, Arrays, check_sizes, from_arrays

#: Labels at or above this are taken for a mistake.
MAX_CLASSES = 100_000


@dataclass(frozen=True, kw_only=True)
class Npz:
    """Arrays ``x`` (images) and ``y`` (labels), and optionally ``split`` and ``classes``.

    ``x`` is (image, y, x) or (image, channel, y, x), uint8 (divided by 255) or float (taken as it
    is); ``y`` is integer, from 0; ``split`` says for each image ``train``, ``validation`` or
    ``test`` (or 0, 1, 2); ``classes`` names the classes. What `split` does not give is drawn from
    the train images.

    Parameters
    ----------
    source
        Tag of this source.
    path
        The file.
    num_train
        Number of train images, a seeded subset; None takes all.
    num_validation, num_test
        Number of images drawn for a split that the file does not have; None takes a tenth.
    seed
        Seed of the draws.
    normalise
        See `normalise`.

    Examples
    --------
    >>> Npz(path="missing.npz").load()
    Traceback (most recent call last):
    ValueError: 'missing.npz' does not exist
    """

    source: Literal["npz"] = "npz"
    path: Path | str
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    seed: int = 1
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        check_sizes(
            self.seed,
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
        )
        check_choice("normalise", self.normalise, Normalisation)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Read the file; `cache` is not used, so that a changed file is never masked.

        Raises
        ------
        ValueError
            If the file is missing, damaged, holds Python objects, or its arrays do not fit.
        """
        del cache
        path = Path(self.path)
        arrays = read_npz(path)
        for name in ("x", "y"):
            if name not in arrays:
                raise ValueError(f"{str(path)!r} has no array {name!r}, only {sorted(arrays)}")
        x, y = _check_images(path, arrays["x"]), _check_labels(path, arrays["y"])
        if len(x) != len(y):
            raise ValueError(f"{str(path)!r} has {len(x)} images in x, but {len(y)} labels in y")
        classes = _class_names(path, arrays.get("classes"), y)
        if "split" in arrays:
            found = _separate(path, x, y, arrays["split"])
        else:
            found = {"train": Arrays(x, y)}
        if "train" not in found:
            raise ValueError(f"{str(path)!r} has no train images in split")
        return from_arrays(
            name=path.stem,
            where=path,
            classes=classes,
            train=found["train"],
            validation=found.get("validation"),
            test=found.get("test"),
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
            seed=self.seed,
            normalisation=self.normalise,
        )


def _check_images(path: Path, x: np.ndarray) -> np.ndarray:
    """Return images with a channel axis."""
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(f"{str(path)!r} has x of type {x.dtype}, allowed are uint8 and float")
    if x.ndim not in (3, 4) or 0 in x.shape[1:]:
        raise ValueError(
            f"{str(path)!r} has x of shape {x.shape}, not (image, y, x) or (image, channel, y, x)"
        )
    if x.ndim == 4 and x.shape[1] > 4 and x.shape[3] in (1, 3):
        raise ValueError(
            f"{str(path)!r} has x of shape {x.shape}, channels last; "
            "move them: x.transpose(0, 3, 1, 2)"
        )
    with np.errstate(over="ignore"):
        if x.dtype.kind == "f" and not np.isfinite(x.astype(np.float32, copy=False)).all():
            raise ValueError(f"{str(path)!r} has values in x that are not finite in float32")
    return x if x.ndim == 4 else x[:, None]


def _check_labels(path: Path, y: np.ndarray) -> np.ndarray:
    """Return labels that are integers of a plausible range."""
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise ValueError(
            f"{str(path)!r} has y of type {y.dtype} and shape {y.shape}, not integers (image,)"
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < MAX_CLASSES:
        raise ValueError(
            f"{str(path)!r} has labels from {y.min()} to {y.max()} in y, "
            f"allowed are 0 to {MAX_CLASSES - 1}"
        )
    return y


def _class_names(path: Path, classes: np.ndarray | None, y: np.ndarray) -> list[str]:
    """Return the classes' names, numbers where the file gives none."""
    highest = int(y.max(initial=0))
    if classes is None:
        return [str(label) for label in range(highest + 1)]
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise ValueError(f"{str(path)!r} has classes of type {classes.dtype}, not texts (class,)")
    if highest >= len(classes):
        raise ValueError(
            f"{str(path)!r} has label {highest} in y, allowed are 0 to {len(classes) - 1}"
        )
    try:
        return [str(name) for name in classes]
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} has a damaged text in classes: {error}") from error


def _separate(path: Path, x: np.ndarray, y: np.ndarray, split: np.ndarray) -> dict[str, Arrays]:
    """Return the images of each split that the file names."""
    if split.shape != y.shape or split.dtype.kind not in "iuU":
        raise ValueError(
            f"{str(path)!r} has split of type {split.dtype} and shape {split.shape}, "
            f"not texts or integers of shape {y.shape}"
        )
    names = SPLITS if split.dtype.kind == "U" else range(len(SPLITS))
    if not np.isin(split, list(names)).all():
        raise ValueError(
            f"{str(path)!r} has values in split other than {', '.join(map(str, names))}"
        )
    return {
        name: Arrays(x[split == value], y[split == value])
        for name, value in zip(SPLITS, names, strict=True)
        if (split == value).any()
    }
