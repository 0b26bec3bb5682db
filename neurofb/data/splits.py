"""Splitting: train, validation and test from what a source offers, by a seeded permutation."""

from collections.abc import Sequence
from typing import Final

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
    images: Num[np.ndarray, "image channel y x"], labels: Num[np.ndarray, " image"]
) -> ImageSet:
    """Make a set from arrays; uint8 images are divided by 255.

    Examples
    --------
    >>> image_set(np.full((1, 1, 2, 2), 255, np.uint8), np.array([3])).images.max()
    tensor(1.)
    """
    pixels = np.ascontiguousarray(images, np.float32)
    if images.dtype == np.uint8:
        pixels = pixels / np.float32(255)
    return ImageSet(
        images=torch.from_numpy(pixels), labels=torch.from_numpy(labels.astype(np.int64))
    )


def divide(
    num_available: int, *, seed: int, where: str, sizes: dict[str, int | None]
) -> dict[str, np.ndarray]:
    """Draw disjoint sets of image numbers by one seeded permutation.

    Parameters
    ----------
    num_available
        How many images there are.
    seed
        Seed of the permutation.
    where
        What the images come from, for the message.
    sizes
        Number of images of each set, drawn in this order; None takes a tenth of all images, or,
        for ``train``, all that the others leave. ``train`` is the last to be drawn, and a number
        for it takes a subset.

    Raises
    ------
    ValueError
        If the images are too few.

    Examples
    --------
    >>> parts = divide(20, seed=1, where="toy", sizes={"validation": None, "train": None})
    >>> len(parts["validation"]), len(parts["train"])
    (2, 18)
    """
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(num_available)
    parts, start = {}, 0
    for split, size in sizes.items():
        if size is None:
            size = num_available - start if split == "train" else num_available // 10
        if start + size > num_available:
            raise ValueError(
                f"num_{split}={size} is too many: {where} has {num_available} images"
                + (f", of which {start} are taken for other splits" if start else "")
            )
        parts[split] = order[start : start + size]
        start += size
    if not len(parts["train"]):
        raise ValueError(f"{where} has {num_available} images, which leaves none to train on")
    return parts


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
