"""Settings of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from neurofb.data.augment import Augmentation
from neurofb.training.flip_spec import FlipSpec
from neurofb.training.optimisers import Optimiser
from neurofb.training.schedule import Cosine, Schedule
from neurofb.training.svd_space import SVDSpaceTraining


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained; the defaults are those of the receptive-field demo.

    Parameters
    ----------
    num_steps, batch_size
        Number of updates, and images in each. An epoch's last batch may be smaller.
    optimiser, schedule, augmentation
        See `Optimiser`, `Schedule`, `neurofb.data.augment.Augmentation`.
    precision, channels_last
        ``"auto"`` turns bfloat16 and the channels-last layout on where the hardware is made for
        them (see `resolve_arithmetic`).
    checkpoint_every
        Steps between checkpoints (written only if `train` is given a folder).
    validate_every
        Steps between validations; ``None``: after each epoch. The end is always validated.
    snapshot_steps
        Numbers of updates after which `train` calls its `snapshot` function; 0 is the untrained
        network.
    svd_space
        What is done to the factors of a factored network beside the optimiser's steps.
    flips
        Synapses that learn with the wrong sign: the gradients are flipped once they are complete
        (averaged over processes), right before the optimiser's step. See `FlipSpec`, and
        `neurofb.training.flip_gradients` for what optimisers make of it.
    on_divergence
        What happens when the loss or a weight is no longer finite: ``"raise"`` an error, or
        ``"keep"`` the curves until then and end; the run then has no test accuracy (NaN). For
        studies in which it is a result that a run diverges.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> TrainingConfig(num_steps=300, snapshot_steps=(0, 300)).batch_size
    32
    """

    num_steps: int = 1500
    batch_size: int = 32
    optimiser: Optimiser = field(default_factory=lambda: Optimiser(weight_decay=1.0))
    schedule: Schedule = field(default_factory=Cosine)
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    checkpoint_every: int = 250
    validate_every: int | None = None
    snapshot_steps: tuple[int, ...] = ()
    svd_space: SVDSpaceTraining | None = None
    flips: tuple[FlipSpec, ...] = ()
    on_divergence: Literal["raise", "keep"] = "raise"

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "validate_every"):
            value = getattr(self, name)
            if value is None and name == "validate_every":
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be an integer >= 1")
        outside = [step for step in self.snapshot_steps if not 0 <= step <= self.num_steps]
        if outside:
            raise ValueError(
                f"snapshot_steps={self.snapshot_steps} must be between 0 and "
                f"num_steps={self.num_steps}; start and end alone are "
                f"training.snapshot_steps=[0,{self.num_steps}]"
            )
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} must be auto, float32 or bfloat16")
        if self.on_divergence not in ("raise", "keep"):
            raise ValueError(f"on_divergence={self.on_divergence!r} must be raise or keep")
        if self.channels_last not in ("auto", True, False):
            raise ValueError(f"channels_last={self.channels_last!r} must be auto, True or False")

    def validates_after(self, step: int, steps_per_epoch: int) -> bool:
        """Tell whether the network is validated after this many updates."""
        return step % (self.validate_every or steps_per_epoch) == 0 or step == self.num_steps

    def checkpoints_after(self, step: int) -> bool:
        """Tell whether a checkpoint is written after this many updates."""
        return step % self.checkpoint_every == 0 or step == self.num_steps
