"""Patches of natural photographs, labelled by photograph."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int64
from numpy.lib.stride_tricks import sliding_window_view

from neurofb.choices import check_choice
from neurofb.data.cache import cached
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.photographs import PHOTOGRAPHS, TILE, dealt_tiles, photograph
from neurofb.data.splits import SPLITS, assemble, check_sizes, image_set


@dataclass(frozen=True, kw_only=True)
class NaturalPatches:
    """Grey patches of photographs; the label is the photograph.

    Train, validation and test come from disjoint tiles of every photograph, so they share no
    pixel; within a tile patches overlap. The task is texture more than object recognition.

    Parameters
    ----------
    source
        Tag of this source.
    num_train, num_validation, num_test
        Number of patches, dealt evenly to the photographs.
    seed
        Seed of the tiles' dealing and of the patches' places.
    patch_size
        Side of the patches (pixels).
    stride
        Grid on which patches are placed (pixels).
    min_contrast
        Patches with a smaller standard deviation (grey, of [0, 1]) are left out.
    photographs
        Names out of `PHOTOGRAPHS`; china and flower need scikit-learn.
    normalise
        See `normalise`; ``"image"`` removes the cue of brightness and contrast.

    Examples
    --------
    >>> patches = NaturalPatches(num_train=8, num_validation=2, num_test=2,
    ...                          photographs=("camera", "brick"))
    >>> patches.load().classes
    ('camera', 'brick')
    """

    source: Literal["natural"] = "natural"
    num_train: int = 20_000
    num_validation: int = 2_000
    num_test: int = 2_000
    seed: int = 1
    patch_size: int = 24
    stride: int = 4
    min_contrast: float = 4 / 255
    photographs: tuple[str, ...] = PHOTOGRAPHS
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        check_sizes(
            self.seed,
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
        )
        if not 4 <= self.patch_size <= TILE:
            raise ValueError(f"patch_size={self.patch_size} must be from 4 to {TILE}")
        if self.stride < 1:
            raise ValueError(f"stride={self.stride} must be at least 1")
        if not 0 <= self.min_contrast < 0.5:
            raise ValueError(f"min_contrast={self.min_contrast} must be in [0, 0.5)")
        if not self.photographs or len(set(self.photographs)) < len(self.photographs):
            raise ValueError(f"photographs={self.photographs!r} must be distinct, at least one")
        for name in self.photographs:
            if name not in PHOTOGRAPHS:
                raise ValueError(
                    f"photographs names {name!r}, which is not one of {', '.join(PHOTOGRAPHS)}"
                )
        check_choice("normalise", self.normalise, Normalisation)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Cut the patches, or read them from the folder `cache` if they were cut before.

        Raises
        ------
        ValueError
            If a package that carries a photograph is missing, or a photograph has too few patches
            of enough contrast.
        """
        settings = asdict(self)
        del settings["normalise"]
        splits = cached(settings, self._build, cache)
        return assemble(
            name=splits.name,
            classes=splits.classes,
            normalisation=self.normalise,
            train=splits.train,
            validation=splits.validation,
            test=splits.test,
        )

    def _build(self) -> ImageSplits:
        """Cut all patches, before normalisation."""
        return ImageSplits(
            name="natural patches",
            classes=self.photographs,
            train=self._cut_set(0, self.num_train),
            validation=self._cut_set(1, self.num_validation),
            test=self._cut_set(2, self.num_test),
        )

    def _cut_set(self, split: int, num_patches: int) -> ImageSet:
        """Cut the patches of one split, evenly from the photographs, in random order."""
        patches, labels = [], []
        share, rest = divmod(num_patches, len(self.photographs))
        for label, name in enumerate(self.photographs):
            wanted = share + (label < rest)
            stream = np.random.SeedSequence(self.seed, spawn_key=(split, PHOTOGRAPHS.index(name)))
            places = self._places(name, split)
            if len(places) < wanted:
                raise ValueError(
                    f"num_{SPLITS[split]}={num_patches} is too many: {name!r} has "
                    f"{len(places)} patches for this split, {wanted} are wanted; take fewer, a "
                    f"smaller stride (now {self.stride}) or min_contrast"
                )
            chosen = np.random.default_rng(stream).permutation(len(places))[:wanted]
            windows = sliding_window_view(photograph(name), (self.patch_size, self.patch_size))
            patches.append(windows[places[chosen, 0], places[chosen, 1]])
            labels.append(np.full(wanted, label))
        order_stream = np.random.SeedSequence(self.seed, spawn_key=(split, 1000))
        order = np.random.default_rng(order_stream).permutation(num_patches)
        return image_set(np.concatenate(patches)[order, None], np.concatenate(labels)[order])

    def _places(self, name: str, split: int) -> Int64[np.ndarray, "patch 2"]:
        """Return the corners (y, x) of all patches of enough contrast in a split's tiles."""
        std = _window_std(photograph(name), self.patch_size)
        places = []
        for top, bottom, left, right in dealt_tiles(name, self.seed)[split]:
            corners = np.mgrid[
                top : bottom - self.patch_size + 1 : self.stride,
                left : right - self.patch_size + 1 : self.stride,
            ]
            places.append(corners.reshape(2, -1).T)
        corners = np.concatenate(places).astype(np.int64)
        return corners[std[corners[:, 0], corners[:, 1]] >= self.min_contrast]


def _window_std(
    grey: Float32[np.ndarray, "y x"], size: int
) -> Float32[np.ndarray, "corner_y corner_x"]:
    """Return the standard deviation of every window of `size` pixels, by summed areas."""

    def window_mean(values: np.ndarray) -> np.ndarray:
        area = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        inside = area[size:, size:] - area[:-size, size:] - area[size:, :-size]
        return (inside + area[:-size, :-size]) / size**2

    centred = grey.astype(np.float64) - grey.mean()
    variance = window_mean(centred**2) - window_mean(centred) ** 2
    return np.sqrt(np.maximum(variance, 0)).astype(np.float32)
