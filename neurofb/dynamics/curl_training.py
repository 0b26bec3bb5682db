"""The protocol of curl descent: rates, steps, norms, when a run is done."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from neurofb.choices import check_choice
from neurofb.dynamics.weight_norms import NormPolicy


@dataclass(frozen=True)
class CurlTraining:
    """How the student learns; defaults are those of the paper (arXiv:2510.02765), full batch.

    Parameters
    ----------
    learning_rate
        η of a step on all training samples.
    num_steps
        Steps (epochs).
    num_records
        Recorded steps: 0, then spaced evenly on a log axis up to `num_steps` (fewer where two fall
        on the same step).
    norm
        What every update leaves as it was at the start: the Frobenius norm of each layer (the
        paper), the norm of each row, or nothing.
    feedback
        ``"gradient"``: errors go back through W2ᵀ. ``"direct"``: through fixed random weights
        (direct feedback alignment).
    output_derivative
        Count φ' of the output in the error (the exact gradient), or not (the authors' code).
    target_loss
        Test loss that counts as solved (``hit_step``).
    stop_below
        Training loss at which a run is done and leaves the batch; None: none does.
    check_every
        Steps between looks at the losses: ``hit_step``, ``stopped_at`` and ``diverged_at`` are
        exact to this many steps.
    batch_size
        None: a step is one update on all samples. Otherwise a step is one pass over the samples in
        batches of this size, in an order drawn from seed and step, each update with the rate
        ``learning_rate * batch_size / num_train`` (the authors' protocol).

    Raises
    ------
    ValueError
        If a number is out of range or a name unknown.

    Examples
    --------
    >>> CurlTraining(num_steps=100, num_records=4).records()
    [0, 1, 5, 22, 100]
    """

    learning_rate: float | int = 0.1
    num_steps: int = 20_000
    num_records: int = 60
    norm: NormPolicy = "frobenius"
    feedback: Literal["gradient", "direct"] = "gradient"
    output_derivative: bool = False
    target_loss: float | int = 1e-3
    stop_below: float | int | None = 1e-20
    check_every: int = 10
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_records", "check_every", "batch_size"):
            size = getattr(self, name)
            if size is not None and not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name}={size} must be at least 1, and whole")
        for name in ("learning_rate", "target_loss", "stop_below"):
            size = getattr(self, name)
            if size is not None and not 0 < size < np.inf:
                raise ValueError(f"{name}={size} must be above 0 and finite")
        check_choice("norm", self.norm, NormPolicy)
        check_choice("feedback", self.feedback, ("gradient", "direct"))

    def records(self) -> list[int]:
        """Return the steps at which losses are recorded."""
        spaced = np.geomspace(1, self.num_steps, self.num_records)
        return sorted({0, *np.rint(spaced).astype(int).tolist(), self.num_steps})
