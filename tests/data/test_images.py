import dataclasses

import pytest
import torch

from neurofb.data import ImageSet, ImageSplits


def some(num_images: int = 3, size: int = 4, label: int = 0) -> ImageSet:
    return ImageSet(
        images=torch.rand(num_images, 1, size, size),
        labels=torch.full((num_images,), label),
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 4, 4), torch.zeros(2, dtype=torch.int64), "images must have 4 dimensions"),
        (torch.zeros(2, 1, 4, 4).double(), torch.zeros(2).long(), "images must be torch.float32"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), "labels must be torch.int64, not torch.float32"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3).long(), "2 images and 3 labels"),
        (torch.zeros(2, 1, 0, 4), torch.zeros(2).long(), "must not be empty"),
        (torch.full((1, 1, 2, 2), float("nan")), torch.zeros(1).long(), "NaN or infinite"),
        (torch.full((1, 1, 2, 2), float("inf")), torch.zeros(1).long(), "NaN or infinite"),
        (torch.zeros(1, 1, 2, 2), torch.tensor([-1]), "the least is -1"),
        ("photo", torch.tensor([0]), "images must be a torch tensor, not str"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_image_set_refuses(images: object, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet(images=images, labels=labels)  # pyright: ignore[reportArgumentType]


def test_splits_refuse() -> None:
    with pytest.raises(ValueError, match=r"test has label 2, but 'toy' has 2 classes: .* 0 to 1"):
        ImageSplits(
            train=some(), validation=some(), test=some(label=2), classes=("a", "b"), name="toy"
        )
    with pytest.raises(ValueError, match="validation images have shape"):
        ImageSplits(train=some(), validation=some(size=5), test=some(), classes=("a",), name="toy")
    with pytest.raises(ValueError, match="train set of 'toy' is empty"):
        ImageSplits(train=some(0), validation=some(), test=some(), classes=("a",), name="toy")
    with pytest.raises(ValueError, match="classes of 'toy'"):
        ImageSplits(train=some(), validation=some(), test=some(), classes=(), name="toy")


def test_checksum_sees_every_array_and_the_order() -> None:
    splits = ImageSplits(
        train=some(), validation=some(), test=some(), classes=("a", "b"), name="toy"
    )
    changed = []
    for split in ("train", "validation", "test"):
        before: ImageSet = getattr(splits, split)
        images, labels = before.images.clone(), before.labels.clone()
        images[-1, 0, -1, -1] += 1e-3
        labels[-1] = 1
        for after in (
            ImageSet(images=images, labels=before.labels),
            ImageSet(images=before.images, labels=labels),
        ):
            changed.append(dataclasses.replace(splits, checksum="", **{split: after}).checksum)
    swapped = dataclasses.replace(
        splits, checksum="", validation=splits.test, test=splits.validation
    )
    checksums = {splits.checksum, swapped.checksum, *changed}
    assert len(checksums) == 8
    assert dataclasses.replace(splits, checksum="").checksum == splits.checksum
