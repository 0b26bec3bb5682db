"""Labelled image sets: what every source returns and what training and measures take."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with a label each.

    Parameters
    ----------
    images
        Grey (one channel) or colour images, in the source's normalisation.
    labels
        Class index of each image, from 0.

    Raises
    ------
    ValueError
        If a shape, a dtype or a number does not fit: images are finite float32 with four
        dimensions, labels are non-negative int64, one an image.

    Examples
    --------
    >>> ImageSet(images=torch.zeros(2, 1, 4, 4), labels=torch.tensor([0, 1])).num_images
    2
    """

    images: Float32[Tensor, "image channel y x"]
    labels: Int64[Tensor, " image"]

    def __post_init__(self) -> None:
        _check_tensor("images", self.images, torch.float32, 4)
        _check_tensor("labels", self.labels, torch.int64, 1)
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"images and labels must be equally many, not {len(self.images)} images "
                f"and {len(self.labels)} labels"
            )
        if 0 in self.images.shape[1:]:
            raise ValueError(f"images must not be empty, shape={tuple(self.images.shape)}")
        if len(self.images) and not torch.isfinite(torch.stack(self.images.aminmax())).all():
            raise ValueError("images must be finite, but some pixels are NaN or infinite")
        if len(self.labels) and int(self.labels.min()) < 0:
            raise ValueError(f"labels must not be negative, the least is {int(self.labels.min())}")

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """Train, validation and test images of one source.

    Choices are made on `validation`; `test` is for the last number.

    Parameters
    ----------
    train, validation, test
        The three sets, images of one shape; `train` is not empty.
    classes
        Name of each class; the label is the index.
    name
        The source's name.
    checksum
        SHA-256 of the arrays (see `checksum_of`); computed where it is left empty.

    Raises
    ------
    ValueError
        If the sets' image shapes differ, `train` is empty or a label has no class.

    Examples
    --------
    >>> one = ImageSet(images=torch.zeros(1, 1, 4, 4), labels=torch.tensor([0]))
    >>> splits = ImageSplits(train=one, validation=one, test=one, classes=("disc",), name="toy")
    >>> splits.image_shape, splits.num_classes, splits.checksum[:8]
    ((1, 4, 4), 1, '30dddb3e')
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    name: str
    checksum: str = ""

    def __post_init__(self) -> None:
        if self.train.num_images == 0:
            raise ValueError(f"the train set of {self.name!r} is empty")
        if not self.classes:
            raise ValueError(f"classes of {self.name!r} must not be empty")
        for split, image_set in self._sets():
            if image_set.images.shape[1:] != self.train.images.shape[1:]:
                raise ValueError(
                    f"{split} images have shape {tuple(image_set.images.shape[1:])} but train "
                    f"images {self.image_shape}; all must be the same"
                )
            if image_set.num_images and int(image_set.labels.max()) >= len(self.classes):
                raise ValueError(
                    f"{split} has label {int(image_set.labels.max())}, but {self.name!r} has "
                    f"{len(self.classes)} classes: labels go from 0 to {len(self.classes) - 1}"
                )
        if not self.checksum:
            object.__setattr__(
                self, "checksum", checksum_of(image_set for _, image_set in self._sets())
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: channel, y, x."""
        channel, y, x = self.train.images.shape[1:]
        return channel, y, x

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def _sets(self) -> list[tuple[str, ImageSet]]:
        """Return the three sets in the canonical order."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]


def checksum_of(image_sets: Iterable[ImageSet]) -> str:
    """Return the SHA-256 of shapes and little-endian bytes, images before labels, set by set.

    Examples
    --------
    >>> one = ImageSet(images=torch.zeros(1, 1, 4, 4), labels=torch.tensor([0]))
    >>> checksum_of([one])[:8]
    'f823cb96'
    """
    digest = hashlib.sha256()
    for image_set in image_sets:
        for tensor, dtype in ((image_set.images, "<f4"), (image_set.labels, "<i8")):
            array = tensor.detach().cpu().contiguous().numpy().astype(dtype, copy=False)
            digest.update(f"{dtype}{array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _check_tensor(argument: str, value: object, dtype: torch.dtype, num_dims: int) -> None:
    """Refuse what is not a tensor of this dtype and number of dimensions."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{argument} must be a torch tensor, not {type(value).__name__}")
    if value.dtype != dtype:
        raise ValueError(f"{argument} must be {dtype}, not {value.dtype}")
    if value.ndim != num_dims:
        raise ValueError(
            f"{argument} must have {num_dims} dimensions, not shape {tuple(value.shape)}"
        )
