"""What every pathway is: a module beside a layer that takes the layer's error back to its input."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofb.feedback.stage import Stage
from neurofb.feedback.trace import Call
from neurofb.networks.svd_factors import SVDLayer


@dataclass(frozen=True)
class Site:
    """Where a pathway is put: a module, its forward map, a seed of its own, what was traced.

    `seed` depends on the seed given to `attach` and on the name; `calls` is empty when no example
    input was given; `modules` are all of the network, by name.
    """

    name: str
    layer: nn.Module
    stage: Stage
    seed: int
    calls: Mapping[str, Call]
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def generator(self) -> torch.Generator:
        """A new generator, the same at every call: for the start of the matrices."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def weight(self) -> Tensor:
        """The layer's weight, detached; of a factored layer W = U diag(s) Vᵀ."""
        if isinstance(self.layer, SVDLayer):
            return self.layer.dense_weight().detach()
        return self.layer.get_parameter("weight").detach()

    def check_weight(self) -> None:
        """Refuse a weight of zeros: feedback that takes its size from it would stay zero for good.

        Raises
        ------
        ValueError
            If all entries of the weight are zero.
        """
        if not bool(self.weight.any()):
            raise ValueError(
                f"layer {self.name!r}: its weight is zero everywhere, and the pathway would take "
                "its size from it; give the weight its start before attaching"
            )

    @property
    def like(self) -> Tensor:
        """A tensor of the module's dtype and device: its first parameter."""
        return next((p.detach() for p in self.layer.parameters()), torch.zeros(()))


class Pathway(nn.Module):
    """Base of the pathways: holds the feedback matrices, counts how often it fired.

    A pathway never takes part in a forward pass. The layer calls `backward` once per backward pass
    (a direct one is called by its source, see `neurofb.feedback.route`). Matrices that learn by an
    optimiser are parameters, all others are buffers.
    """

    #: name of the rule, as `describe` prints it
    rule: str = ""
    #: whether the forward weights are read (weight transport): all of them, or only their signs or
    #: their norm
    transports_weights: bool | Literal["signs", "norm"] = False
    #: name of the layer whose error is used, if it is not the layer's own
    source: str | None = None
    #: whether `backward` reads the weight that it is given (a factored layer would have to form it)
    reads_weight: bool = True

    def __init__(self, layer_name: str) -> None:
        super().__init__()
        self.layer_name = layer_name
        self.fired = 0
        #: casts of fixed matrices below their own precision: matrix, its version, cast
        self.casts: dict[str, tuple[Tensor, int, Tensor]] = {}
        #: the classes of the present batch, for a pathway that needs them
        self.targets: Tensor | None = None

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return the error at the layer's input and a pseudo-gradient for each of `learned`.

        Parameters
        ----------
        h
            The layer's input.
        delta
            The error at the layer's output (its pre-activation).
        weight, stage
            The forward map.
        grad_weight
            δ hᵀ, the weight's own gradient, if it was asked for: rules whose synapses see the same
            h and δ learn from it instead of forming the product again.
        """
        raise NotImplementedError

    def kernel(self, weight: Tensor) -> Tensor | None:
        """Return the kernel, in the layout of W, whose transpose δ goes through.

        None for a direct pathway, which has no counterpart in one weight.
        """
        del weight
        return None

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """The matrices that receive pseudo-gradients, in the order `backward` returns them."""
        return ()

    @property
    def needs_targets(self) -> bool:
        """Whether the classes must be shown before every backward pass (`present_targets`)."""
        return bool(getattr(getattr(self, "learning", None), "needs_targets", False))

    def one_hot(self, like: Tensor) -> Tensor:
        """Return the presented classes as one-hot vectors of the shape of an output's error.

        They are good for one backward pass: labels of an old batch are never used again.

        Raises
        ------
        ValueError
            If no classes were presented, or they do not fit the output.
        """
        targets, self.targets = self.targets, None
        if targets is None:
            raise ValueError(
                f"layer {self.layer_name!r}: its pathway needs the classes; call "
                "neurofb.feedback.present_targets(network, labels) before the backward pass"
            )
        if like.dim() != 2 or targets.shape != like.shape[:1]:
            raise ValueError(
                f"layer {self.layer_name!r}: classes of shape {tuple(targets.shape)} were presented"
                f" for an output of shape {tuple(like.shape)}; it must be (samples, classes)"
            )
        return functional.one_hot(targets, like.shape[1]).to(like.dtype)

    def get_extra_state(self) -> dict[str, int]:
        """Return what a checkpoint keeps beside the matrices."""
        return {"fired": self.fired}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Set what a checkpoint has kept beside the matrices."""
        self.fired = int(state["fired"])

    def cast(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a feedback matrix in a dtype; of one that has not changed the cast is kept."""
        matrix = self.get_buffer(name) if name in self._buffers else self.get_parameter(name)
        if matrix.dtype == dtype:
            return matrix.detach()
        if name not in self._buffers:
            return matrix.detach().to(dtype)
        kept = self.casts.get(name)
        if kept is None or kept[0] is not matrix or kept[1] != matrix._version:
            kept = matrix, matrix._version, matrix.to(dtype)
            self.casts[name] = kept
        return kept[2] if kept[2].dtype == dtype else matrix.to(dtype)

    def hold(self, name: str, value: Tensor, learned: bool) -> None:
        """Register a feedback matrix: a parameter if an optimiser moves it, else a buffer."""
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)


def uniform(
    shape: tuple[int, ...], bound: float, generator: torch.Generator, like: Tensor
) -> Tensor:
    """Draw from U(−bound, bound) on the CPU, then move to the dtype and device of `like`."""
    value = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 * bound - bound
    return value.to(like)
