"""Several training runs in progress whose updates are done together."""

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neurofb.feedback import present_targets
from neurofb.training.flips import GradientFlips, flip_masks
from neurofb.training.optimisers import set_learning_rates
from neurofb.training.order import noise_seed
from neurofb.training.session import NonFiniteLossError, Session
from neurofb.training.stacked_batches import StackedBatches
from neurofb.training.stacked_forward import StackedForward, join_tensors


class StackedSession:
    """Runs in progress: `update` is one training step of all, `look` is what happens between.

    While it lasts the tensors of the networks are views of stacked ones, so that each network is
    always up to date; `separate` gives them memory of their own again.

    Parameters
    ----------
    sessions
        One a network; all of the same settings, on the same images.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        first = sessions[0]
        self.sessions, self.config, self.device = sessions, first.config, first.device
        self.networks = [session.network for session in sessions]
        self.seeds = [session.seed for session in sessions]
        self.errors: dict[int, NonFiniteLossError] = {}
        self.forward = StackedForward(self.networks, self.device)
        self.parameters, self.buffers = join_tensors(self.networks)
        self.optimiser = _stacked_optimiser(first, self.parameters)
        # a mask broadcasts over the dim of the networks, which comes first
        self.flips = GradientFlips(self.parameters, flip_masks(self.networks[0], self.config.flips))
        self.batches = StackedBatches(
            first.train_set,
            self.seeds,
            batch_size=self.config.batch_size,
            augmentation=self.config.augmentation,
        )
        shape = len(sessions), self.config.num_steps
        self.loss = torch.full(shape, torch.nan, device=self.device)
        self.accuracy = self.loss.clone()
        self.learning_rate = torch.full(shape, torch.nan, dtype=torch.float64)
        self.batch_checksum = torch.zeros(shape, dtype=torch.int64)
        for place, session in enumerate(sessions):
            for name in ("loss", "accuracy", "learning_rate", "batch_checksum"):
                setattr(session.history, name, getattr(self, name)[place])

    def update(self, step: int) -> None:
        """Do one training step (0 is the first) of every network."""
        config = self.config
        indices = self.batches.indices(step)
        factor = config.schedule.factor(
            step, num_steps=config.num_steps, steps_per_epoch=self.batches.steps_per_epoch
        )
        set_learning_rates(self.optimiser, factor)
        if self.forward.draws:
            self.forward.streams.begin([noise_seed(seed, step) for seed in self.seeds])

        images, labels = self.batches.at(step, indices)
        with self.sessions[0].arithmetic.autocast(self.device):
            logits = self.forward(self.parameters, self.buffers, images)
        flat = functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="none"
        )
        losses = flat.view(labels.shape).mean(1)
        self.optimiser.zero_grad(set_to_none=True)
        if self.forward.needs_targets:
            for network, classes in zip(self.networks, labels, strict=True):
                present_targets(network, classes)
        losses.sum().backward()
        self.flips.apply()
        self.optimiser.step()

        self.loss[:, step] = losses.detach()
        self.accuracy[:, step] = (logits.detach().argmax(2) == labels).float().mean(1)
        self.learning_rate[:, step] = config.optimiser.learning_rate * factor
        checksums = [zlib.crc32(own.tobytes()) for own in indices.numpy()]
        self.batch_checksum[:, step] = torch.tensor(checksums)

    def look(self, step: int) -> bool:
        """Check and validate every network after `step` updates; tell if it was validated.

        A network whose loss or weights are not finite is noted in `errors` and looked at no more.
        """
        validates = False
        for place, session in enumerate(self.sessions):
            if place not in self.errors:
                try:
                    validates = session.look(step)
                except NonFiniteLossError as error:
                    self.errors[place] = error
        return validates

    def separate(self) -> None:
        """Give every network its tensors in memory of its own, and leave it for evaluation."""
        for network in self.networks:
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.clone()
            network.eval().zero_grad(set_to_none=True)


def _stacked_optimiser(
    session: Session, parameters: dict[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """Make the optimiser of stacked parameters, in the groups of a single network's optimiser."""
    alone = session.optimiser
    of = {id(own): parameters[name] for name, own in session.network.named_parameters()}
    groups = [
        {**group, "params": [of[id(parameter)] for parameter in group["params"]]}
        for group in alone.param_groups
    ]
    kind: Any = type(alone)
    return kind(groups)
