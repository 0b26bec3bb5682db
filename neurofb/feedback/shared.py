"""Batch statistics that the processes of a distributed training share.

Every process sees its share of the batch, and the gradients are averaged afterwards. That is right
for whatever is a mean or a sum over the batch. Oja's rule is not: it divides by a variance, and
without that it is quadratic in the error.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

#: the process groups of the `shared_batches` that are entered; usually none
_groups: list[Any] = []


@contextmanager
def shared_batches(group: Any = None) -> Iterator[None]:
    """Inside, `Oja` and `Subspace` learn from the batch of all processes, not from the own share.

    For the backward pass of a distributed training whose gradients are averaged over processes
    (`torch.nn.parallel.DistributedDataParallel`) and whose loss is a mean over the share. All other
    rules need nothing. `neurofb.training.train` does it; in a loop of your own write
    ``with shared_batches(): loss.backward()`` in all the processes, or in none.

    Parameters
    ----------
    group
        A process group of `torch.distributed`; None is the group of all processes.

    Raises
    ------
    ValueError
        If `torch.distributed` has not been initialised.

    Notes
    -----
    Each pathway then waits for the others once a pass, for a few numbers: for n channels and rank r
    about n·(r + 2) + r² of them.

    Examples
    --------
    >>> with shared_batches():
    ...     pass
    Traceback (most recent call last):
    ValueError: shared_batches needs torch.distributed.init_process_group
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        raise ValueError("shared_batches needs torch.distributed.init_process_group")
    _groups.append(group)
    try:
        yield
    finally:
        _groups.pop()


def num_processes() -> int:
    """Return how many processes share the batch: 1 outside of `shared_batches`.

    Examples
    --------
    >>> num_processes()
    1
    """
    if not _groups:
        return 1
    from torch import distributed

    return distributed.get_world_size(_groups[-1])


def means_of_all(means: Sequence[Tensor], num_rows: int) -> Sequence[Tensor]:
    """Return the means over the rows of all processes, given those over the own rows.

    Outside of `shared_batches` they are returned as they are.

    Parameters
    ----------
    means
        Tensors of one dtype and device, of the same shapes in every process.
    num_rows
        Number of rows that they are means of; it may differ between processes, and may be 0.

    Examples
    --------
    >>> means_of_all([torch.ones(2)], num_rows=3)
    [tensor([1., 1.])]
    """
    if not _groups:
        return means
    from torch import distributed

    count = means[0].new_full((1,), num_rows)
    sums = torch.cat([*(mean.flatten() * num_rows for mean in means), count])
    distributed.all_reduce(sums, group=_groups[-1])
    parts = (sums[:-1] / sums[-1].clamp(min=1)).split([mean.numel() for mean in means])
    return [part.reshape(mean.shape) for part, mean in zip(parts, means, strict=True)]
