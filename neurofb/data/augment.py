"""Augmentation: rotations by right angles, flips and shifts, from a generator."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Which augmentations training images undergo; the defaults favour no orientation.

    Parameters
    ----------
    rotate
        Rotate by a multiple of 90 degrees, one for the batch.
    flip
        Mirror left and right, each image with probability ½.
    shift
        Largest shift along y and along x (pixels), one for the batch.
    fill
        What comes in at the border: the "edge" pixels or "zero".

    Raises
    ------
    ValueError
        If the shift is negative or `fill` is unknown.

    Examples
    --------
    >>> Augmentation(shift=3).rotate
    True
    """

    rotate: bool = True
    flip: bool = True
    shift: int = 2
    fill: Literal["edge", "zero"] = "edge"

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift={self.shift} must be at least 0")
        if self.fill not in ("edge", "zero"):
            raise ValueError(f"fill={self.fill!r} must be 'edge' or 'zero'")


def augment(
    images: Float[Tensor, "image channel y x"],
    *,
    generator: torch.Generator,
    rotate: bool = True,
    flip: bool = True,
    shift: int = 2,
    fill: Literal["edge", "zero"] = "edge",
) -> Float[Tensor, "image channel y x"]:
    """Return augmented images; the argument is left as it was.

    Parameters
    ----------
    images
        Square images, if they are to be rotated.
    generator
        On the CPU; the same draws whatever is switched on.
    rotate, flip, shift, fill
        See `Augmentation`.

    Raises
    ------
    ValueError
        If images to be rotated are not square.

    Examples
    --------
    >>> augment(torch.zeros(2, 1, 4, 4), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 4, 4])
    """
    turns = int(torch.randint(4, (), generator=generator))
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    dy, dx = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
    if rotate:
        if images.shape[2] != images.shape[3]:
            raise ValueError(f"rotate=True needs square images, not {tuple(images.shape[2:])}")
        images = images.rot90(turns, (2, 3))
    if flip:
        mirror = mirrored.to(images.device)[:, None, None, None]
        images = torch.where(mirror, images.flip(3), images)
    if shift:
        height, width = images.shape[2:]
        mode = "replicate" if fill == "edge" else "constant"
        padded = functional.pad(images, (shift, shift, shift, shift), mode=mode)
        images = padded[:, :, shift + dy : shift + dy + height, shift + dx : shift + dx + width]
    return images
