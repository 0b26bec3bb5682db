"""The training loop, optimisers, checkpoints, history."""

from neurofb.training.arithmetic import Arithmetic, resolve_arithmetic
from neurofb.training.config import TrainingConfig
from neurofb.training.device import resolve_device
from neurofb.training.evaluate import Evaluation, evaluate
from neurofb.training.flip_spec import FlipSpec
from neurofb.training.flips import (
    GradientFlips,
    flip_gradients,
    flip_masks,
    flipped_neurons,
)
from neurofb.training.loop import TrainingResult, train
from neurofb.training.matrix_groups import split_params
from neurofb.training.muon import Muon
from neurofb.training.newton_schulz import newton_schulz, polar_factor
from neurofb.training.optimisers import Optimiser
from neurofb.training.rank_control import RankControlled, control_rank
from neurofb.training.rank_schedule import RankSchedule
from neurofb.training.schedule import Constant, Cosine, Exponential, InverseTime, Schedule
from neurofb.training.session import NonFiniteLossError
from neurofb.training.stacked import train_stacked, why_not_stacked
from neurofb.training.svd_space import SVDSpaceTraining
from neurofb.training.svd_space_control import SVDSpaceControl

__all__ = [
    "Arithmetic",
    "Constant",
    "Cosine",
    "Evaluation",
    "Exponential",
    "FlipSpec",
    "GradientFlips",
    "InverseTime",
    "Muon",
    "NonFiniteLossError",
    "Optimiser",
    "RankControlled",
    "RankSchedule",
    "SVDSpaceControl",
    "SVDSpaceTraining",
    "Schedule",
    "TrainingConfig",
    "TrainingResult",
    "control_rank",
    "evaluate",
    "flip_gradients",
    "flip_masks",
    "flipped_neurons",
    "newton_schulz",
    "polar_factor",
    "resolve_arithmetic",
    "resolve_device",
    "split_params",
    "train",
    "train_stacked",
    "why_not_stacked",
]
