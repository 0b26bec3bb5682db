"""The batches of several networks at once, each in the order and augmentation of its own seed."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurofb.data.augment import Augmentation, augment
from neurofb.data.images import ImageSet
from neurofb.training.order import augmentation_seed, num_batches, sample_order


class StackedBatches:
    """What the steps of a run see, for each of several seeds.

    A batch's augmentation moves pixels, for all its images alike. So `augment` is asked once where
    each pixel of a variation comes from, and the batches of all seeds are gathered together.

    Parameters
    ----------
    images
        The training images, on the device.
    seeds
        One a network.
    batch_size, augmentation
        As in `neurofb.training.TrainingConfig`.

    Examples
    --------
    >>> images = ImageSet(images=torch.rand(5, 1, 4, 4), labels=torch.arange(5))
    >>> batches = StackedBatches(images, (0, 1, 2), batch_size=2, augmentation=Augmentation())
    >>> batches.at(0, batches.indices(0))[0].shape
    torch.Size([3, 2, 1, 4, 4])
    """

    def __init__(
        self,
        images: ImageSet,
        seeds: Sequence[int],
        *,
        batch_size: int,
        augmentation: Augmentation,
    ) -> None:
        self.images, self.seeds, self.batch_size = images, seeds, batch_size
        self.augmentation, self.variation = augmentation, asdict(augmentation)
        self.steps_per_epoch = num_batches(images.num_images, batch_size)
        self.epoch: int | None = None
        self.orders = torch.empty(0)
        self.generator = torch.Generator()
        height, width = images.images.shape[-2:]
        #: pixel numbers from 1; what moves in from outside as zero is 0
        self.numbers = torch.arange(1, height * width + 1, dtype=torch.float64)
        self.numbers = self.numbers.view(1, 1, height, width)
        self.maps: dict[tuple[int, ...], Tensor] = {}

    def indices(self, step: int) -> Int64[Tensor, "network image"]:
        """Return the numbers of the images that a step sees, as `batch_indices` for each seed."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self.epoch:
            num_images = self.images.num_images
            self.orders = torch.stack([sample_order(s, epoch, num_images) for s in self.seeds])
            self.epoch = epoch
        return self.orders[:, position * self.batch_size :][:, : self.batch_size]

    def at(
        self, step: int, indices: Int64[Tensor, "network image"]
    ) -> tuple[Float[Tensor, "network image channel y x"], Int64[Tensor, "network image"]]:
        """Return the augmented images and the labels of a step."""
        device, varied = self.images.labels.device, self.augmentation
        chosen = indices.flatten().to(device)
        images = self.images.images.index_select(0, chosen).unflatten(0, indices.shape)
        labels = self.images.labels.index_select(0, chosen).view(indices.shape)
        if varied.rotate or varied.flip or varied.shift:
            sources = torch.stack([self._sources(step, seed) for seed in self.seeds])
            images = self._move(images, sources[:, None].to(device))
        return images, labels

    def _move(self, images: Tensor, sources: Int64[Tensor, "network 1 pixel"]) -> Tensor:
        """Take each pixel from where it comes from."""
        flat = images.flatten(3).flatten(1, 2)  # network, image·channel, pixel
        moved = flat.gather(2, (sources - 1).clamp(min=0).expand_as(flat))
        if self.augmentation.fill == "zero":
            moved = moved.masked_fill(sources == 0, 0)
        return moved.view(images.shape)

    def _sources(self, step: int, seed: int) -> Int64[Tensor, " pixel"]:
        """Return the number of the pixel that each pixel of a seed's batch comes from."""
        number = augmentation_seed(seed, step)
        draws = torch.rand(4, generator=self.generator.manual_seed(number), dtype=torch.float64)
        turn, mirror, down, right = draws.tolist()
        size = 2 * self.augmentation.shift + 1
        variation = int(4 * turn), int(2 * mirror), int(size * down), int(size * right)
        if variation not in self.maps:
            self.generator.manual_seed(number)
            numbers = augment(self.numbers, generator=self.generator, **self.variation)
            self.maps[variation] = numbers.flatten().long()
        return self.maps[variation]
