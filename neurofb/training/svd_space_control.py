"""What is done to a factored network around each step of the optimiser: SSA's training."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from neurofb.feedback import exact_backward
from neurofb.feedback.svd_space import SVDSpacePathway
from neurofb.networks.factorised import factored_layers
from neurofb.networks.svd_factors import SVDLayer
from neurofb.training.config import TrainingConfig
from neurofb.training.factor_pairs import aligned_pairs, moving_pairs, pathway_of, teachers
from neurofb.training.local_losses import (
    cosine_term,
    frobenius_term,
    hoyer_term,
    orthogonality_term,
    subspace_term,
)
from neurofb.training.orthogonality import nearest_orthonormal, orthonormal_factor, tangent
from neurofb.training.rank_cut import check_state, cut_layer, strengths
from neurofb.training.rank_schedule import next_rank, strongest
from neurofb.training.svd_space import SVDSpaceTraining

_RETRACTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "retract": orthonormal_factor,
    "polar": nearest_orthonormal,
}


class StepControl:
    """What surrounds a step of the optimiser; this one, of dense networks, does nothing.

    Examples
    --------
    >>> StepControl().after_step(1)
    """

    def watching(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return nullcontext()

    def after_backward(self, share: float = 1.0) -> None:
        """Add gradients that follow from this process's own samples."""

    def before_step(self) -> None:
        """Change the gradients, which are averaged over processes by now."""

    def after_step(self, step: int) -> None:
        """Change weights and feedback after `step` updates."""


