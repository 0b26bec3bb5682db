"""Normalisation of images: per image, per data set, or whitening, always fitted on train only."""

from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from neurofb.choices import check_choice

#: The settings every source offers (see `normalise`).
Normalisation = Literal["none", "image", "dataset", "whiten"]

#: Largest number of values an image may have for whitening (the covariance is its square).
MAX_WHITEN_VALUES = 8192

Images = Float32[Tensor, "_image channel y x"]


def normalise(
    train: Images, *others: Images, how: Normalisation, eps: float = 0.01
) -> tuple[Images, ...]:
    """Normalise the images of all splits with numbers taken from `train` alone.

    Parameters
    ----------
    train, *others
        Images of the train split, then of any other splits.
    how
        ``"none"``: as they are; ``"image"``: minus the image's own mean, divided by its own
        standard deviation + 0.02 (over channels and pixels); ``"dataset"``: minus the train mean,
        divided by the train standard deviation, per channel; ``"whiten"``: zero-phase (ZCA)
        whitening of the pixels (Bell & Sejnowski 1997, doi:10.1016/S0042-6989(97)00121-1).
    eps
        Whitening only: added to every eigenvalue of the covariance, as a share of their mean, so
        that the empty high frequencies are not blown up.

    Raises
    ------
    ValueError
        If `how` is unknown, `train` does not vary, or images are too large to whiten.

    Examples
    --------
    >>> (images,) = normalise(torch.rand(8, 1, 6, 6), how="image")
    >>> bool(images.mean((1, 2, 3)).abs().max() < 1e-6)
    True
    """
    check_choice("normalise", how, Normalisation)
    if how == "none":
        return train, *others
    if how == "image":
        return tuple(_per_image(images) for images in (train, *others))
    if how == "dataset":
        std, mean = torch.std_mean(train.double(), dim=(0, 2, 3), keepdim=True, correction=0)
        if not (std > 0).all():
            raise ValueError(
                "normalise='dataset': a channel has the same value in all train images"
            )
        return tuple(((images - mean) / std).float() for images in (train, *others))
    mean, matrix = _zca(train.double().flatten(1), eps)
    return tuple(
        ((images.double().flatten(1) - mean) @ matrix).float().reshape(images.shape)
        for images in (train, *others)
    )


def _per_image(images: Images) -> Images:
    """Subtract each image's mean and divide by its standard deviation + 0.02."""
    if not len(images):
        return images
    std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / (std + 0.02)


def _zca(
    values: Float64[Tensor, "image value"], eps: float
) -> tuple[Float64[Tensor, " value"], Float64[Tensor, "value value"]]:
    """Fit the mean and the symmetric whitening matrix ``(C + eps * mean eigenvalue)^(-1/2)``."""
    if values.shape[1] > MAX_WHITEN_VALUES:
        raise ValueError(
            f"normalise='whiten' takes images of at most {MAX_WHITEN_VALUES} values, "
            f"not {values.shape[1]}"
        )
    mean = values.mean(0)
    centred = values - mean
    eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / len(values))
    floor = eps * eigenvalues.mean()
    if not floor > 0:
        raise ValueError("normalise='whiten': all train images are the same")
    return mean, (vectors * (eigenvalues.clamp(min=0) + floor).rsqrt()) @ vectors.T
