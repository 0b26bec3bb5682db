"""What one noisy observation says about a row of a factor: the scalar channel of each prior.

In state evolution every row x of a factor, drawn from its prior, is seen once through noise of
precision A: as the field B = A x + A^½ z, z ~ N(0, I). Two numbers of this channel are all that
the theory needs: the overlap M(A) = E[E[x|B] xᵀ] of the posterior mean with the truth, and the mean
log-partition function ψ(A) = E log ∫ dP(x) exp(B·x - x·A x / 2), whose derivative is M / 2. Both
are closed for a Gaussian prior of any rank; for any mixture of Gaussians of rank one, spikes among
them, they are sums of integrals over one Gaussian variable, done by the trapezoidal rule (our
derivation, apart from the denoisers of `neurofb.tensors`).
"""

from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any

import numpy as np
from jaxtyping import Float

from neurofb.tensors import BernoulliGaussPrior, GaussianPrior, RademacherPrior

_NODES = np.linspace(-8.5, 8.5, 341)
_WEIGHTS = np.exp(-(_NODES**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()
_LOG_PRECISIONS = np.log(10) * np.linspace(-17, 17, 681)
_NUM_STEPS = 100


@dataclass(frozen=True)
class GaussianChannel:
    """A row x ~ N(mean, covariance) of any rank, seen through noise.

    Parameters
    ----------
    mean
        (rank,).
    covariance
        (rank, rank), symmetric, no negative eigenvalue.

    Examples
    --------
    >>> channel = GaussianChannel(np.zeros(1), np.eye(1))
    >>> channel.overlap(np.array([[3.0]]))
    array([[0.75]])
    """

    mean: Float[np.ndarray, " rank"]
    covariance: Float[np.ndarray, "rank rank"]

    @property
    def prior_overlap(self) -> Float[np.ndarray, "rank rank"]:
        """What the prior's mean alone has: the overlap at no precision."""
        return np.outer(self.mean, self.mean)

    @property
    def second_moment(self) -> Float[np.ndarray, "rank rank"]:
        """E[x xᵀ]: the overlap at infinite precision."""
        return self.prior_overlap + self.covariance

    def overlap(self, precision: Float[np.ndarray, "*batch rank rank"]) -> Float[np.ndarray, "..."]:
        """Return M(A) = μ μᵀ + (I + S A)⁻¹ S A S."""
        gain = self.covariance @ precision
        gained = np.linalg.solve(np.eye(len(self.mean)) + gain, gain @ self.covariance)
        return self.prior_overlap + (gained + gained.swapaxes(-1, -2)) / 2

    def log_partition(
        self, precision: Float[np.ndarray, "*batch rank rank"]
    ) -> Float[np.ndarray, "..."]:
        """Return ψ(A) = ½ tr A (S + μ μᵀ) - ½ log det(I + S A)."""
        trace = np.einsum("...ij,ji->...", precision, self.second_moment)
        gain = self.covariance @ precision
        return np.asarray((trace - np.linalg.slogdet(np.eye(len(self.mean)) + gain)[1]) / 2)

    def slope(self, precision: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "..."]:
        """Return dM/dA of rank one, the mean square of the posterior variance."""
        variance = self.covariance[0, 0]
        return np.asarray((variance / (1 + variance * precision)) ** 2)

    def precision_at(self, log_signal: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "..."]:
        """Return the A of rank one at which log A M(A) has a value: the root of a quadratic."""
        signal, variance = np.exp(log_signal), self.covariance[0, 0]
        half = (self.prior_overlap[0, 0] - signal * variance) / 2
        square = variance * self.second_moment[0, 0]
        root = np.sqrt(half**2 + square * signal)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(half > 0, signal / (half + root), (root - half) / square)


@dataclass(frozen=True)
class MixtureChannel:
    """A number x from a mixture of Gaussians, seen through noise; a spike is one of no variance.

    It is a prior in its own right, for `StateEvolution` alone: an approximation of any prior of
    rank one by values and their probabilities, or by Gaussians. The quadrature has a relative error
    below 1e-6 up to precisions of 100 times the inverse variance of a sparse prior's Gaussian, and
    below 5e-5 beyond; for spikes alone it is exact to rounding.

    Parameters
    ----------
    probabilities, means, variances
        Of each Gaussian; the probabilities sum to one.

    Raises
    ------
    ValueError
        If their lengths differ, a variance is negative, or the probabilities are none.

    Examples
    --------
    >>> channel = MixtureChannel((0.5, 0.5), (-1.0, 1.0), (0.0, 0.0))  # Rademacher's
    >>> channel.overlap(np.array([[1.0]])).round(6)  # E tanh(1 + z)
    array([[0.5504]])
    """

    probabilities: tuple[float | int, ...]
    means: tuple[float | int, ...]
    variances: tuple[float | int, ...]

    def __post_init__(self) -> None:
        names = ("probabilities", "means", "variances")
        lengths = [len(getattr(self, name)) for name in names]
        if len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(
                f"probabilities, means and variances have {lengths} entries; needed: as many each"
            )
        for name in names:
            values = np.asarray(getattr(self, name), dtype=float)
            if not np.all(np.isfinite(values)) or (name != "means" and np.any(values < 0)):
                raise ValueError(f"{name}={getattr(self, name)} must be finite and not negative")
        if abs(sum(self.probabilities) - 1) > 1e-9:
            raise ValueError(f"probabilities={self.probabilities} must sum to 1")

    @property
    def prior_overlap(self) -> Float[np.ndarray, "1 1"]:
        """What the prior's mean alone has: the overlap at no precision."""
        mean = np.dot(self.probabilities, self.means)
        return np.full((1, 1), 0.0 if abs(mean) < 1e-15 else mean**2)

    @property
    def second_moment(self) -> Float[np.ndarray, "1 1"]:
        """E[x²]: the overlap at infinite precision."""
        squares = np.square(self.means) + np.asarray(self.variances)
        return np.full((1, 1), np.dot(self.probabilities, squares))

    @property
    def covariance(self) -> Float[np.ndarray, "1 1"]:
        """Variance of the whole mixture."""
        return self.second_moment - self.prior_overlap

    def overlap(self, precision: Float[np.ndarray, "*batch 1 1"]) -> Float[np.ndarray, "..."]:
        """Return M(A), as the mean square of the posterior mean."""
        found = self._average(precision[..., 0, 0], lambda mean, _, __: mean**2)
        return found[..., None, None]

    def log_partition(self, precision: Float[np.ndarray, "*batch 1 1"]) -> Float[np.ndarray, "..."]:
        """Return ψ(A)."""
        return self._average(precision[..., 0, 0], lambda _, __, log: log)

    def slope(self, precision: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "..."]:
        """Return dM/dA, the mean square of the posterior variance."""
        return self._average(precision, lambda _, variance, __: variance**2)

    def precision_at(self, log_signal: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "..."]:
        """Return the A at which log A M(A) has a value, by Newton's steps in log A."""
        log_precision = np.interp(log_signal, self._log_signals, _LOG_PRECISIONS)
        for _ in range(_NUM_STEPS):
            precision = np.exp(log_precision)
            overlap, rise = self._average(precision, lambda m, v, _: np.stack([m**2, v**2]))
            slope = 1 + precision * rise / overlap
            step = (log_precision + np.log(overlap) - log_signal) / slope
            log_precision = log_precision - step
            if np.all(np.abs(step) < 1e-7):  # the next one would be of the order of its square
                break
        return np.exp(log_precision)

    @cached_property
    def _log_signals(self) -> np.ndarray:
        """Return log A M(A) at `_LOG_PRECISIONS`."""
        return (
            _LOG_PRECISIONS + np.log(self.overlap(np.exp(_LOG_PRECISIONS)[:, None, None]))[:, 0, 0]
        )

    def _average(self, precision: Any, quantity: Any) -> np.ndarray:
        """Average over fields a quantity of the posterior's mean, variance and log-partition."""
        a, total = np.asarray(precision)[..., None], 0.0
        for probability, mean, variance in zip(
            self.probabilities, self.means, self.variances, strict=True
        ):
            field = a * mean + np.sqrt(a * (1 + a * variance)) * _NODES
            total = total + probability * (quantity(*self._posterior(a, field)) @ _WEIGHTS)
        return np.asarray(total)

    def _posterior(self, a: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the posterior's mean, variance and the log-partition function at each field."""
        logs, means, variances = [], [], []
        for p, m, v in zip(self.probabilities, self.means, self.variances, strict=True):
            if p > 0:
                width = 1 + a * v
                means.append((m + v * field) / width)
                variances.append(np.broadcast_to(v / width, field.shape))
                exponent = (field * (2 * m + v * field) - a * m**2) / width
                logs.append(np.log(p) + (exponent - np.log(width)) / 2)
        log = np.logaddexp.reduce(logs)
        shares = np.exp(np.asarray(logs) - log)
        mean = np.einsum("k...,k...->...", shares, means)
        spread = np.asarray(variances) + (np.asarray(means) - mean) ** 2
        return mean, np.einsum("k...,k...->...", shares, spread), log


Channel = GaussianChannel | MixtureChannel


@singledispatch
def channel_of(prior: Any, rank: int = 1) -> Channel:
    """Return the channel of a prior's rows.

    Parameters
    ----------
    prior
        A Gaussian prior of `neurofb.tensors`, or of rank one a Rademacher or Bernoulli-Gauss prior
        or a `MixtureChannel`. For a class of one's own: ``channel_of.register(Class, function)``.
    rank
        Number of components.

    Raises
    ------
    ValueError
        If the prior is of no known kind, or not of this rank.

    Examples
    --------
    >>> channel_of(GaussianPrior(mean=0.5), 2).prior_overlap
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    raise ValueError(
        f"prior={prior!r} has no state evolution; known: GaussianPrior, and of rank 1 "
        "RademacherPrior, BernoulliGaussPrior, MixtureChannel (or register it with channel_of)"
    )


@channel_of.register
def _(prior: GaussianPrior, rank: int = 1) -> GaussianChannel:
    mean, covariance = (np.asarray(each, dtype=float) for each in (prior.mean, prior.covariance))
    for name, value in (("mean", mean), ("covariance", covariance)):
        if any(length != rank for length in value.shape):
            raise ValueError(f"{name} of shape {value.shape} does not fit rank={rank}")
    mean = np.broadcast_to(mean, (rank,)).copy()
    return GaussianChannel(mean, covariance if covariance.ndim == 2 else covariance * np.eye(rank))


@channel_of.register
def _(prior: RademacherPrior, rank: int = 1) -> MixtureChannel:
    _only_one(prior, rank)
    return MixtureChannel((1 - prior.probability, prior.probability), (-1.0, 1.0), (0.0, 0.0))


@channel_of.register
def _(prior: BernoulliGaussPrior, rank: int = 1) -> MixtureChannel:
    _only_one(prior, rank)
    spike_and_slab = (1 - prior.density, prior.density)
    return MixtureChannel(spike_and_slab, (0.0, prior.mean), (0.0, prior.variance))


@channel_of.register
def _(prior: MixtureChannel, rank: int = 1) -> MixtureChannel:
    _only_one(prior, rank)
    return prior


def _only_one(prior: Any, rank: int) -> None:
    """Refuse more components than one, for which there is no quadrature here."""
    if rank != 1:
        raise ValueError(f"rank={rank} of {prior!r}: only Gaussian priors have a theory beyond 1")
