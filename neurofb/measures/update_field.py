"""The update that a network's own rule makes, as a vector field on its parameters."""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from neurofb.choices import check_choice
from neurofb.feedback import (
    exact_backward,
    feedback_layers,
    pathway_parameters,
    present_targets,
)
from neurofb.training import FlipSpec, flip_gradients, flip_masks

#: what is descended: the mean cross-entropy, or ½|y − y*|² of one-hot or given targets
Loss = Literal["cross_entropy", "mse"]
#: which parameters make up θ: the network's alone, or those of its pathways too
Parameters = Literal["weights", "all"]


def update_field(
    network: nn.Module,
    images: Float[Tensor, "image *shape"],
    labels: Int[Tensor, " image"] | Float[Tensor, "image num_outputs"],
    *,
    loss: Loss = "cross_entropy",
    parameters: Parameters = "weights",
    flips: Sequence[FlipSpec] = (),
    seed: int = 0,
) -> tuple["UpdateField", Float[Tensor, " p"]]:
    """Return the update of a network as a function of its parameters, and the parameters.

    The update is minus what arrives in ``.grad`` when these images go forwards and the error takes
    the pathways back, as attached; for backpropagation it is −∇L. What an optimiser makes of it
    (momentum, Adam, decay, a rate for each group) and what a training session does to factors
    after a step is not in it.

    The field computes on a copy in float64 and in training mode, and the same parameters always
    give the same update: buffers (running statistics, matrices that a pathway refreshes), counts of
    backward passes and the noise of dropout and of pathways start from the same state at every
    call. The network itself is never touched.

    Parameters
    ----------
    network
        Maps images to outputs (logits); with pathways or without.
    images, labels
        The batch: classes, or targets of the outputs (with ``loss="mse"``).
    loss
        ``"cross_entropy"``, the mean over images; ``"mse"``, the mean over images of ½|y − y*|².
    parameters
        ``"weights"``: all parameters that learn but those of pathways; feedback matrices are part
        of the field and stand still. ``"all"``: learning feedback matrices are coordinates too, and
        their pseudo-gradients (Oja, Kolen-Pollack, …) part of the update.
    flips
        Synapses that learn with the wrong sign (`neurofb.training.flips.FlipSpec`).
    seed
        Of the noise of dropout.

    Returns
    -------
    tuple
        The field, and θ as one vector in float64, on the network's device.

    Raises
    ------
    ValueError
        If there are no images, or not a label for each, a label is no class, a setting is unknown,
        nothing learns, or the network cannot be copied.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> field, theta = update_field(net, torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))
    >>> theta.shape, torch.equal(field(theta), -field.gradient(theta))
    (torch.Size([17]), True)
    """
    check_choice("loss", loss, Loss)
    check_choice("parameters", parameters, Parameters)
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"images and labels must be equally many and at least one, not {len(images)} images "
            f"and {len(labels)} labels"
        )
    if labels.is_floating_point() and loss != "mse":
        raise ValueError("labels that are targets and no classes need loss='mse'")
    field = UpdateField(network, images, labels, loss, parameters, flips, seed)
    return field, field.theta()


class UpdateField:
    """The field that `update_field` returns: θ → v(θ), with what belongs to it.

    Attributes
    ----------
    names
        Of the parameters that make up θ, in order.
    signs
        (p,) D of the flips: −1 for what learns with the wrong sign, 1 for all else.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        loss: Loss,
        parameters: Parameters,
        flips: Sequence[FlipSpec],
        seed: int,
    ) -> None:
        try:
            self._network = copy.deepcopy(network).double().train()
        except RuntimeError as error:
            raise ValueError(
                f"network of class {type(network).__name__} cannot be copied: {error}"
            ) from error
        own = {id(matrix) for matrix in pathway_parameters(self._network)}
        chosen = {
            name: parameter
            for name, parameter in self._network.named_parameters()
            if parameter.requires_grad and (parameters == "all" or id(parameter) not in own)
        }
        if not chosen:
            raise ValueError("network has no parameter that learns")
        self.names, self._parameters = tuple(chosen), tuple(chosen.values())
        self._sizes = [parameter.numel() for parameter in self._parameters]
        device = self._parameters[0].device
        self._images = images.detach().to(device, torch.float64)
        self._labels = labels.detach().to(device)
        self._loss: Loss = loss
        self._flips = flip_gradients(self._network, flips)
        masks, one = flip_masks(self._network, flips), torch.ones((), dtype=torch.float64)
        signs = [masks.get(name, one).expand(p.shape) for name, p in chosen.items()]
        self.signs = torch.cat([sign.flatten() for sign in signs]).to(device)
        self._buffers = [(b, b.detach().clone()) for b in self._network.buffers()]
        self._fired = [(m.pathway, m.pathway.fired) for _, m in feedback_layers(self._network)]
        self._seed, self._devices = seed, [device] if device.type == "cuda" else []

    def theta(self) -> Float[Tensor, " p"]:
        """Return the parameters that the copy has now: at first the network's own."""
        return torch.cat([p.detach().flatten() for p in self._parameters])

    def __call__(self, theta: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return the update −D g, with g what arrives in ``.grad`` by the pathways."""
        self._pass(theta)
        self._flips.apply()
        return -self._gradients()

    def gradient(self, theta: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return ∇L by backpropagation, whatever pathways and flips there are."""
        with exact_backward(self._network):
            self._pass(theta)
        return self._gradients()

    def loss(self, theta: Float[Tensor, " p"]) -> float:
        """Return the loss on the images."""
        return float(self._pass(theta))

    @torch.no_grad()
    def _set(self, theta: Tensor) -> None:
        """Write θ into the copy, and bring everything else back to where it was."""
        for parameter, part in zip(self._parameters, theta.split(self._sizes), strict=True):
            parameter.copy_(part.view_as(parameter))
            parameter.grad = None
        for buffer, start in self._buffers:
            buffer.copy_(start)
        for pathway, fired in self._fired:
            pathway.fired = fired

    def _pass(self, theta: Tensor) -> Tensor:
        """Send the images forwards and the error back; return the loss."""
        if theta.shape != self.signs.shape:
            raise ValueError(f"theta of shape {tuple(theta.shape)} must be {self.signs.shape}")
        self._set(theta)
        with torch.enable_grad(), torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(self._seed)
            outputs = self._network(self._images)
            loss = self._of(outputs)
            if not self._labels.is_floating_point():
                present_targets(self._network, self._labels)
            loss.backward()
        return loss.detach()

    def _of(self, outputs: Tensor) -> Tensor:
        """Return the loss of outputs, whose labels are checked."""
        if self._labels.is_floating_point():
            if self._labels.shape != outputs.shape:
                raise ValueError(
                    f"labels of shape {tuple(self._labels.shape)} must have the shape of the "
                    f"outputs, {tuple(outputs.shape)}"
                )
            targets = self._labels.double()
        else:
            low, high = (int(end) for end in self._labels.aminmax())
            if low < 0 or high >= outputs.shape[1]:
                raise ValueError(
                    f"labels from {low} to {high} must be classes of the network, 0 to "
                    f"{outputs.shape[1] - 1}"
                )
            if self._loss == "cross_entropy":
                return functional.cross_entropy(outputs, self._labels)
            targets = functional.one_hot(self._labels, outputs.shape[1]).double()
        return (outputs - targets).square().sum() / (2 * len(outputs))

    def _gradients(self) -> Tensor:
        """Return what stands in ``.grad``, zero where nothing arrived."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        return torch.cat([part.flatten() for part in parts]).clone()
