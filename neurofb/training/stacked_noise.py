"""Dropout and noise inside `torch.func.vmap`: each network of a stack draws its own numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from neurofb.networks import GaussianNoise
from neurofb.training.device import seed_everything


class Streams:
    """The random numbers of the networks of a stack, each as if it ran alone.

    Parameters
    ----------
    device
        Where the networks are, cpu or cuda.

    Examples
    --------
    >>> streams = Streams(torch.device("cpu"))
    >>> streams.begin([3, 4])
    >>> with streams.of(0):
    ...     first = torch.rand(2)
    >>> torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(3)))
    True
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seeds: Sequence[int] = ()
        self.states: dict[int, tuple[Tensor, Tensor | None]] = {}

    def begin(self, seeds: Sequence[int]) -> None:
        """Start a step: one seed a network."""
        self.seeds, self.states = seeds, {}

    @contextmanager
    def of(self, place: int) -> Iterator[None]:
        """Inside, torch's global generators are those of one network."""
        on_gpu = self.device.type == "cuda"
        state = self.states.get(place)
        if state is None:
            seed_everything(self.device, self.seeds[place])
        else:
            torch.default_generator.set_state(state[0])
            if state[1] is not None:
                torch.cuda.set_rng_state(state[1], self.device)
        yield
        gpu_state = torch.cuda.get_rng_state(self.device) if on_gpu else None
        self.states[place] = torch.default_generator.get_state(), gpu_state


def stack_noise(skeleton: nn.Module, streams: Streams) -> bool:
    """Make a skeleton's dropout and noise draw from the networks' own streams, inside vmap.

    Whatever else draws makes `torch.func.vmap` raise.

    Returns
    -------
    bool
        Whether anything draws.

    Examples
    --------
    >>> streams = Streams(torch.device("cpu"))
    >>> stack_noise(nn.Sequential(nn.Dropout(0.5)), streams)
    True
    """
    draws = False
    for module in skeleton.modules():
        if isinstance(module, _DropoutNd | GaussianNoise):
            module.__class__ = _stacked_class(type(module))
            object.__setattr__(module, "streams", streams)
            draws |= _strength(module) > 0
    return draws


class _InVmap(torch.autograd.Function):
    """Runs the module network after network; autograd sees plain operations."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        raise RuntimeError("stacked noise is drawn inside torch.func.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Torch asks for this beside `vmap`."""

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: Sequence[int | None], h: Tensor, module: "_PerNetwork"
    ) -> tuple[Tensor, int]:
        """Return the noisy activities of all the networks."""
        dim = in_dims[0]
        parts = [h] * info.batch_size if dim is None else h.unbind(dim)
        noisy = []
        for place, part in enumerate(parts):
            with module.streams.of(place):
                noisy.append(module.plain_forward(part))
        return torch.stack(noisy), 0


class _PerNetwork(nn.Module):
    """Mixed into the class of a module that draws."""

    streams: Streams

    def plain_forward(self, h: Tensor) -> Tensor:
        """Do what the module does outside of a stack."""
        return super().forward(h)

    def forward(self, h: Tensor) -> Tensor:
        """Return the activities, noisy in training mode."""
        if not self.training or not _strength(self):
            return h
        return _InVmap.apply(h, self)


@cache
def _stacked_class(kind: type[nn.Module]) -> type[Any]:
    """Return the class of a module of the skeleton, a subclass of what it was."""
    return type(f"Stacked{kind.__name__}", (_PerNetwork, kind), {})


def _strength(module: nn.Module) -> float:
    """Return a dropout's probability or a noise's standard deviation."""
    return float(getattr(module, "p", getattr(module, "std", 0)))
