"""Which synapses of which layers learn with the wrong sign."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.neurons import Chosen, check_chosen, check_strength, chosen_neurons


@dataclass(frozen=True, kw_only=True)
class FlipSpec:
    """Which synapses of which layers learn with the wrong sign (curl descent, arXiv:2510.02765).

    The gradient of the weight is multiplied by a diagonal matrix D, from the right (presynaptic:
    all synapses *from* a flipped neuron, G ← G D, the authors' rule) or from the left
    (postsynaptic: all synapses *onto* it, and its bias, G ← D G). D is 1 - 2 `strength` for flipped
    neurons and 1 for all others. A bias has no presynaptic neuron and is not flipped by that side.
    For a convolution neurons are channels.

    Parameters
    ----------
    layer
        Name as in ``network.named_modules()`` or pattern with ``*``, ``?``, ``[…]`` of linear
        layers and convolutions (with or without a pathway).
    side
        Whether the layer's inputs or its outputs are counted.
    fraction, count, indices
        How many neurons are flipped, as a fraction (to the nearest whole number, of halves the even
        one: 0.01 of 16 neurons flips none) or as a count, or which ones. One of the three is given.
    strength
        ρ from 0 (no flip) over 0.5 (frozen: these synapses do not learn) to 1 (the sign is wrong).
    seed
        For the draw of the flipped neurons; ``None`` takes the first ones, as the authors do (of
        independent weights these are as good as any). Layers of one pattern and one size get the
        same draw; so do runs with other seeds of their own.

    Raises
    ------
    ValueError
        If not exactly one of `fraction`, `count` and `indices` is given, or one is out of range.

    Examples
    --------
    >>> FlipSpec(layer="readout", fraction=0.1).strength
    1.0
    """

    layer: str
    side: Literal["presynaptic", "postsynaptic"] = "presynaptic"
    fraction: float | int | None = None
    count: int | None = None
    indices: tuple[int, ...] | None = None
    strength: float | int = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        check_choice("side", self.side, ("presynaptic", "postsynaptic"))
        ways = {name: getattr(self, name) for name in ("fraction", "count", "indices")}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"{ways}: exactly one of fraction, count and indices must be given")
        if self.count is not None and not hasattr(self.count, "__index__"):
            raise ValueError(f"count={self.count} must be a whole number")
        check_chosen(*self._chosen())
        check_strength(self.strength)
        if self.seed is not None and self.indices is not None:
            raise ValueError(
                f"seed={self.seed} must be None, indices say which neurons are flipped"
            )

    def diagonal(self, num_neurons: int) -> Tensor:
        """Return the diagonal of D for a layer of that many neurons on the flipped side, float64.

        Raises
        ------
        ValueError
            If more neurons are to be flipped than there are.

        Examples
        --------
        >>> FlipSpec(layer="0", fraction=0.5).diagonal(4).tolist()
        [-1.0, -1.0, 1.0, 1.0]
        """
        name, chosen = self._chosen()
        about = f"layer={self.layer!r}, {self.side}: {name}"
        neurons = chosen_neurons(about, chosen, num_neurons)
        order = torch.arange(num_neurons)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
            order = torch.randperm(num_neurons, generator=generator)
        diagonal = torch.ones(num_neurons, dtype=torch.float64)
        diagonal[order[neurons]] = 1 - 2 * float(self.strength)
        return diagonal

    def _chosen(self) -> tuple[str, Chosen]:
        """Return which of the three ways says what is flipped, and what it says."""
        if self.fraction is not None:
            # as a float: one is all neurons here
            return "fraction", float(self.fraction)
        if self.count is not None:
            return "count", self.count
        return "indices", self.indices or ()
