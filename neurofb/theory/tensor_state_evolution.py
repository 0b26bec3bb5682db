"""State evolution: how well message passing finds the factors of a large noisy tensor, and whether.

A tensor of p axes, Y = N^{-(p-1)/2} Σ x₁ ∘ … ∘ x_p + √Δ ε with N the geometric mean of its sides,
is decomposed by Bayes-optimal approximate message passing (`neurofb.tensors.TensorAMP`). In the
limit of large N the overlaps Mₐ = Xₐᵀ Xₐ^true / Nₐ follow

    Aₐ = (1 / (Δ nₐ)) ⊙_{b≠a} M_b,    Mₐ ← E[E[x|B] xᵀ],  B = Aₐ x + Aₐ^½ z,

with nₐ = Nₐ / N, and the free entropy (mean log-evidence per N, in nats) of overlaps is

    Φ(M) = Σₐ nₐ ψₐ(Aₐ) - ((p-1) / (2Δ)) Σ ⊙ₐ Mₐ,

stationary where state evolution rests. Started at the prior's mean it ends where the algorithm
ends; started at the truth it ends at the best there is to find, if Φ is larger there. The theory is
in the spirit of arXiv:1810.10065; all formulas here are our derivation.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from neurofb.choices import check_choice
from neurofb.theory.arguments import Numbers, at_least, positive
from neurofb.theory.tensor_channels import Channel, channel_of
from neurofb.theory.tensor_curve import FixedPointCurve
from neurofb.theory.tensor_thresholds import Thresholds, thresholds_by_iteration, thresholds_of

Start = Literal["prior", "truth"]
Schedule = Literal["sequential", "parallel"]
_SEED = 1e-6  # share of the second moment by which a start at the prior departs from its mean
_TOLERANCE = 1e-11


@dataclass(frozen=True)
class StateEvolution:
    """State evolution of a low-rank tensor with independent rows of known priors.

    Overlaps have the shape (*noise, axis, rank, rank), *noise that of the noise variance.

    Parameters
    ----------
    priors
        Of the rows of each axis' factor; one for all axes, or a sequence of one an axis. Gaussian
        of any rank, Rademacher or Bernoulli-Gauss of rank one (`neurofb.tensors`), any other of
        rank one as a `MixtureChannel`.
    ratios
        Sides of the tensor, up to a factor that all share: they are divided by their geometric
        mean. Without them the tensor is cubic, of three axes if one prior is given.
    shape
        The same, as the shape of a tensor; give one of both.
    rank
        Number of components.

    Raises
    ------
    ValueError
        If ratios are not positive, fewer than two, or not as many as priors; if both
        ratios and shape are given; if a prior is nothing but zero, or has no theory at this rank.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> theory = StateEvolution(GaussianPrior(mean=0.2))
    >>> theory.fixed_point(0.1).shape
    (3, 1, 1)
    >>> theory.tensor_error(theory.fixed_point([0.1, 0.2])).round(3)  # the second is stuck
    array([0.266, 1.   ])
    >>> theory.tensor_error(theory.fixed_point([0.1, 0.2], "truth")).round(3)
    array([0.266, 0.539])
    >>> round(theory.thresholds().information, 4)
    0.2763
    """

    priors: Any
    ratios: Sequence[float | int] | None = None
    shape: Sequence[int] | None = None
    rank: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.rank, int | np.integer) and self.rank >= 1):
            raise ValueError(f"rank={self.rank} must be at least 1, and whole")
        if self.ratios is not None and self.shape is not None:
            raise ValueError(f"ratios={self.ratios} and shape={self.shape}: give one of both")
        sides = self._sides
        if len(sides) < 2 or not np.all(np.isfinite(sides) & (sides > 0)):
            raise ValueError(f"ratios={sides.tolist()} must be two or more positive numbers")
        if self._has_many and len(self.priors) != len(sides):
            raise ValueError(f"{len(self.priors)} priors do not fit a tensor of {len(sides)} axes")
        if np.any(np.einsum("aii->a", self.second_moments) == 0):
            raise ValueError(f"priors={self.priors} include a factor that is zero")

    @property
    def _has_many(self) -> bool:
        return isinstance(self.priors, Sequence)

    @property
    def _sides(self) -> np.ndarray:
        """Sides of the tensor up to a factor."""
        cubic = [1.0] * (len(self.priors) if self._has_many else 3)
        given = self.ratios if self.ratios is not None else self.shape
        return np.asarray(cubic if given is None else given, dtype=float)

    @cached_property
    def side_ratios(self) -> Float[np.ndarray, " axis"]:
        """Sides of the tensor over their geometric mean."""
        logs = np.log(self._sides)
        return np.exp(logs - logs.mean())

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """The scalar channel of each axis."""
        if not self._has_many:
            return (channel_of(self.priors, self.rank),) * len(self._sides)
        known = {id(prior): channel_of(prior, self.rank) for prior in self.priors}
        return tuple(known[id(prior)] for prior in self.priors)

    @property
    def prior_overlaps(self) -> Float[np.ndarray, "axis rank rank"]:
        """Overlaps of the priors' means with the truth."""
        return np.stack([channel.prior_overlap for channel in self.channels])

    @property
    def second_moments(self) -> Float[np.ndarray, "axis rank rank"]:
        """Overlaps of the truth with itself."""
        return np.stack([channel.second_moment for channel in self.channels])

    def run(
        self,
        noise_variance: Numbers | Sequence[float | int],
        start: Start | Float[np.ndarray, "..."] = "prior",
        *,
        num_sweeps: int = 50,
        schedule: Schedule = "sequential",
    ) -> Float[np.ndarray, "..."]:
        """Return the overlaps (sweep, *noise, axis, rank, rank), the start first.

        Parameters
        ----------
        noise_variance
            Δ, a number or an array of them.
        start
            ``"prior"`` (its mean, and a millionth of the second moment, which breaks symmetries),
            ``"truth"``, or overlaps that broadcast to (*noise, axis, rank, rank).
        num_sweeps
            Number of sweeps over all axes.
        schedule
            ``"sequential"``: each axis sees what the ones before it have become; ``"parallel"``.
        """
        check_choice("schedule", schedule, Schedule)
        at_least(0, num_sweeps=num_sweeps)
        noise, overlaps = self._start(noise_variance, start)
        states = [overlaps]
        for _ in range(num_sweeps):
            states.append(self._sweep(noise, states[-1], schedule))
        return np.stack(states)

    def fixed_point(
        self,
        noise_variance: Numbers | Sequence[float | int],
        start: Start | Float[np.ndarray, "..."] = "prior",
        *,
        max_sweeps: int = 20_000,
    ) -> Float[np.ndarray, "..."]:
        """Return the overlaps (*noise, axis, rank, rank) at which state evolution comes to rest.

        From the prior or the truth at rank one they are found on the curve of all fixed points,
        exactly however close to a fold; in other cases by iteration, until no overlap moves by
        more than 1e-11 in a sweep. What still moves after `max_sweeps` is warned of.

        Parameters
        ----------
        noise_variance, start
            As in `run`.
        max_sweeps
            Of the iteration.
        """
        if self.rank == 1 and isinstance(start, str):
            check_choice("start", start, Start)
            (noise,) = positive(noise_variance=np.asarray(noise_variance, dtype=float))
            reached = self.curve.smallest if start == "prior" else self.curve.largest
            return reached(noise.ravel()).reshape(*noise.shape, -1, 1, 1)
        noise, overlaps = self._start(noise_variance, start)
        flat_noise, flat = noise.reshape(-1), overlaps.reshape(-1, *overlaps.shape[-3:]).copy()
        moving = np.arange(len(flat))
        for _ in range(max_sweeps):
            swept = self._sweep(flat_noise[moving], flat[moving], "sequential")
            change = np.abs(swept - flat[moving]).max((-3, -2, -1))
            flat[moving] = swept
            moving = moving[change > _TOLERANCE]
            if len(moving) == 0:
                break
        else:
            warnings.warn(
                f"state evolution still moves after {max_sweeps} sweeps at "
                f"noise_variance={flat_noise[moving].tolist()}",
                stacklevel=2,
            )
        return flat.reshape(overlaps.shape)

    def tensor_error(self, overlaps: Float[np.ndarray, "*noise axis rank rank"]) -> Any:
        """Return the mean squared error of the whole tensor over its mean square.

        It is 1 - Σ ⊙ M / Σ ⊙ E[x xᵀ]; without signal and with means of zero it is 1.

        Examples
        --------
        >>> from neurofb.tensors import GaussianPrior
        >>> theory = StateEvolution(GaussianPrior())
        >>> theory.tensor_error(np.full((3, 1, 1), 0.5)).item()
        0.875
        """
        total = self.second_moments.prod(0).sum()
        return 1 - overlaps.prod(-3).sum((-2, -1)) / total

    def free_entropy(
        self,
        noise_variance: Numbers | Sequence[float | int],
        overlaps: Float[np.ndarray, "*noise axis rank rank"],
    ) -> Float[np.ndarray, "..."]:
        """Return Φ, the mean log-evidence against pure noise, in nats per geometric mean side.

        Examples
        --------
        >>> from neurofb.tensors import GaussianPrior
        >>> theory = StateEvolution(GaussianPrior())
        >>> round(theory.free_entropy(0.2, theory.fixed_point(0.2, "truth")).item(), 4)
        0.1037
        """
        (noise,) = positive(noise_variance=np.asarray(noise_variance, dtype=float))
        coupling = overlaps.prod(-3).sum((-2, -1)) / noise
        total = -(len(self.channels) - 1) / 2 * coupling
        for axis, precision in enumerate(self._precisions(noise, overlaps)):
            total = total + self.side_ratios[axis] * self.channels[axis].log_partition(precision)
        return np.asarray(total)

    def thresholds(self) -> Thresholds:
        """Return the noise at which phases change; NaN where no noise has two fixed points.

        Below ``algorithmic`` message passing finds the truth from the prior (easy), up to
        ``information`` it is stuck though the truth is the better explanation (hard), beyond
        there is nothing to be found (impossible), though up to ``spinodal`` a start at the truth
        stays near it. At rank one they are exact to rounding (folds of the curve of all fixed
        points); beyond by iteration on a grid that is refined, to 1e-4 of their value.

        Examples
        --------
        >>> from neurofb.tensors import GaussianPrior
        >>> [round(value, 4) for value in StateEvolution(GaussianPrior()).thresholds()]
        [0.0, 0.229, 0.25]
        """
        return thresholds_of(self) if self.rank == 1 else thresholds_by_iteration(self)

    @cached_property
    def curve(self) -> FixedPointCurve:
        """All fixed points of rank one."""
        return FixedPointCurve(self.channels, tuple(self.side_ratios.tolist()))

    def _start(
        self, noise_variance: Numbers | Sequence[float | int], start: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the noise and the overlaps that a run starts with."""
        (noise,) = positive(noise_variance=np.asarray(noise_variance, dtype=float))
        shape = (*noise.shape, *self.second_moments.shape)
        if isinstance(start, str):
            check_choice("start", start, Start)
            departed = (1 - _SEED) * self.prior_overlaps + _SEED * self.second_moments
            start = self.second_moments if start == "truth" else departed
        if not np.all(np.isfinite(np.asarray(start, dtype=float))):
            raise ValueError("start: an overlap is not finite")
        try:
            return noise, np.broadcast_to(np.asarray(start, dtype=float), shape).copy()
        except ValueError as error:
            raise ValueError(
                f"start of shape {np.shape(start)} does not fit overlaps of shape {shape}"
            ) from error

    def _sweep(self, noise: np.ndarray, overlaps: np.ndarray, schedule: Schedule) -> np.ndarray:
        """Update every axis once."""
        swept = overlaps.copy()
        seen = swept if schedule == "sequential" else overlaps
        for axis, precision in enumerate(self._precisions(noise, seen)):
            swept[..., axis, :, :] = self.channels[axis].overlap(precision)
        return swept

    def _precisions(self, noise: np.ndarray, overlaps: np.ndarray) -> Iterator[np.ndarray]:
        """Give each axis' precision, from what the overlaps are when it is asked for."""
        for axis, ratio in enumerate(self.side_ratios):
            others = np.delete(overlaps, axis, -3).prod(-3)
            yield others / (ratio * noise[..., None, None])
