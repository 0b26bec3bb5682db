"""Sweeps of approximate message passing over the axes of a tensor, in turn or at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from neurofb.tensors.gauge import change_of_scales, scale_response, settled_scales
from neurofb.tensors.onsager import (
    AxisMemory,
    elementwise_product,
    gram,
    onsager_term,
    precision_of,
)
from neurofb.tensors.problem import geometric_mean, signal_scale
from neurofb.tensors.products import SharedProducts
from neurofb.tensors.protocol import LEARNABLE, Prior


@dataclass(frozen=True)
class SweepSettings:
    """How sweeps are made: see `TensorAMP`."""

    sequential: bool = True
    damping: float = 0.0
    settle_scales: bool = True
    learn: frozenset[str] = frozenset()
    max_sweeps: int = 200
    tolerance: float = 1e-6


@dataclass
class Sweeps:
    """Estimates of all axes and how they came about.

    Parameters
    ----------
    tensor
        Contiguous, finite.
    mean_square
        Mean of its squared entries.
    factors
        Where to start (row, component).
    priors
        One per axis.
    noise_variance
        Δ.
    settings
        See `SweepSettings`.
    """

    tensor: Tensor
    mean_square: float
    factors: list[Tensor]
    priors: list[Prior]
    noise_variance: float
    settings: SweepSettings
    covariances: list[Tensor] = field(init=False)
    change: list[float] = field(init=False, default_factory=list)
    residual: float = field(init=False, default=float("nan"))
    converged: bool = field(init=False, default=False)
    diverged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        rank = self.factors[0].shape[1]
        self.size = geometric_mean(self.tensor.shape)
        self.scale = signal_scale(self.tensor.shape)
        self.products = SharedProducts(self.tensor)
        self.covariances = [torch.zeros(rank, rank).to(factor) for factor in self.factors]
        self._memories = [AxisMemory() for _ in self.factors]
        self._data = [(torch.empty(0), torch.empty(0)) for _ in self.factors]
        second_moments = [prior.second_moment_of(rank) for prior in self.priors]
        self._lengths = [float(each.trace()) ** 0.5 or 1.0 for each in second_moments]

    def run(self, watch: Callable[["Sweeps"], None] = lambda sweeps: None) -> "Sweeps":
        """Sweep until no factor changes, something diverges, or the sweeps are used up."""
        for _ in range(self.settings.max_sweeps):
            before = (self.factors, self.covariances, self._memories, self.residual)
            self._sweep()
            squares = [
                (new - old).double().square().sum(1).mean().sqrt() / length
                for new, old, length in zip(self.factors, before[0], self._lengths, strict=True)
            ]
            self.change.append(float(torch.stack(squares).max()))
            if not self.change[-1] < 1e6:  # also nan
                self.factors, self.covariances, self._memories, self.residual = before
                self.diverged = True
                break
            watch(self)
            if self.change[-1] < self.settings.tolerance:
                self.converged = True
                break
            if len(self.change) == self.settings.max_sweeps:
                break  # what is kept and recorded is what a sweep has left
            if self.settings.settle_scales and not self.settings.learn & set(LEARNABLE):
                self._settle(before[0])
        return self

    def _sweep(self) -> None:
        """Update every axis once, and what is learnt."""
        old = list(self.factors)
        new = (list(self.factors), list(self.covariances), list(self._memories), list(self.priors))
        if self.settings.sequential:
            self.factors, self.covariances, self._memories, self.priors = new
        product = [self._update(axis, *new) for axis in range(len(old))][-1]
        # the last product is that of all other factors as they now are, or as they were
        at = self.factors if self.settings.sequential else old
        inner = float((at[-1].double() * product.double()).sum()) * self.scale
        self.residual = self._residual(at, self.covariances, inner)
        self.factors, self.covariances, self._memories, self.priors = new
        if "noise_variance" in self.settings.learn:
            # from a bad start the residual may be above the data, which noise cannot be
            learnt = min(self.residual, self.mean_square)
            self.noise_variance = max(learnt, 1e-12 * self.mean_square)

    def _update(
        self,
        axis: int,
        factors: list[Tensor],
        covariances: list[Tensor],
        memories: list[AxisMemory],
        priors: list[Prior],
    ) -> Tensor:
        """Write the update of an axis, made of `self.factors`, and return its product."""
        used, prior, damping = list(self.factors), self.priors[axis], self.settings.damping
        product = self.products(used, axis)
        precision = precision_of(used, axis, self.noise_variance, self.size)
        data = product * (self.scale / self.noise_variance)
        reaction = onsager_term(used, self._memories, axis)
        if reaction is not None:
            data = data - reaction / self.noise_variance
        self._data[axis] = precision, data
        mean, covariance = prior.denoise(precision, data)
        covariances[axis] = covariance
        each_row = covariance if covariance.ndim == 2 else covariance.mean(0)
        spread = each_row.double() * (len(mean) / self.size)
        if damping and self._memories[axis].used:
            mean = (1 - damping) * mean + damping * used[axis]
            spread = (1 - damping) * spread + damping * self._memories[axis].spread
        factors[axis] = mean
        memories[axis] = AxisMemory(used, spread)
        names = self.settings.learn & set(getattr(prior, "learnable", ()))
        if names:
            priors[axis] = prior.learn(precision, data, names)  # pyright: ignore
        return product

    def _settle(self, old: Sequence[Tensor]) -> None:
        """Move scales between axes, in all that is remembered: the tensor stays as it is."""
        change = change_of_scales(old, self.factors)
        if change is None:
            return
        responses = np.stack(
            [scale_response(prior, *d) for prior, d in zip(self.priors, self._data, strict=True)]
        )
        how = self.settings
        found = settled_scales(change, responses, sequential=how.sequential, damping=how.damping)
        if found is None:
            return
        scales = torch.from_numpy(found)
        self.factors = [f * s.to(f) for f, s in zip(self.factors, scales, strict=True)]
        squares = [torch.outer(s, s) for s in scales]
        self.covariances = [c * s.to(c) for c, s in zip(self.covariances, squares, strict=True)]
        for memory, square in zip(self._memories, squares, strict=True):
            memory.spread = memory.spread * square.to(memory.spread)
            memory.used = [f * s.to(f) for f, s in zip(memory.used, scales, strict=True)]

    def _residual(
        self, factors: Sequence[Tensor], covariances: Sequence[Tensor], inner: float
    ) -> float:
        """Return the mean of an entry's squared residual under independent rows of all axes."""
        moments = []
        for factor, covariance in zip(factors, covariances, strict=True):
            rows = covariance * len(factor) if covariance.ndim == 2 else covariance.sum(0)
            moments.append(gram(factor, factor, 1.0) + rows.double())
        square = float(elementwise_product(moments).sum()) * self.scale**2
        return self.mean_square + (square - 2 * inner) / prod(self.tensor.shape)
