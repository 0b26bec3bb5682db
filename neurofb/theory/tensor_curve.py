"""All fixed points of state evolution of rank one on one curve, and the noise at its folds.

Let Δ be the noise variance, nₐ the sides over their geometric mean, and t = Πₐ Mₐ / Δ. Each axis
then obeys Mₐ = Fₐ(t / (nₐ Mₐ)) by itself: its right side falls with Mₐ, so that t gives every Mₐ,
and Δ(t) = Πₐ Mₐ(t) / t. State evolution is monotone: from the prior it ends at the smallest t with
Δ(t) ≤ Δ, from the truth at the largest with Δ(t) ≥ Δ. With s = A F′ / F of each axis,

    d log Δ / d log t = Σₐ sₐ / (1 + sₐ) - 1,

whose zeros are the folds (spinodals) of the curve. (Our derivation.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from neurofb.theory.arguments import bisect
from neurofb.theory.tensor_channels import Channel

_LOG_SIGNAL = np.log(10) * np.linspace(-16, 12, 1121)
_NUM_STEPS = 100
Noise = Float[np.ndarray, " noise"]


@dataclass(frozen=True)
class FixedPointCurve:
    """The fixed points of state evolution of rank one, by their signal t = Π M / Δ.

    Parameters
    ----------
    channels
        Of the prior of each axis.
    ratios
        Sides of the tensor over their geometric mean.

    Examples
    --------
    >>> from neurofb.theory.tensor_channels import GaussianChannel
    >>> channel = GaussianChannel(np.zeros(1), np.eye(1))
    >>> curve = FixedPointCurve((channel,) * 3, (1.0, 1.0, 1.0))
    >>> curve.largest(np.array([0.2])).round(7).tolist()  # (1 + √(1 - 4 Δ)) / 2 each
    [[0.7236068, 0.7236068, 0.7236068]]
    """

    channels: Sequence[Channel]
    ratios: Sequence[float]

    @cached_property
    def noise_at_no_signal(self) -> float:
        """Limit of Δ(t) for t → 0: where the fixed point M = (mean)² becomes unstable.

        Infinite with at most one axis of mean zero, 0 with more than two.
        """
        zero = [c.prior_overlap[0, 0] == 0 for c in self.channels]
        if sum(zero) != 2:
            return np.inf if sum(zero) < 2 else 0.0
        limit = 1.0
        for channel, ratio, is_zero in zip(self.channels, self.ratios, zero, strict=True):
            if is_zero:
                limit *= channel.covariance[0, 0] / np.sqrt(ratio)
            else:
                limit *= channel.prior_overlap[0, 0]
        return float(limit)

    def smallest(self, noise_variance: Noise) -> Float[np.ndarray, "noise axis"]:
        """Return the overlaps (noise, axis) that state evolution reaches from the prior."""
        log_signal, _, log_noise = self._grid
        below = log_noise <= np.log(noise_variance)[..., None]
        first = np.clip(below.argmax(-1), 1, None)
        inside = below.any(-1) & (noise_variance < self.noise_at_no_signal)
        root = self._root(noise_variance, log_signal[first - 1], log_signal[first])
        return self._overlaps_or_none(root, inside)

    def largest(self, noise_variance: Noise) -> Float[np.ndarray, "noise axis"]:
        """Return the overlaps (noise, axis) that state evolution reaches from the truth."""
        log_signal, _, log_noise = self._grid
        above = log_noise >= np.log(noise_variance)[..., None]
        last = len(log_signal) - 1 - above[..., ::-1].argmax(-1)
        last = np.clip(last, None, len(log_signal) - 2)
        root = self._root(noise_variance, log_signal[last], log_signal[last + 1])
        return self._overlaps_or_none(root, above.any(-1))

    def folds(self) -> tuple[float, float] | None:
        """Return the noise of the lower and the upper fold, or None if there is no bistability.

        Where there are several windows of bistability, the one that is widest in log Δ.
        """
        _, _, log_noise = self._grid
        with np.errstate(divide="ignore"):
            start = np.log(self.noise_at_no_signal)
        lowest = np.minimum(np.minimum.accumulate(log_noise), start)
        peak = int(np.argmax(log_noise - lowest))
        if not log_noise[peak] > lowest[peak] + 1e-9:
            return None
        return float(np.exp(lowest[peak])), float(np.exp(log_noise[peak:].max()))

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log t, with all folds among them, the slope there and log Δ."""
        log_noise, slope = self._log_noise(_LOG_SIGNAL)
        turns = np.flatnonzero(np.sign(slope[1:]) != np.sign(slope[:-1]))
        rises = slope[turns] > 0
        folds = bisect(
            lambda u: (self._log_noise(u)[1] > 0) == rises,
            _LOG_SIGNAL[turns],
            _LOG_SIGNAL[turns + 1],
        )
        at_folds, slope_at_folds = self._log_noise(folds)
        log_signal = np.concatenate([_LOG_SIGNAL, folds])
        order = np.argsort(log_signal)
        return (
            log_signal[order],
            np.concatenate([slope, slope_at_folds])[order],
            np.concatenate([log_noise, at_folds])[order],
        )

    def _root(self, noise_variance: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return log t between two neighbours of the grid, by Newton steps that stay between."""
        target = np.log(noise_variance)
        root = (low + high) / 2
        for _ in range(_NUM_STEPS):
            log_noise, slope = self._log_noise(root)
            low = np.where(log_noise > target, root, low)
            high = np.where(log_noise > target, high, root)
            with np.errstate(divide="ignore", invalid="ignore"):
                newton = root - (log_noise - target) / slope
            step_inside = (newton >= low) & (newton <= high)
            moved = np.where(step_inside, newton, (low + high) / 2)
            at_rest = np.abs(moved - root) < 1e-13 * (1 + np.abs(root))
            if np.all(at_rest | (np.abs(log_noise - target) < 1e-14)):
                return moved
            root = moved
        return root

    def _log_noise(self, log_signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log Δ(t) and its slope over log t."""
        total, slope = -log_signal, -np.ones_like(log_signal)
        for log_overlap, rise in self._axes(log_signal):
            total, slope = total + log_overlap, slope + rise / (1 + rise)
        return total, slope

    def _axes(self, log_signal: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each axis' log M and s = A F′ / F at a signal."""
        known: dict[tuple[int, float], tuple[np.ndarray, np.ndarray]] = {}
        found = []
        for channel, ratio in zip(self.channels, self.ratios, strict=True):
            key = (id(channel), ratio)
            if key not in known:
                share = log_signal - np.log(ratio)  # log A F(A)
                precision = channel.precision_at(share)
                log_overlap = share - np.log(precision)
                rise = precision * channel.slope(precision) / np.exp(log_overlap)
                known[key] = log_overlap, rise
            found.append(known[key])
        return found

    def _overlaps_or_none(self, log_signal: np.ndarray, inside: Any) -> np.ndarray:
        """Return overlaps (noise, axis) at a signal, or without any."""
        overlaps = np.exp(np.stack([log for log, _ in self._axes(log_signal)], -1))
        without = np.array([c.prior_overlap[0, 0] for c in self.channels])
        return np.where(inside[..., None], overlaps, without)
