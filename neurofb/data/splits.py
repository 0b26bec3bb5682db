"""Splitting: train, validation and test from what a source offers, by a seeded permutation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Num

from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.normalise import Normalisation, normalise

#: The splits in canonical order; a split's index is also its random stream.
SPLITS: Final = ("train", "validation", "test")


def assemble(
    *,
    name: str,
    classes: Sequence[str],
    normalisation: Normalisation,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
) -> ImageSplits:
    """Normalise three sets with numbers of the train set and put them together.

    Examples
    --------
    >>> one = ImageSet(images=torch.ones(1, 1, 4, 4), labels=torch.tensor([0]))
    >>> splits = assemble(name="toy", classes=["a"], normalisation="image", train=one,
    ...                   validation=one, test=one)
    >>> float(splits.train.images.max())
    0.0
    """
    sets = (train, validation, test)
    images = normalise(*(one.images for one in sets), how=normalisation)
    made = [
        ImageSet(images=image, labels=one.labels) for image, one in zip(images, sets, strict=True)
    ]
    return ImageSplits(
        name=name, classes=tuple(classes), train=made[0], validation=made[1], test=made[2]
    )


def image_set(
    images: Num[np.ndarray, "image channel y x"],
    labels: Num[np.ndarray, " image"],
    grey: bool = False,
) -> ImageSet:
    """Make a set from arrays; uint8 is divided by 255, `grey` takes the plain mean of channels.

    Examples
    --------
    >>> image_set(np.full((1, 3, 2, 2), 255, np.uint8), np.array([3]), grey=True).images.shape
    torch.Size([1, 1, 2, 2])
    """
    with np.errstate(over="ignore"):  # what overflows float32 is refused as not finite
        if grey:
            pixels = images.mean(1, keepdims=True, dtype=np.float32)
        else:
            pixels = np.ascontiguousarray(images, np.float32)
    if images.dtype == np.uint8:
        pixels /= np.float32(255)  # a copy already, the type has changed
    return ImageSet(
        images=torch.from_numpy(pixels), labels=torch.from_numpy(labels.astype(np.int64))
    )


class Arrays(NamedTuple):
    """What a reader found in a file: images (uint8, or float as they are) and their labels."""

    images: Num[np.ndarray, "image channel y x"]
    labels: Num[np.ndarray, " image"]


def from_arrays(
    *,
    name: str,
    where: Path,
    classes: Sequence[str],
    train: Arrays,
    validation: Arrays | None = None,
    test: Arrays | None = None,
    num_train: int | None,
    num_validation: int | None,
    num_test: int | None = None,
    seed: int,
    normalisation: Normalisation,
    grey: bool = False,
) -> ImageSplits:
    """Make splits of a reader's arrays; what is missing is drawn from the train images.

    A test set of the source's own is left as it is.

    Raises
    ------
    ValueError
        If the numbers do not fit what there is.

    Examples
    --------
    >>> ten = Arrays(np.zeros((10, 1, 4, 4), np.uint8), np.zeros(10, np.uint8))
    >>> splits = from_arrays(name="toy", where=Path("toy"), classes=["a"], train=ten, test=ten,
    ...                      num_train=5, num_validation=3, seed=1, normalisation="none")
    >>> splits.train.num_images, splits.validation.num_images, splits.test.num_images
    (5, 3, 10)
    """
    found = {"validation": validation, "test": test}
    wanted = {"validation": num_validation, "test": num_test}
    for split, arrays in found.items():
        if arrays is not None and wanted[split] is not None:
            raise ValueError(
                f"num_{split}={wanted[split]} must be None: {str(where)!r} has {split} images"
            )
    drawn = {split: wanted[split] for split, arrays in found.items() if arrays is None}
    parts = _divide(len(train.labels), seed, str(where), {**drawn, "train": num_train})
    sets = {}
    for split in SPLITS:
        arrays = found.get(split)
        if arrays is None:
            arrays = Arrays(train.images[parts[split]], train.labels[parts[split]])
        sets[split] = image_set(arrays.images, arrays.labels, grey)
    return assemble(
        name=name,
        classes=classes,
        normalisation=normalisation,
        train=sets["train"],
        validation=sets["validation"],
        test=sets["test"],
    )


def check_sizes(seed: int, **sizes: int | None) -> None:
    """Refuse a negative seed, a negative number of images, or none to train on.

    Examples
    --------
    >>> check_sizes(1, num_train=None, num_validation=0)
    """
    if seed < 0:
        raise ValueError(f"seed={seed} must be at least 0")
    for name, size in sizes.items():
        least = 1 if name == "num_train" else 0
        if size is not None and size < least:
            raise ValueError(f"{name}={size} must be at least {least}")


def _divide(
    num_available: int, seed: int, where: str, sizes: dict[str, int | None]
) -> dict[str, np.ndarray]:
    """Draw disjoint sets of image numbers by one seeded permutation, ``train`` last.

    None takes a tenth of all images, for ``train`` all that the others leave.
    """
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(num_available)
    parts, start = {}, 0
    for split, size in sizes.items():
        if size is None:
            size = num_available - start if split == "train" else num_available // 10
        if start + size > num_available:
            raise ValueError(
                f"num_{split}={size} is too many: {where!r} has {num_available} train images"
                + (f", of which {start} are taken for other splits" if start else "")
            )
        parts[split] = order[start : start + size]
        start += size
    if not len(parts["train"]):
        raise ValueError(
            f"{where!r} has {num_available} train images, which leaves none to train on"
        )
    return parts
