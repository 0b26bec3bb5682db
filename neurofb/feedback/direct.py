"""Direct low-rank feedback: dLDFA, an error sent from a later layer to a layer's input."""

import math
import weakref
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator
from torch import Tensor, nn

from neurofb.feedback.factored_kolen_pollack import FactoredKolenPollack
from neurofb.feedback.factors import ConvolutionFactors, DenseFactors
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.low_rank import LowRankPathway, allowed_rank, check_rank, random_factors
from neurofb.feedback.oja import Oja
from neurofb.feedback.pathway import Box, Pathway, Site
from neurofb.feedback.stage import Convolution, Stage, padding_before


@dataclass(frozen=True, kw_only=True)
class Direct:
    """dLDFA: g = Q P e, with e the error at a named later layer (Hanut & Kadmon 2025, Eq. 16).

    The error δ that reaches this layer's own output still teaches this layer's weight; what goes
    on to the layer's input is Q P e instead of Wᵀ δ. Q is (n_in, r), P is (r, n_source). With a
    convolution's map as the source of a convolution, P is 1×1 and Q has the layer's kernel (or the
    reverse); source and layer output must then have equal height and width. In every other case
    maps are flattened. (The equation is reconstructed from the authors' code.)

    Parameters
    ----------
    source
        Name of the source layer: "readout" for the output error, the penultimate layer, a map.
        e is the gradient at the *output* of that module, so its pre-activation.
    rank
        r; the source's number of units makes the feedback matrix dense.
    learning
        `Oja` (P on e by Oja, Q by Kolen-Pollack), `KolenPollack` (Q only), `FactoredKolenPollack`
        or `Fixed`. (Oja divides e by its largest standard deviation; the authors' direct code by
        each unit's own.) (DFA of
        Nøkland 2016 is a fixed dense map from the output.)
    spatial_factor, clip_rank
        As for `LowRank`.

    Raises
    ------
    ValueError
        If the rank is below 1 (here) or too large, the source is unknown, not downstream of the
        layer, or has a map that does not fit (at attachment).

    Examples
    --------
    >>> Direct(source="hidden", rank=64).source
    'hidden'
    """

    rule: Literal["direct"] = "direct"
    source: str
    rank: int
    learning: Annotated[
        Fixed | Oja | KolenPollack | FactoredKolenPollack, Discriminator("rule")
    ] = Oja()
    spatial_factor: Literal["Q", "P"] = "Q"
    clip_rank: bool = False

    def __post_init__(self) -> None:
        check_rank(self.rank)

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        own, source = self._check(site)
        h, delta, e = own.input_shape, own.output_shape, source.output_shape
        if isinstance(site.stage, Convolution) and len(e) == 4:
            if delta[2:] != e[2:]:
                raise ValueError(
                    f"layer {site.name!r}: the map of source {self.source!r} is "
                    f"{tuple(e[2:])} but must be {tuple(delta[2:])}, as the layer's own output"
                )
            kernel = site.weight.shape
            stage = Convolution(site.stage.stride, site.stage.padding, site.stage.dilation)
            shape = (e[1], h[1], kernel[2], kernel[3])
            factors = ConvolutionFactors(shape, stage, self.spatial_factor)
        else:
            if isinstance(site.layer, nn.Conv2d) and padding_before(site.layer) is not None:
                raise ValueError(
                    f"layer {site.name!r}: a direct pathway from flattened units needs padding "
                    "with zeros, equal on both sides"
                )
            factors = DenseFactors(n_in=math.prod(h[1:]), n_out=math.prod(e[1:]))
        rank = allowed_rank(site.name, self.rank, factors.max_rank, self.clip_rank)
        q, p = random_factors(factors, rank, site.generator, site.weight)
        label = f"direct r={rank} [{self.learning.rule}]"
        pathway = DirectPathway(site.name, label, factors, rank, self.learning, q, p)
        pathway.source = self.source
        return pathway

    def _check(self, site: Site) -> tuple[Any, Any]:
        """Return the calls of the layer and of the source, or say what is wrong with them."""
        if not site.calls:
            raise ValueError(
                f"layer {site.name!r}: a direct pathway needs example_input=, a batch for which "
                "the shapes of the layer and of its source are traced"
            )
        if self.source not in site.calls:
            ran = ", ".join(name for name in site.calls if name)
            raise ValueError(
                f"layer {site.name!r}: source={self.source!r} does not run in the forward pass; "
                f"modules that do: {ran}"
            )
        own, source = site.calls[site.name], site.calls[self.source]
        if source.position <= own.position:
            raise ValueError(
                f"layer {site.name!r}: source={self.source!r} is not downstream of the layer"
            )
        for name, call in ((site.name, own), (self.source, source)):
            if call.count != 1:
                raise ValueError(
                    f"layer {name!r} runs {call.count} times in a forward pass; a direct pathway "
                    "needs its layer and its source to run once"
                )
        h, e = tuple(own.input_shape), tuple(source.output_shape)
        if len(h) < (4 if isinstance(site.stage, Convolution) else 2):
            raise ValueError(
                f"layer {site.name!r}: an input of shape {h} has no batch dimension, which a "
                "direct pathway needs"
            )
        if h[0] != e[0]:
            raise ValueError(
                f"layer {site.name!r}: its input {h} and the output {e} of source "
                f"{self.source!r} must have equally many samples (first dimension)"
            )
        return own, source


class DirectPathway(LowRankPathway):
    """Takes the source's error through Q P to the layer's input."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.box: Box | None = None
        self._open: list[weakref.ref[Box]] = []

    def open_box(self) -> Box:
        """Open a box for this forward pass; the source's backward pass will fill it."""
        box = Box()
        self._open.append(weakref.ref(box))
        return box

    def take_box(self) -> Box:
        """Hand the box of this forward pass to the source."""
        # Older boxes are of passes that were broken off. (If the layer ran twice in this pass, its
        # first box stays empty, and the backward pass says so.)
        box = self._open[-1]() if self._open else None
        self._open.clear()
        if box is None:
            raise ValueError(
                f"layer {self.layer_name!r} did not run before its source {self.source!r} in a "
                "forward pass; a direct pathway needs each of them exactly once, the source "
                "downstream of the layer"
            )
        return box

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor | None,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Q P e in the shape of h, and the pseudo-gradients of Q and P."""
        box, self.box = self.box, None
        if box is None or box.delta is None:
            raise ValueError(
                f"layer {self.layer_name!r}: no error came from source {self.source!r} in this "
                "backward pass; the loss must depend on the layer through its source, and the "
                "layer must run once in a forward pass"
            )
        error, box.delta = box.delta.to(delta.dtype), None
        if isinstance(self.factors, ConvolutionFactors):
            return super().backward(h, error, None, stage)
        sizes = h[0].numel(), error[0].numel()
        if sizes != (self.factors.n_in, self.factors.n_out):
            raise ValueError(
                f"layer {self.layer_name!r}: {sizes[0]} inputs and {sizes[1]} units of source "
                f"{self.source!r} a sample, but attached for {self.factors.n_in} and "
                f"{self.factors.n_out}"
            )
        g, learned = super().backward(h.flatten(1), error.flatten(1), None, stage)
        return g.reshape(h.shape), learned

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": []}  # weak references cannot be copied
