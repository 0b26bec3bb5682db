"""Simple shapes that occlude a dead-leaves background: the default data for receptive fields."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32

from neurofb.choices import check_choice
from neurofb.data.cache import cached
from neurofb.data.figures import FIGURES
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.photographs import TILE, random_cuts
from neurofb.data.splits import assemble

#: Images made from one random stream; the first images do not depend on how many follow.
CHUNK = 250

Pictures = Float32[np.ndarray, "image y x"]


@dataclass(frozen=True, kw_only=True)
class ShapesOnLeaves:
    """Ten shapes of random orientation and polarity on dead leaves; the label is the shape.

    A dead-leaves model (occluding discs and rectangles, radius density r^-3; Lee, Mumford & Huang
    2001, doi:10.1023/A:1011109015675) has the edges and the scaling of natural images. Here the
    leaves are few and of low contrast; one figure lies on top, and 1/f texture on everything.
    Grey values are about 0.5; only ``normalise="none"`` clips them to [0, 1].

    Parameters
    ----------
    source
        Tag of this source.
    num_train, num_validation, num_test
        Number of images; each split has random streams of its own, so that none depends on the
        size of another.
    seed
        Seed of all images.
    image_size
        Side of the images (pixels).
    background
        ``"leaves"``, or ``"photographs"``: cut from those of `NaturalPatches` (needs
        scikit-learn), from disjoint tiles for the three splits; the figure is made the same way.
    num_leaves, leaf_radius, leaf_contrast
        Leaves an image, range of their radius (pixels), and width of the range of their grey
        values around 0.5. The ground below them varies over 0.8 of that width.
    texture
        Standard deviation of the 1/f texture (grey).
    figure_size
        Range of the figure's radius as a share of `image_size`.
    jitter
        Largest shift of the figure from the centre, along x and y, as a share of `image_size`.
    figure_contrast
        Range of the figure's difference from the mean of its background (grey), of either sign.
    normalise
        See `normalise`; the recipe's is ``"image"``.

    Examples
    --------
    >>> splits = ShapesOnLeaves(num_train=20, num_validation=0, num_test=10).load()
    >>> splits.image_shape, splits.classes[0]
    ((1, 24, 24), 'disc')
    """

    source: Literal["shapes"] = "shapes"
    num_train: int = 20_000
    num_validation: int = 2_000
    num_test: int = 2_000
    seed: int = 1
    image_size: int = 24
    background: Literal["leaves", "photographs"] = "leaves"
    num_leaves: int = 8
    leaf_radius: tuple[float, float] = (1.5, 12.0)
    leaf_contrast: float = 0.4
    texture: float = 0.06
    figure_size: tuple[float, float] = (0.30, 0.45)
    jitter: float = 0.12
    figure_contrast: tuple[float, float] = (0.35, 0.7)
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, least in (
            ("num_train", 1),
            ("num_validation", 0),
            ("num_test", 0),
            ("seed", 0),
            ("image_size", 8),
            ("num_leaves", 0),
            ("leaf_contrast", 0),
            ("texture", 0),
            ("jitter", 0),
        ):
            if not least <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be at least {least} and finite"
                )
        for name in ("leaf_radius", "figure_size", "figure_contrast"):
            low, high = getattr(self, name)
            if not 0 < low <= high < float("inf"):
                raise ValueError(f"{name}={(low, high)!r} must be 0 < least <= greatest, finite")
        if self.background not in ("leaves", "photographs"):
            raise ValueError(f"background={self.background!r} must be 'leaves' or 'photographs'")
        if self.background == "photographs" and self.image_size > TILE:
            raise ValueError(f"image_size={self.image_size} must be at most {TILE} on photographs")
        check_choice("normalise", self.normalise, Normalisation)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Make the images, or read them from the folder `cache` if they were made before.

        Raises
        ------
        ValueError
            If photographs are asked for and scikit-learn is missing.
        """
        settings = asdict(self)
        settings.pop("normalise")
        how = self.normalise
        splits = cached(settings, self._build, cache)
        sets = [splits.train, splits.validation, splits.test]
        if how == "none":
            sets = [ImageSet(images=one.images.clamp(0, 1), labels=one.labels) for one in sets]
        return assemble(
            name=splits.name,
            classes=splits.classes,
            normalisation=how,
            train=sets[0],
            validation=sets[1],
            test=sets[2],
        )

    def _build(self) -> ImageSplits:
        """Make all images, before normalisation."""
        return ImageSplits(
            name=f"shapes on {self.background}",
            classes=tuple(FIGURES),
            train=self._make_set(0, self.num_train),
            validation=self._make_set(1, self.num_validation),
            test=self._make_set(2, self.num_test),
        )

    def _make_set(self, split: int, num_images: int) -> ImageSet:
        """Make the images of one split, chunk by chunk, each chunk from its own stream."""
        size = self.image_size
        images = np.empty((num_images, 1, size, size), np.float32)
        labels = np.empty(num_images, np.int64)
        for chunk, start in enumerate(range(0, num_images, CHUNK)):
            stream = np.random.SeedSequence(self.seed, spawn_key=(split, chunk))
            rng = np.random.default_rng(stream)
            stop = min(start + CHUNK, num_images)
            made, shapes = self._make_chunk(rng, split)
            images[start:stop, 0] = made[: stop - start]
            labels[start:stop] = shapes[: stop - start]
        return ImageSet(images=torch.from_numpy(images), labels=torch.from_numpy(labels))

    def _make_chunk(self, rng: np.random.Generator, split: int) -> tuple[Pictures, np.ndarray]:
        """Make `CHUNK` images: background, figure on top, texture on all."""
        if self.background == "leaves":
            pictures = self._leaves(rng)
        else:
            pictures = random_cuts(rng, CHUNK, split=split, size=self.image_size, seed=self.seed)
        labels = rng.permutation(np.arange(CHUNK) % len(FIGURES))
        _paint(pictures, self._figure_coverage(rng, labels), self._figure_grey(rng, pictures))
        if self.texture > 0:
            pictures += self.texture * _pink_noise(rng, self.image_size)
        return pictures, labels

    def _leaves(self, rng: np.random.Generator) -> Pictures:
        """Lay leaves over a ground of one grey, the later over the earlier."""
        size, spread = self.image_size, self.leaf_contrast
        ground = 0.5 + 0.8 * spread * (rng.random(CHUNK, np.float32) - 0.5)
        pictures = np.repeat(ground, size * size).reshape(CHUNK, size, size).astype(np.float32)
        small, large = (radius**-2.0 for radius in self.leaf_radius)
        for _ in range(self.num_leaves):
            radius = ((small - rng.random(CHUNK) * (small - large)) ** -0.5).astype(np.float32)
            aspect = 0.5 + 0.5 * rng.random(CHUNK, np.float32)
            centre = rng.random((2, CHUNK), np.float32) * size
            angle = rng.random(CHUNK, np.float32) * np.float32(2 * np.pi)
            u, v = _rotated_grid(size, centre, angle)
            is_ellipse = rng.random(CHUNK) < 0.5
            distance = np.empty_like(u)
            for kind, measure in ((is_ellipse, _ellipse), (~is_ellipse, _rectangle)):
                a = radius[kind, None, None]
                distance[kind] = measure(u[kind], v[kind], a, a * aspect[kind, None, None])
            grey = 0.5 + spread * (rng.random(CHUNK, np.float32) - 0.5)
            _paint(pictures, _coverage(distance), grey)
        return pictures

    def _figure_coverage(self, rng: np.random.Generator, labels: np.ndarray) -> Pictures:
        """Return the share of every pixel that the figure covers."""
        size = self.image_size
        radius = (rng.uniform(*self.figure_size, CHUNK) * size).astype(np.float32)[:, None, None]
        shift = rng.uniform(-self.jitter, self.jitter, (2, CHUNK)) * size
        angle = (rng.random(CHUNK) * 2 * np.pi).astype(np.float32)
        u, v = _rotated_grid(size, (size / 2 + shift).astype(np.float32), angle)
        distance = np.empty_like(u)
        for label, figure in enumerate(FIGURES.values()):
            chosen = labels == label
            r = radius[chosen]
            distance[chosen] = r * figure(u[chosen] / r, v[chosen] / r)
        return _coverage(distance)

    def _figure_grey(
        self, rng: np.random.Generator, pictures: Pictures
    ) -> Float32[np.ndarray, " image"]:
        """Return a grey above or below the mean of each background."""
        contrast = rng.uniform(*self.figure_contrast, CHUNK) * rng.choice([-1.0, 1.0], CHUNK)
        return (pictures.mean((1, 2)) + contrast).astype(np.float32)


