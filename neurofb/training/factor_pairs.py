"""Which factor of a weight belongs to which factor of the feedback."""

from dataclasses import dataclass

from torch import Tensor, nn

from neurofb.feedback import feedback_layers
from neurofb.feedback.pathway import Pathway
from neurofb.feedback.route import FeedbackLayer
from neurofb.feedback.svd_space import SVDSpacePathway
from neurofb.feedback.svd_space_direct import SVDSpaceDirectPathway
from neurofb.networks.factorised import factored_layers
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear
from neurofb.training.svd_space import SVDSpaceTraining


@dataclass(frozen=True)
class FactorPair:
    """A factor of a layer, and the buffer of a pathway that it is compared with.

    Attributes
    ----------
    where
        What messages call it: ``"U of layer 'hidden_1'"``.
    factor
        The parameter.
    pathway, name
        The pathway and the name of its buffer, which a cut of the rank may replace.
    """

    where: str
    factor: nn.Parameter
    pathway: Pathway
    name: str

    @property
    def target(self) -> Tensor:
        """The pathway's factor as it is now."""
        return self.pathway.get_buffer(self.name)


def aligned_pairs(network: nn.Module, settings: SVDSpaceTraining) -> tuple[FactorPair, ...]:
    """Return which factors the alignment term draws together; none with ``alignment="none"``.

    On a layer-to-layer pathway U, s, V go to the pathway's own B_U, B_S, B_V (s only with
    ``"frobenius"``: it spans nothing). With direct pathways W ~ F_l A F_{l−1}ᵀ is expected
    (Refinetti et al. 2021, arXiv:2011.12428): the B_U on a layer's input is the target of that
    layer's V and of the layer's U before it.

    Parameters
    ----------
    network
        With factored layers and pathways.
    settings
        Of the run.

    Raises
    ------
    ValueError
        If there is nothing to align, or shapes do not agree; the layer is named.

    Examples
    --------
    >>> aligned_pairs(nn.Linear(3, 2), SVDSpaceTraining())
    ()
    """
    if settings.alignment == "none":
        return ()
    pairs: list[FactorPair] = []
    setting, exact = f"alignment={settings.alignment!r}", settings.alignment == "frobenius"
    for name, layer in factored_layers(network).items():
        own = pathway_of(layer)
        if isinstance(own, SVDSpacePathway):
            three = _three(name, layer, own)
            pairs += three if exact else three[::2]
        if isinstance(own, SVDSpaceDirectPathway):
            pairs.append(FactorPair(f"V of layer {name!r}", layer.V, own, "B_U"))
        for pathway in teachers(network, name):
            pairs.append(FactorPair(f"U of layer {name!r}", layer.U, pathway, "B_U"))
    if not pairs:
        raise ValueError(f"{setting}: no factored layer has a pathway of svd_space to align to")
    if exact and settings.rank_schedule and any(p.pathway.source for p in pairs):
        raise ValueError(
            f"{setting} with a rank_schedule: the layers' ranks part from those of direct "
            "pathways; alignment must be 'subspace'"
        )
    for pair in pairs:
        own, other = tuple(pair.factor.shape), tuple(pair.target.shape)
        if own != other if exact else own[0] != other[0]:
            raise ValueError(
                f"{setting}: {pair.where} has shape {own} and its pathway's {pair.name} {other}; "
                f"they must agree{'' if exact else ' in the first'}"
            )
    return tuple(pairs)


def moving_pairs(network: nn.Module, settings: SVDSpaceTraining) -> tuple[FactorPair, ...]:
    """Return the feedback's factors that move with those of the weights; none if fixed.

    Parameters
    ----------
    network
        With factored layers and pathways.
    settings
        Of the run.

    Raises
    ------
    ValueError
        If a layer has a direct pathway, or none has one of rule svd_space.

    Examples
    --------
    >>> moving_pairs(nn.Linear(3, 2), SVDSpaceTraining(feedback="track"))
    Traceback (most recent call last):
    ValueError: feedback='track': no factored layer has a pathway of rule svd_space
    """
    if settings.feedback == "fixed":
        return ()
    setting, pairs = f"feedback={settings.feedback!r}", []
    for name, layer in factored_layers(network).items():
        pathway = pathway_of(layer)
        if isinstance(pathway, SVDSpaceDirectPathway):
            raise ValueError(
                f"{setting}: the direct pathway on layer {name!r} has no factors of the weight's "
                "shapes; feedback must be 'fixed'"
            )
        if isinstance(pathway, SVDSpacePathway):
            pairs += _three(name, layer, pathway)
    if not pairs:
        raise ValueError(f"{setting}: no factored layer has a pathway of rule svd_space")
    return tuple(pairs)


def pathway_of(layer: nn.Module) -> Pathway | None:
    """Return the pathway that a layer carries, if any.

    Examples
    --------
    >>> pathway_of(nn.Linear(3, 2)) is None
    True
    """
    return layer.pathway if isinstance(layer, FeedbackLayer) else None


def teachers(network: nn.Module, name: str) -> list[SVDSpaceDirectPathway]:
    """Return the direct pathways on what takes a factored layer's output: they teach the layer.

    Parameters
    ----------
    network
        With its pathways.
    name
        Of the layer.

    Examples
    --------
    >>> teachers(nn.Sequential(nn.Linear(3, 2)), "0")
    []
    """
    pathways = (layer.pathway for _, layer in feedback_layers(network))
    return [p for p in pathways if isinstance(p, SVDSpaceDirectPathway) and p.follows == name]


def _three(name: str, layer: SVDLinear | SVDConv2d, pathway: SVDSpacePathway) -> list[FactorPair]:
    """Pair U, s and V of a layer with the factors of its own pathway."""
    pairs = (("U", layer.U, "B_U"), ("s", layer.s, "B_S"), ("V", layer.V, "B_V"))
    return [FactorPair(f"{x} of layer {name!r}", f, pathway, b) for x, f, b in pairs]
