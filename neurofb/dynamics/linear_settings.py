"""What a simulation of linear learning is told: conditions, rates, how long it runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neurofb.dynamics.linear_rules import RULES


@dataclass(frozen=True, kw_only=True)
class LinearTraining:
    """How linear networks learn; the defaults are the protocol of Hanut & Kadmon (2025) at r < m.

    Parameters
    ----------
    hidden
        Units of each hidden layer.
    learning_rate
        η of the weights, and of Q where it learns as W does (Kolen-Pollack).
    feedback_rate
        Rate of what else of the feedback learns: P by Oja, P and Q of "LDFA normative" and
        "LDFA factored KP".
    feedback_decay
        The feedback's rate is multiplied by this at every step; 1: it stays.
    weight_decay
        λ: the change of a weight is η (… − λ W).
    num_steps, record_every
        Steps of full-batch gradient descent, and how many lie between two records.
    gradient_clip
        Largest size of an entry of a direction of change; None: no limit.
    start_scale
        Initial weights are normal with standard deviation start_scale / (units of the layer).

    Raises
    ------
    ValueError
        If a setting is not in its range.

    Examples
    --------
    >>> LinearTraining(hidden=(64, 64), num_steps=100).learning_rate
    0.0025
    """

    hidden: tuple[int, ...] = (64,)
    learning_rate: float | int = 2.5e-3
    feedback_rate: float | int = 1e-3
    feedback_decay: float | int = 0.999
    weight_decay: float | int = 1e-5
    num_steps: int = 5000
    record_every: int = 10
    gradient_clip: float | int | None = 10.0
    start_scale: float | int = 1.0

    def __post_init__(self) -> None:
        layers = self.hidden if isinstance(self.hidden, Sequence) else ()
        if not layers or not all(_is_whole(size) and size >= 1 for size in layers):
            raise ValueError(
                f"hidden={self.hidden} must name at least one layer, of 1 unit or more, such as "
                "(64,)"
            )
        for name, least in (("num_steps", 0), ("record_every", 1)):
            value = getattr(self, name)
            if not _is_whole(value) or value < least:
                raise ValueError(f"{name}={value} must be at least {least}, and whole")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip={self.gradient_clip} must be positive, or None")
        if not 0 <= self.start_scale < math.inf:
            raise ValueError(f"start_scale={self.start_scale} must be finite and not negative")
        check_rates(self)


@dataclass(frozen=True, kw_only=True)
class LinearCondition:
    """One line of a figure: a rule, its rank, and where it differs from the common training.

    Parameters
    ----------
    rule
        A name of `neurofb.dynamics.RULES`.
    rank
        r of Q P; None for "BP" and "FA", which have no such rank.
    name
        What the condition is called; by default the rule and ``r=…``.
    learning_rate, feedback_rate, feedback_decay, weight_decay
        In the place of the training's; None: as there.
    start
        Where Q and P start, in the place of the rule's own (see `neurofb.dynamics.LinearRule`);
        the B of "FA" has no "svd".
    normalise
        For Oja's rules: divide the second moment by its largest diagonal entry, as the authors do
        in deep nets.

    Raises
    ------
    ValueError
        If there is no such rule, the rank is missing, below 1 or given to a rule without one, a
        rate is not in its range, or the rule has no such start or nothing to normalise.

    Examples
    --------
    >>> LinearCondition(rule="LDFA normative", rank=8).name
    'LDFA normative r=8'
    """

    rule: str
    rank: int | None = None
    name: str = ""
    learning_rate: float | int | None = None
    feedback_rate: float | int | None = None
    feedback_decay: float | int | None = None
    weight_decay: float | int | None = None
    start: Literal["fixed", "small", "svd"] | None = None
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} must be one of {', '.join(RULES)}")
        ranked = RULES[self.rule].map == "low-rank"
        if ranked and (self.rank is None or not _is_whole(self.rank) or self.rank < 1):
            raise ValueError(f"rank={self.rank} of {self.rule!r} must be at least 1, and whole")
        if not ranked and self.rank is not None:
            raise ValueError(f"rank={self.rank} must be None: {self.rule!r} has no rank")
        if self.start not in (None, "fixed", "small", "svd"):
            raise ValueError(f"start={self.start!r} must be 'fixed', 'small', 'svd' or None")
        if self.start is not None and (self.rule == "BP" or (self.start == "svd" and not ranked)):
            raise ValueError(f"start={self.start!r} is not for {self.rule!r}")
        if self.normalise and not RULES[self.rule].learns_moment:
            raise ValueError(f"normalise=True is for Oja's rules, not for {self.rule!r}")
        check_rates(self)
        if not self.name:
            name = f"{self.rule} r={self.rank}" if ranked else self.rule
            object.__setattr__(self, "name", name)

    def rate(self, name: str, training: LinearTraining) -> float:
        """Return the condition's own rate of this name, or the training's."""
        own = getattr(self, name)
        return float(getattr(training, name) if own is None else own)


def authors_protocol(
    rank: int, *, rule: str = "LDFA normative", num_outputs: int = 64
) -> LinearCondition:
    """Return a condition with the rates of Hanut & Kadmon's linear simulation at this rank.

    Read off the authors' published code (arXiv:2502.20580): η 2.5e-3, feedback rate 1e-3 and
    λ 1e-5 for r < m; 4e-3, 1.3e-3 and 1e-12 for r = m. The rest is the default `LinearTraining`,
    the task the default `random_task`.

    Parameters
    ----------
    rank
        r; also decides on the rates of rules without a rank.
    rule
        A name of `neurofb.dynamics.RULES`.
    num_outputs
        m.

    Raises
    ------
    ValueError
        If the rank is not 1 to m, or there is no such rule.

    Examples
    --------
    >>> authors_protocol(8).learning_rate, authors_protocol(64, rule="BP").learning_rate
    (0.0025, 0.004)
    """
    if not 1 <= rank <= num_outputs:
        raise ValueError(f"rank={rank} must be 1 to num_outputs={num_outputs}")
    full = rank == num_outputs
    return LinearCondition(
        rule=rule,
        rank=rank if rule in RULES and RULES[rule].map == "low-rank" else None,
        learning_rate=4e-3 if full else 2.5e-3,
        feedback_rate=1.3e-3 if full else 1e-3,
        feedback_decay=0.999,
        weight_decay=1e-12 if full else 1e-5,
    )


def _is_whole(value: Any) -> bool:
    """Return whether it is of an integer type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_rates(settings: LinearTraining | LinearCondition) -> None:
    """Refuse rates that are negative or not finite, and a decay of the feedback outside 0 to 1."""
    for name in ("learning_rate", "feedback_rate", "weight_decay"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} must be finite and not negative")
    decay = settings.feedback_decay
    if decay is not None and not 0 < decay <= 1:
        raise ValueError(f"feedback_decay={decay} must be above 0 and at most 1")
