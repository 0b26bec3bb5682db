"""What is different when several processes train one network (torchrun).

Each process holds the whole network and takes its share of every batch; gradients are averaged.
Between the steps all of them do the same, evaluation and measures included, and only the first one
writes. So a process waits for the others in a training step and before it reads what they write,
nowhere else.

The averaging is written out rather than left to `DistributedDataParallel`, which wants to know
beforehand which parameters have gradients, and every backward pass to be a training step: some
feedback matrices never have one, and measures go backwards too. In a loop of your own it works.
"""

import atexit
import multiprocessing
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from neurofb.feedback.shared import shared_batches
from neurofb.training.device import resolve_device

_T = TypeVar("_T")

#: what torchrun tells the processes that it starts
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """One of the processes that train together, number `rank` of `count`; usually it is alone.

    Examples
    --------
    >>> Processes().is_first
    True
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of a name as `resolve_device`; each process has a GPU of its own.

        Raises
        ------
        ValueError
            If the device is not there, there are fewer GPUs than processes, or the processes
            cannot exchange gradients that are on it.
        """
        device = resolve_device(name)
        if self.count == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise ValueError(f"device={name!r} is {device}; several processes need cpu or cuda")
        if device.index is None:
            local = os.environ.get("LOCAL_RANK", self.rank % torch.cuda.device_count())
            device = resolve_device(f"cuda:{local}")
        torch.cuda.set_device(device)
        return device

    def check_batches(self, num_images: int, batch_size: int) -> None:
        """Refuse batches that have no image for some process.

        Examples
        --------
        >>> Processes(rank=0, count=4).check_batches(num_images=9, batch_size=8)
        Traceback (most recent call last):
        ValueError: batch_size=8 leaves 1 of 9 images for an epoch's last batch; each of the 4 \
processes needs at least one
        """
        last = num_images % batch_size or batch_size
        if last < self.count:
            raise ValueError(
                f"batch_size={batch_size} leaves {last} of {num_images} images for an epoch's last "
                f"batch; each of the {self.count} processes needs at least one"
            )

    def share(self, batch: Tensor) -> Tensor:
        """Return the part of a batch that is this process's: shares differ by one at the most.

        Examples
        --------
        >>> Processes(rank=1, count=2).share(torch.arange(5))
        tensor([3, 4])
        """
        return batch if self.count == 1 else batch.tensor_split(self.count)[self.rank]

    def weigh(self, mean: Tensor, num_own: int, num_all: int) -> Tensor:
        """Weigh a mean over the own share so that the average over processes is that of the batch.

        Examples
        --------
        >>> Processes(rank=1, count=2).weigh(torch.tensor(5.0), num_own=2, num_all=5)
        tensor(4.)
        """
        return mean if num_own * self.count == num_all else mean * (num_own * self.count / num_all)

    @torch.no_grad()
    def average_gradients(self, network: nn.Module) -> None:
        """Replace gradients, those of feedback matrices too, by their averages over the processes.

        A parameter without one (a pathway of the first layer) stays without, as in one process.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(joined)
        joined /= self.count
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, joined.split(sizes), strict=True):
            gradient.copy_(part.reshape(gradient.shape))

    def backward(self) -> AbstractContextManager[None]:
        """Return the context of a backward pass."""
        return nullcontext() if self.count == 1 else shared_batches()

    def average(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return the averages of numbers over the processes."""
        if self.count == 1:
            return values
        stacked = torch.stack(values)
        distributed.all_reduce(stacked)
        return tuple(stacked / self.count)

    @torch.no_grad()
    def synchronise(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first (batch norm's running statistics)."""
        if self.count == 1:
            return
        for buffer in network.buffers():
            value = buffer.contiguous()
            distributed.broadcast(value, 0)
            buffer.copy_(value)

    def in_turn(self, action: Callable[[], _T]) -> _T:
        """Act in the first process, then in the others: for whatever looks at the disk.

        Raises
        ------
        ValueError
            In the others, if the action fails in the first one (there with its own error).

        Examples
        --------
        >>> Processes().in_turn(lambda: "loaded")
        'loaded'
        """
        if self.count == 1:
            return action()
        if not self.is_first:
            said: list[str | None] = [None]
            distributed.broadcast_object_list(said, 0)
            if said[0] is not None:
                raise ValueError(f"the first process failed: {said[0]}")
            return action()
        try:
            result = action()
        except Exception as error:
            distributed.broadcast_object_list([str(error)], 0)
            raise
        distributed.broadcast_object_list([None], 0)
        return result


def join() -> Processes:
    """Return this process's place among those that train together.

    They are those of `torch.distributed`, if that is initialised, or those that torchrun has
    started (its environment variables are set): then it is initialised here, with NCCL between GPUs
    and gloo between CPUs. Else, and in a worker of a study, a process is alone.

    Examples
    --------
    >>> join()
    Processes(rank=0, count=1)
    """
    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        is_worker = multiprocessing.parent_process() is not None
        if is_worker or not all(name in os.environ for name in _TORCHRUN):
            return Processes()
        nccl = torch.cuda.is_available() and distributed.is_nccl_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo")
        atexit.register(_leave)
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())


def _leave() -> None:
    """Say good-bye to the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
