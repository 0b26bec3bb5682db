"""Planted problem: a low-rank tensor of factors drawn from their priors, under noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurofb.tensors.products import outer_sum
from neurofb.tensors.protocol import Prior, check_rank

_NOISE = 1000  # stream of the noise; those of the factors are the numbers of their axes
_SLAB_ENTRIES = 2**21  # noise is drawn in slabs, so that a large tensor needs no memory beside it


class PlantedTensor(NamedTuple):
    """A noisy tensor, the factors (row, component) behind it, and its noise variance."""

    tensor: Tensor
    factors: tuple[Tensor, ...]
    noise_variance: float


@dataclass(frozen=True)
class TensorProblem:
    """``Y = N^(-(p-1)/2) Σ x₁∘…∘x_p + √Δ noise``, N the geometric mean of the p sides.

    An entry's signal-to-noise ratio vanishes with size while the tensor's is of order 1. (Low rank,
    any shape and a prior per axis are those of arXiv:1810.10065; the normalisation is our choice.)

    Parameters
    ----------
    shape
        Sides of the tensor, at least two.
    priors
        One for all axes, or one per axis.
    noise_variance
        Δ, at least 0.
    rank
        Number of components.

    Raises
    ------
    ValueError
        If the shape has less than two sides or one below 1, priors are not as many as sides, a
        prior has not that rank, or the noise variance is negative.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> problem = TensorProblem((4, 5, 6), GaussianPrior(mean=0.5), noise_variance=0.1)
    >>> tensor, factors, _ = problem.sample(seed=0)
    >>> tensor.shape, [tuple(factor.shape) for factor in factors]
    (torch.Size([4, 5, 6]), [(4, 1), (5, 1), (6, 1)])
    """

    shape: Sequence[int]
    priors: Prior | Sequence[Prior]
    noise_variance: float | int
    rank: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        whole = all(isinstance(side, int | np.integer) for side in self.shape)
        if len(self.shape) < 2 or not whole or min(self.shape) < 1:
            raise ValueError(
                f"shape={self.shape} must have at least two sides, each at least 1 and whole"
            )
        object.__setattr__(self, "priors", priors_of_axes(self.priors, len(self.shape), self.rank))
        check_number("noise_variance", self.noise_variance)

    def sample(
        self,
        seed: int,
        *,
        standardise: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> PlantedTensor:
        """Draw factors and noise, each from a stream of its own.

        The same seed gives the same numbers, up to rounding, on every device and in every dtype;
        the first factors of a larger problem differ from those of a smaller one.

        Parameters
        ----------
        seed
            Of factors and noise.
        standardise
            Give the factors the mean and covariance of their priors exactly, which removes most of
            the scatter of small tensors near a transition.
        dtype, device
            Of tensor and factors; a floating dtype.

        Raises
        ------
        ValueError
            If the seed is negative, or the dtype would round noise to whole numbers.
        """
        factors = self.factors(seed, standardise=standardise)
        tensor = self._noise(seed, dtype, device)
        factors = tuple(factor.to(device, dtype) for factor in factors)
        outer_sum(factors, scale=signal_scale(self.shape), into=tensor)
        return PlantedTensor(tensor, factors, float(self.noise_variance))

    def factors(self, seed: int, *, standardise: bool = False) -> tuple[Tensor, ...]:
        """Draw the factors alone, in float64: those that `sample` plants."""
        check_seed(seed)
        drawn = []
        for axis, (prior, num_rows) in enumerate(zip(self._priors, self.shape, strict=True)):
            generator = np.random.default_rng((seed, axis))
            factor = prior.sample(num_rows, self.rank, generator)
            if standardise:
                if not hasattr(prior, "standardise"):
                    raise ValueError(
                        f"standardise=True needs priors with a method standardise(factor); "
                        f"{type(prior).__name__} has none"
                    )
                factor = prior.standardise(factor)  # pyright: ignore[reportAttributeAccessIssue]
            drawn.append(factor)
        return tuple(drawn)

    def noise_only(
        self,
        seed: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Return the noise that `sample` adds, and nothing else: the null of a decomposition."""
        return self._noise(seed, dtype, device)

    @property
    def _priors(self) -> tuple[Prior, ...]:
        """Return the prior of each axis."""
        return priors_of_axes(self.priors, len(self.shape), self.rank)

    def _noise(self, seed: int, dtype: torch.dtype, device: str | torch.device) -> Tensor:
        """Draw the noise slab by slab; numpy's stream does not depend on how it is cut."""
        check_seed(seed)
        if not dtype.is_floating_point:
            raise ValueError(f"dtype={dtype} must be floating: noise is no whole number")
        generator = np.random.default_rng((seed, _NOISE))
        noise = torch.empty(prod(self.shape), dtype=dtype, device=device)
        for slab in noise.split(_SLAB_ENTRIES):
            drawn = generator.standard_normal(len(slab))
            drawn *= sqrt(self.noise_variance)
            slab.copy_(torch.from_numpy(drawn))
        return noise.view(*self.shape)


