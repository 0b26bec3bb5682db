"""Which synapses of a two-layer network learn with the wrong sign."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from neurofb.choices import check_choice
from neurofb.neurons import Chosen, check_chosen, check_strength, chosen_neurons

Side = Literal["presynaptic", "postsynaptic"]


class Signs(NamedTuple):
    """Factors of the update of one layer: that of synapse ji is ``rows[j] * columns[i]``.

    ``rows`` (neurons of the layer) and ``columns`` (its inputs) are 1 where nothing is flipped.
    """

    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Flips:
    """The neurons whose synapses descend with another sign: curl descent (arXiv:2510.02765).

    A presynaptic flip multiplies a *column* of a layer's update, all synapses that leave a neuron:
    ``dW1 = -η g1 D1`` and ``dW2 = -η g2 D2``, D diagonal. D1 therefore belongs to the **input**
    neurons (their synapses onto the hidden layer; the paper's "hidden layer flips") and D2 to the
    **hidden** neurons (their synapses onto the readout; the paper's "readout flips"). A
    postsynaptic flip multiplies a *row*, all synapses that reach a neuron: D1 belongs to the hidden
    neurons then, D2 to the outputs.

    Parameters
    ----------
    hidden
        What is flipped in D1: a fraction (float from 0 to 1, rounded to the nearest number of
        neurons, of halves the even one: 0.04 of 10 neurons flips none), a number of neurons (int),
        or their indices (tuple). Of a fraction or a number, the first neurons: weights are drawn
        alike, so it does not matter which.
    readout
        The same for D2.
    side
        Whether D1 and D2 flip columns or rows.
    strength
        ρ from 0 to 1: D is 1 − 2ρ on the chosen neurons. 1 flips, 1/2 freezes, 0 does nothing.

    Raises
    ------
    ValueError
        If a fraction or the strength lies outside [0, 1], a number is negative, an index is
        negative or named twice, or `side` is neither of the two; by `signs`, if there are not that
        many neurons.

    Examples
    --------
    >>> hidden, readout = Flips(hidden=0.5, readout=(2,)).signs(4, 3, 1)
    >>> hidden.columns.tolist(), readout.columns.tolist()
    ([-1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0])
    >>> Flips(readout=1).label(100, 10, 1)
    'readout 1/10'
    """

    hidden: Chosen = 0.0
    readout: Chosen = 0.0
    side: Side = "presynaptic"
    strength: float | int = 1.0

    def __post_init__(self) -> None:
        for name in ("hidden", "readout"):
            check_chosen(name, getattr(self, name))
        check_choice("side", self.side, Side)
        check_strength(self.strength)

    def signs(self, num_inputs: int, num_hidden: int, num_outputs: int) -> tuple[Signs, Signs]:
        """Return the factors of the update of W1 (num_hidden, num_inputs) and of W2.

        Raises
        ------
        ValueError
            If more neurons are chosen than there are.
        """
        sizes = (num_inputs, num_hidden, num_outputs)
        return (
            self._signs("hidden", rows=sizes[1], columns=sizes[0]),
            self._signs("readout", rows=sizes[2], columns=sizes[1]),
        )

    def counts(self, num_inputs: int, num_hidden: int, num_outputs: int) -> tuple[int, int]:
        """Return how many neurons are chosen in D1 and in D2."""
        first, second = self.among(num_inputs, num_hidden, num_outputs)
        hidden = chosen_neurons("hidden", self.hidden, first)
        return len(hidden), len(chosen_neurons("readout", self.readout, second))

    def among(self, num_inputs: int, num_hidden: int, num_outputs: int) -> tuple[int, int]:
        """Return of how many neurons D1 and D2 choose."""
        if self.side == "presynaptic":
            return num_inputs, num_hidden
        return num_hidden, num_outputs

    def label(self, num_inputs: int, num_hidden: int, num_outputs: int) -> str:
        """Return what is flipped in words: the name of this condition in results."""
        counts = self.counts(num_inputs, num_hidden, num_outputs)
        if not any(counts) or self.strength == 0:
            return "no flips"
        sizes = self.among(num_inputs, num_hidden, num_outputs)
        parts = []
        for name, count, size in zip(("hidden", "readout"), counts, sizes, strict=True):
            chosen = getattr(self, name)
            which = f" ({', '.join(map(str, chosen))})" if isinstance(chosen, tuple) else ""
            if count:
                parts.append(f"{name} {count}/{size}{which}")
        if self.side == "postsynaptic":
            parts.append("postsynaptic")
        if self.strength != 1:
            parts.append("frozen" if self.strength == 0.5 else f"strength {self.strength:g}")
        return ", ".join(parts)

    def _signs(self, name: str, *, rows: int, columns: int) -> Signs:
        """Return the factors of one layer."""
        signs = Signs(np.ones(rows), np.ones(columns))
        vector = signs.columns if self.side == "presynaptic" else signs.rows
        vector[chosen_neurons(name, getattr(self, name), len(vector))] = 1 - 2 * self.strength
        return signs
