"""Learning-rate schedules: a factor on the rate, as a pure function of the step."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same rate at every step, after a linear warm-up.

    Examples
    --------
    >>> [Constant(warmup_steps=2).factor(s, num_steps=9, steps_per_epoch=9) for s in (0, 1, 8)]
    [0.5, 1.0, 1.0]
    """

    schedule: Literal["constant"] = "constant"
    warmup_steps: int = 0
    depends_on_num_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: int) -> float:
        """Return the factor at a step (0 is the first)."""
        return _warmup(step, self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 at the first step to `final` at the last, after a linear warm-up.

    Examples
    --------
    >>> round(Cosine(final=0.02).factor(1499, num_steps=1500, steps_per_epoch=625), 4)
    0.02
    """

    schedule: Literal["cosine"] = "cosine"
    warmup_steps: int = 50
    final: float = 0.02
    depends_on_num_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        if not 0 <= self.final <= 1:
            raise ValueError(f"final={self.final!r} must be in [0, 1]")

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: int) -> float:
        """Return the factor at a step (0 is the first)."""
        progress = step / max(num_steps - 1, 1)
        fall = self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
        return _warmup(step, self.warmup_steps) * fall


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Multiply the rate by `per_epoch` after every epoch (Hanut & Kadmon 2025: 0.975).

    Examples
    --------
    >>> Exponential(per_epoch=0.5).factor(25, num_steps=99, steps_per_epoch=10)
    0.25
    """

    schedule: Literal["exponential"] = "exponential"
    warmup_steps: int = 0
    per_epoch: float = 0.975
    depends_on_num_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        if not 0 < self.per_epoch <= 1:
            raise ValueError(f"per_epoch={self.per_epoch!r} must be in (0, 1]")

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: int) -> float:
        """Return the factor at a step (0 is the first)."""
        return _warmup(step, self.warmup_steps) * self.per_epoch ** (step // steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class InverseTime:
    """1 / (1 + decay · step): what Keras 2 calls ``decay`` (Lindsey et al. 2019: 1e-6).

    It lowers the learning rate; it is no weight decay.

    Examples
    --------
    >>> InverseTime(decay=0.1).factor(10, num_steps=99, steps_per_epoch=10)
    0.5
    """

    schedule: Literal["inverse_time"] = "inverse_time"
    warmup_steps: int = 0
    decay: float = 1e-6
    depends_on_num_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay={self.decay!r} must be a finite number >= 0")

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: int) -> float:
        """Return the factor at a step (0 is the first)."""
        return _warmup(step, self.warmup_steps) / (1 + self.decay * step)


Schedule = Annotated[Constant | Cosine | Exponential | InverseTime, Discriminator("schedule")]


def _check_warmup(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps!r} must be >= 0")


def _warmup(step: int, warmup_steps: int) -> float:
    """Rise linearly to 1 over the first `warmup_steps` steps."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
