"""Cuts of the rank of factored layers while they train: how many components stay, and which."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RankSchedule:
    """At an epoch's end a layer of rank r keeps min(r, max(r_schedule, r_energy)) components.

    r_schedule falls with the number k of cuts from the rank r₀ that the layer started with:
    ⌊r₀ factorᵏ⌋ (``"geometric"``) or ⌊r₀ (1 − k (1 − factor))⌋ (``"linear"``), and never below
    `minimum`. r_energy is the smallest number of components that hold the share `energy` of Σ s²;
    it vetoes cuts that would lose more. Components are counted by |s| ‖u‖ ‖v‖ from the largest.

    That there is a schedule by epochs with an energy threshold is known of SSA (Roy et al. 2025,
    arXiv:2510.25594); its formula and constants were not available, and this one is ours.

    Parameters
    ----------
    factor
        In (0, 1]; 1 cuts nothing.
    minimum
        No layer is cut below this rank; layers of a smaller one stay as they are.
    energy
        In [0, 1]; 1 keeps every component that is not zero, 0 gives the schedule its way.
    kind
        How r_schedule falls.
    until
        Share of all steps after which there are no more cuts, so that the last one is repaired:
        cutting to the end costs several points of accuracy.
    every
        Epochs from one cut to the next.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> RankSchedule(factor=0.5, minimum=16).scheduled(128, 2)
    32
    """

    factor: float = 0.75
    minimum: int = 16
    energy: float = 0.9
    kind: Literal["geometric", "linear"] = "geometric"
    until: float = 0.5
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1:
            raise ValueError(f"factor={self.factor!r} must be in (0, 1]")
        for name in ("energy", "until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be in [0, 1]")
        for name in ("minimum", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")
        if self.kind not in ("geometric", "linear"):
            raise ValueError(f"kind={self.kind!r} must be geometric or linear")

    def num_cuts(self, step: int, *, num_steps: int, steps_per_epoch: int) -> int:
        """Return which cut (1 is the first) is due after a number of updates; 0 if none is.

        Examples
        --------
        >>> schedule = RankSchedule(until=0.5)
        >>> [schedule.num_cuts(s, num_steps=60, steps_per_epoch=10) for s in (5, 10, 30, 40)]
        [0, 1, 3, 0]
        """
        period = steps_per_epoch * self.every
        if step % period or step > self.until * num_steps:
            return 0
        return step // period

    def scheduled(self, start: int, cut: int) -> int:
        """Return r_schedule of a layer that started with rank `start`, at a cut (1 is the first).

        Examples
        --------
        >>> [RankSchedule(factor=0.9, kind="linear", minimum=2).scheduled(10, k) for k in (1, 9)]
        [9, 2]
        """
        left = self.factor**cut if self.kind == "geometric" else 1 - cut * (1 - self.factor)
        # The bit more keeps 10 · 0.9 = 9 from being floored to 8 by rounding.
        return max(self.minimum, math.floor(start * left * (1 + 1e-12)))


def energy_rank(strength: Tensor, energy: float) -> int:
    """Return the smallest number of components that hold a share of the sum of squares.

    Parameters
    ----------
    strength
        |s| ‖u‖ ‖v‖ of each component, in any order.
    energy
        The share, in [0, 1].

    Examples
    --------
    >>> energy_rank(torch.tensor([1.0, 3.0, 0.0]), 0.9), energy_rank(torch.tensor([1.0, 0.0]), 1.0)
    (1, 1)
    """
    squares = strength.detach().double().square().sort(descending=True).values
    if energy >= 1:
        return int((squares > 0).sum())
    lost = squares.sum() - squares.cumsum(0)
    allowed = (1 - energy) * squares.sum()
    # Rounding must not veto: what may be lost is met to the last digits.
    enough = lost <= allowed + 1e-12 * squares.sum()
    return int(enough.int().argmax()) + 1 if energy > 0 else 0


def next_rank(schedule: RankSchedule, strength: Tensor, start: int, cut: int) -> int:
    """Return the rank of a layer after a cut: min(r, max(r_schedule, r_energy)).

    Parameters
    ----------
    schedule
        The schedule.
    strength
        |s| ‖u‖ ‖v‖ of each of the layer's r components.
    start
        Rank that the layer had before training.
    cut
        Which cut it is (1 is the first).

    Examples
    --------
    >>> strength = torch.tensor([4.0, 3.0, 2.0, 1.0])
    >>> next_rank(RankSchedule(factor=0.5, minimum=1, energy=0.9), strength, start=4, cut=1)
    3
    """
    rank = len(strength)
    return min(rank, max(schedule.scheduled(start, cut), energy_rank(strength, schedule.energy)))


def strongest(strength: Tensor, count: int) -> Tensor:
    """Return the indices, in increasing order, of the strongest components; ties keep the first.

    Examples
    --------
    >>> strongest(torch.tensor([1.0, -3.0, 2.0]).abs(), 2)
    tensor([1, 2])
    """
    order = torch.sort(strength.detach(), descending=True, stable=True).indices
    return order[:count].sort().values
