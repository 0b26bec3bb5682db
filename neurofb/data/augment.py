"""Augmentation that favours no orientation: quarter turns, mirror images and small shifts."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied.

    Parameters
    ----------
    rotate
        Turn each batch by a random multiple of 90 degrees.
    flip
        Mirror each batch with probability 1/2.
    shift
        Shift each batch by up to this many pixels along x and y.
    fill
        What moves in from outside: ``"edge"`` repeats the border, ``"zero"`` is zero.

    Examples
    --------
    >>> Augmentation(shift=0)
    Augmentation(rotate=True, flip=True, shift=0, fill='edge')
    """

    rotate: bool = True
    flip: bool = True
    shift: int = 2
    fill: Literal["edge", "zero"] = "edge"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

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
    """Vary a batch: one turn, one mirroring and one shift for all its images.

    Four random numbers are drawn from `generator` (on the CPU) whichever variations are on, so
    that switching one off leaves the others as they were.

    Parameters
    ----------
    images
        A batch; it is not changed.
    generator
        The only source of randomness.
    rotate, flip, shift, fill
        See `Augmentation`.

    Raises
    ------
    ValueError
        If images to be turned are not square, or the shift is not smaller than the image.

    Examples
    --------
    >>> batch = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> generator = torch.Generator().manual_seed(0)
    >>> augment(batch, generator=generator, shift=0).sum()
    tensor(6.)
    """
    height, width = images.shape[-2:]
    if rotate and height != width:
        raise ValueError(f"rotate=True needs square images, not {height} × {width}")
    if not 0 <= shift < min(height, width):
        raise ValueError(f"shift={shift} must be from 0 to {min(height, width) - 1}")
    draws = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if rotate:
        images = images.rot90(int(4 * draws[0]), (-2, -1))
    if flip and draws[1] < 0.5:
        images = images.flip(-1)
    if shift:
        mode = "replicate" if fill == "edge" else "constant"
        padded = functional.pad(images, (shift,) * 4, mode=mode)
        top, left = (int((2 * shift + 1) * draw) for draw in draws[2:])
        images = padded[..., top : top + height, left : left + width]
    return images.contiguous()