class SVDSpaceControl(StepControl):
    """The control of a run that trains factors; `train` makes one, a loop of your own needs one.

    Without it factors train as they are: U and V do not stay orthonormal, and no error says so. Its
    calls surround a step: `watching` the forward pass, `after_backward`, then (with gradients
    averaged over processes) `before_step`, the optimiser's step, `after_step`. All it does follows
    from weights and gradients, so every process does the same, and all it needs to go on after a
    break is in the network and the optimiser.

    Parameters
    ----------
    network
        With its pathways attached and the ranks that it starts with.
    optimiser
        Of the network; its state is cut along with the factors.
    settings
        What is done.
    num_steps, steps_per_epoch
        Of the run, for the rank schedule.

    Raises
    ------
    ValueError
        If the network has no factored layer, or the settings ask for the alignment or the update
        of feedback that has no factors of the right shapes; the layer is named.

    Examples
    --------
    A loop of your own:

    >>> from neurofb.feedback import SVDSpace, attach, detach
    >>> from neurofb.networks import factorise, fold
    >>> network = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
    >>> network = attach(factorise(network, rank=2), {"2": SVDSpace()})
    >>> optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> control = SVDSpaceControl(
    ...     network, optimiser, SVDSpaceTraining(), num_steps=10, steps_per_epoch=5
    ... )
    >>> for step in range(10):
    ...     with control.watching():
    ...         logits = network(torch.randn(6, 8))
    ...     optimiser.zero_grad()
    ...     nn.functional.cross_entropy(logits, torch.arange(6) % 3).backward()
    ...     control.after_backward()
    ...     control.before_step()
    ...     optimiser.step()
    ...     control.after_step(step + 1)
    >>> u = network[0].U.detach()
    >>> torch.allclose(u.T @ u, torch.eye(2), atol=1e-5)
    True
    >>> [type(layer).__name__ for layer in fold(detach(network))]
    ['Sequential', 'ReLU', 'Linear']
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        settings: SVDSpaceTraining,
        *,
        num_steps: int,
        steps_per_epoch: int,
    ):
        self.network, self.settings, self.optimiser = network, settings, optimiser
        self.num_steps, self.steps_per_epoch = num_steps, steps_per_epoch
        self.layers = factored_layers(network)
        if not self.layers:
            raise ValueError(
                "svd_space: the network has no factored layer to act on; RunConfig.factorised or "
                "neurofb.networks.factorise makes them"
            )
        self.start_ranks = {name: layer.rank for name, layer in self.layers.items()}
        self.pairs = aligned_pairs(network, settings)
        self.moving = moving_pairs(network, settings)
        self.before: list[Tensor] = []
        self.seen: dict[SVDLayer, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep inputs and outputs of the layers in a forward pass, for the cosine term."""
        self.seen.clear()
        layers = self.layers.values() if self.settings.cosine_weight else ()
        hooks = [layer.register_forward_hook(self._keep) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def after_backward(self, share: float = 1.0) -> None:
        """Add the gradients of the cosine term, of this process's samples.

        Parameters
        ----------
        share
            What makes the average over processes that of the batch.
        """
        for layer, (h, delta) in self.seen.items():
            with exact_backward(layer), torch.enable_grad():
                a = layer(h.to(layer.s.dtype))
            gradient = cosine_term(a, delta.to(a.dtype))[1]
            parameters = [p for p in layer.parameters(recurse=False) if p.requires_grad]
            parts = torch.autograd.grad(a, parameters, gradient)
            for parameter, part in zip(parameters, parts, strict=True):
                _add(parameter, share * self.settings.cosine_weight * part)
        self.seen.clear()

    def before_step(self) -> None:
        """Add the gradients of the other terms, and project on the tangent space."""
        chosen = self.settings
        align = frobenius_term if chosen.alignment == "frobenius" else subspace_term
        for pair in self.pairs:
            _add(pair.factor, chosen.alignment_weight * align(pair.factor, pair.target)[1])
        for layer in self.layers.values():
            if chosen.hoyer_weight:
                _add(layer.s, chosen.hoyer_weight * hoyer_term(layer.s)[1])
            for factor in (layer.U, layer.V):
                if chosen.orthogonality == "soft":
                    weight = chosen.orthogonality_weight
                    _add(factor, weight * orthogonality_term(factor)[1])
                if chosen.tangent and factor.grad is not None:
                    factor.grad = tangent(factor.grad, factor.detach())
        self.before = [pair.factor.detach().clone() for pair in self.moving]

    def after_step(self, step: int) -> None:
        """Retract, update the feedback, and cut the rank where one is due after `step` updates."""
        retract = _RETRACTIONS.get(self.settings.orthogonality)
        if retract is not None:
            for layer in self.layers.values():
                for factor in (layer.U, layer.V):
                    if factor.requires_grad:
                        factor.data.copy_(retract(factor.detach()))
        self._move_feedback()
        schedule = self.settings.rank_schedule
        if schedule is None:
            return
        for layer in self.layers.values():
            for factor in (layer.U, layer.s, layer.V):
                check_state(self.optimiser, factor)
        times = {"num_steps": self.num_steps, "steps_per_epoch": self.steps_per_epoch}
        cut = schedule.num_cuts(step, **times)
        for name, layer in self.layers.items() if cut else ():
            strength = strengths(layer)
            rank = next_rank(schedule, strength, self.start_ranks[name], cut)
            if rank < layer.rank:
                self._cut(name, strongest(strength, rank))

    @torch.no_grad()
    def _move_feedback(self) -> None:
        """Let the feedback's factors track those of the weights, or share their change."""
        rate = self.settings.feedback_rate
        for pair, old in zip(self.moving, self.before, strict=True):
            goal = pair.factor if self.settings.feedback == "track" else old
            moved = pair.target + rate * (goal - pair.target)
            if self.settings.feedback == "kolen_pollack":
                moved += pair.factor - old
            pair.target.copy_(moved)
        self.before = []

    def _cut(self, name: str, keep: Tensor) -> None:
        """Cut a layer, its own pathway, and the direct ones that teach it."""
        layer = self.layers[name]
        rank, own = layer.rank, pathway_of(layer)
        cut_layer(layer, keep, self.optimiser)
        if isinstance(own, SVDSpacePathway):
            own.truncate(keep)
        for pathway in teachers(self.network, name):
            if pathway.B_U.shape[1] == rank:  # else its rank is one of its own
                pathway.truncate(keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        """Keep a layer's input, and the error at its output when it comes."""
        assert isinstance(layer, SVDLayer)
        h = inputs[0].detach()
        if out.requires_grad:
            out.register_hook(lambda delta: self.seen.update({layer: (h, delta.detach())}))


def control(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: TrainingConfig,
    steps_per_epoch: int,
) -> StepControl:
    """Return the control that a run's settings ask for.

    Raises
    ------
    ValueError
        As `SVDSpaceControl`.

    Examples
    --------
    >>> network = nn.Linear(3, 2)
    >>> optimiser = torch.optim.SGD(network.parameters())
    >>> type(control(network, optimiser, TrainingConfig(), 10)).__name__
    'StepControl'
    """
    if config.svd_space is None:
        return StepControl()
    times = {"num_steps": config.num_steps, "steps_per_epoch": steps_per_epoch}
    return SVDSpaceControl(network, optimiser, config.svd_space, **times)


def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to a parameter's gradient; a frozen parameter has none."""
    if parameter.requires_grad:
        gradient = gradient.to(parameter.dtype)
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