def _rotated_grid(
    size: int, centre: Float32[np.ndarray, "2 image"], angle: Float32[np.ndarray, " image"]
) -> tuple[Pictures, Pictures]:
    """Return pixel centres relative to `centre` (x, y) in axes turned by `angle` (radian)."""
    grid = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x = grid[None, None, :] - centre[0][:, None, None]
    y = grid[None, :, None] - centre[1][:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cos * x + sin * y, cos * y - sin * x


def _ellipse(u: Pictures, v: Pictures, a: np.ndarray, b: np.ndarray) -> Pictures:
    """Return the distance from an ellipse's edge (pixels), exact to first order at the edge."""
    level = np.hypot(u / a, v / b)
    slope = np.hypot(u / a**2, v / b**2)
    return level * (level - 1) / np.maximum(slope, np.float32(1e-6))


def _rectangle(u: Pictures, v: Pictures, a: np.ndarray, b: np.ndarray) -> Pictures:
    """Return the distance from a rectangle's edge (pixels), exact at the edge."""
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def _coverage(distance: Pictures) -> Pictures:
    """Return an edge antialiased over one pixel."""
    return np.clip(np.float32(0.5) - distance, 0, 1)


def _paint(pictures: Pictures, coverage: Pictures, grey: Float32[np.ndarray, " image"]) -> None:
    """Paint one grey an image over `pictures`, in place."""
    pictures += coverage * (grey[:, None, None] - pictures)


def _pink_noise(rng: np.random.Generator, size: int) -> Pictures:
    """Return noise with amplitude 1/f, mean 0 and standard deviation 1 in every image."""
    spectrum = np.fft.rfft2(rng.standard_normal((CHUNK, size, size), np.float32))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency, (size, size))
    return (noise / noise.std((1, 2), keepdims=True)).astype(np.float32)