def priors_of_axes(priors: Prior | Sequence[Prior], num_axes: int, rank: int) -> tuple[Prior, ...]:
    """Return one prior per axis, each fit for the rank.

    Raises
    ------
    ValueError
        If there are not as many as axes, one is no prior, or its largest rank is below the rank.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> len(priors_of_axes(GaussianPrior(), num_axes=3, rank=2))
    3
    """
    check_priors(priors)
    listed = tuple(priors) if isinstance(priors, Sequence) else (priors,) * num_axes
    if len(listed) != num_axes:
        raise ValueError(f"priors: {len(listed)} are given for a tensor of {num_axes} axes")
    for prior in listed:
        check_rank(prior, rank)
        prior.mean_of(rank)  # parameters of another number of components
    return listed


def check_priors(priors: object) -> None:
    """Refuse what is neither a prior nor a list of priors.

    Raises
    ------
    ValueError
        With what is no prior.

    Examples
    --------
    >>> check_priors("gaussian")
    Traceback (most recent call last):
    ValueError: priors='gaussian' must be a prior, such as GaussianPrior(), or one per axis
    """
    if isinstance(priors, str):
        raise ValueError(
            f"priors={priors!r} must be a prior, such as GaussianPrior(), or one per axis"
        )
    for prior in priors if isinstance(priors, Sequence) else (priors,):
        if isinstance(prior, type) or not isinstance(prior, Prior):
            raise ValueError(
                f"priors: {prior!r} is no prior; it needs mean_of, second_moment_of, sample, "
                "denoise and largest_rank (see neurofb.tensors.Prior)"
            )


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises
    ------
    ValueError
        If it is negative or not whole.

    Examples
    --------
    >>> check_seed(-1)
    Traceback (most recent call last):
    ValueError: seed=-1 must be a whole number of at least 0
    """
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed={seed!r} must be a whole number of at least 0")


def check_number(
    name: str, value: object, *, below: float = np.inf, positive: bool = False
) -> None:
    """Refuse a setting that is no number from 0 (or above it) to below a bound.

    Raises
    ------
    ValueError
        With the name, the value and what is allowed.

    Examples
    --------
    >>> check_number("damping", "half", below=1.0)
    Traceback (most recent call last):
    ValueError: damping='half' must be a number, at least 0 and below 1
    """
    try:
        number = np.nan if isinstance(value, str | bytes | bool) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = np.nan
    if not (0 <= number < below and (number > 0 or not positive)):
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        raise ValueError(
            f"{name}={value if is_number else repr(value)} must be "
            f"{'' if is_number else 'a number, '}{'above' if positive else 'at least'} 0 and "
            f"{'finite' if below == np.inf else f'below {below:g}'}"
        )


def geometric_mean(shape: Sequence[int]) -> float:
    """Return N, the geometric mean of a tensor's sides.

    Examples
    --------
    >>> round(geometric_mean((100, 200, 400)), 9)
    200.0
    """
    return float(np.exp(np.mean(np.log(shape))))


def signal_scale(shape: Sequence[int]) -> float:
    """Return ``N^(-(p-1)/2)``, by which the model multiplies the products of factors.

    Examples
    --------
    >>> signal_scale((4, 4, 4))
    0.25
    """
    return geometric_mean(shape) ** (-(len(shape) - 1) / 2)
