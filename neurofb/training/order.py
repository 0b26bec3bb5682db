"""The order of the images, and every random draw of a run, as functions of (seed, step).

Nothing here has a state, so a run that is resumed in the middle of an epoch sees exactly what an
uninterrupted one sees.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

_ORDER, _NOISE, _AUGMENTATION = range(3)


def sample_order(seed: int, epoch: int, num_images: int) -> Int64[Tensor, "image"]:
    """Return the order in which an epoch visits the images: one permutation per (seed, epoch).

    Examples
    --------
    >>> sample_order(seed=0, epoch=0, num_images=5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    generator = torch.Generator().manual_seed(_mix(seed, _ORDER, epoch))
    return torch.randperm(num_images, generator=generator)


def batch_indices(seed: int, step: int, num_images: int, batch_size: int) -> Int64[Tensor, "image"]:
    """Return the numbers of the images that a step sees.

    Examples
    --------
    >>> [len(batch_indices(0, step, num_images=5, batch_size=3)) for step in range(3)]
    [3, 2, 3]
    """
    epoch, position = divmod(step, num_batches(num_images, batch_size))
    return _recent_order(seed, epoch, num_images)[position * batch_size :][:batch_size]


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the number of batches in an epoch; the last one may be smaller."""
    return -(-num_images // batch_size)


def noise_seed(seed: int, step: int) -> int:
    """Return the seed of a step's noise and dropout."""
    return _mix(seed, _NOISE, step)


def augmentation_seed(seed: int, step: int) -> int:
    """Return the seed of a step's augmentation."""
    return _mix(seed, _AUGMENTATION, step)


_recent_order = lru_cache(maxsize=2)(sample_order)


def _mix(*numbers: int) -> int:
    """Hash small integers into a well mixed 64-bit seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
