"""The curl of the rule by which a network learns, with what belongs beside it."""

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurofb import labels as naming
from neurofb.feedback import pathway_parameters
from neurofb.measures.curl import curl_index
from neurofb.measures.update_field import Loss, UpdateField, update_field
from neurofb.training import FlipSpec

_TEXTS = {
    "curl_index": "curl index of the weights' update",
    "curl_index_error": "standard error of the curl index",
    "curl_index_all": "curl index of the update of weights and feedback matrices",
    "curl_index_all_error": "standard error of the curl index of weights and feedback matrices",
    "jacobian_norm": "Frobenius norm of the Jacobian of the weights' update",
    "gradient_cosine": "cosine of the weights' update with -dL/dw",
    "flipped_power": "share of the squared update in synapses that learn with the wrong sign",
    "curl_loss": "loss on the images of which the curl is measured",
}


def rule_curl(
    network: nn.Module,
    images: Float[Tensor, "image *shape"],
    labels: Int[Tensor, " image"],
    *,
    num_probes: int | None = 50,
    loss: Loss = "cross_entropy",
    flips: Sequence[FlipSpec] = (),
    seed: int = 0,
) -> xr.Dataset:
    """Measure how far the rule by which a network learns is from a gradient, at its weights.

    The field is the update that the network's pathways make (`neurofb.measures.update_field`), its
    Jacobian that of central differences in float64; `neurofb.measures.curl_index` says what the
    index is and what it depends on. Network and random state are left as they were.

    A network with ReLU has an update that jumps where a unit switches; the derivative is then that
    of the smooth pieces, and a probe that meets a jump is wrong by a large amount. Use a smooth
    activation (``MLPConfig(activation="tanh")``).

    Parameters
    ----------
    network
        Maps images to logits; with pathways or without.
    images, labels
        Images, and their classes.
    num_probes
        Random probes, each four forward and backward passes; None for the whole Jacobian, two
        passes a parameter.
    loss, flips
        As in `neurofb.measures.update_field`.
    seed
        Of the probes.

    Returns
    -------
    xr.Dataset
        Without dims. ``curl_index`` and ``curl_index_error`` of the update of the weights, feedback
        held; ``curl_index_all`` and ``curl_index_all_error`` with the feedback matrices that learn
        as further coordinates, at one common rate (equal to the former where none learn);
        ``jacobian_norm``; ``gradient_cosine`` of the update and −∇L (NaN if one is 0);
        ``flipped_power``, the share of |v|² in flipped synapses: where it is above ½ and all else
        is the gradient, the loss rises; ``curl_loss``.

    Raises
    ------
    ValueError
        As in `neurofb.measures.update_field` and `neurofb.measures.curl_index`.

    Examples
    --------
    >>> from neurofb.feedback import Random, attach
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    >>> images, classes = torch.randn(20, 4), torch.arange(20) % 3
    >>> backpropagation = rule_curl(net, images, classes, num_probes=None)
    >>> float(backpropagation.curl_index) < 1e-6, round(float(backpropagation.gradient_cosine), 6)
    (True, 1.0)
    >>> alignment = rule_curl(attach(net, {"2": Random()}), images, classes, num_probes=None)
    >>> float(alignment.curl_index) > 0.2
    True
    """
    with torch.inference_mode(False):
        field, theta = update_field(network, images, labels, loss=loss, flips=flips)
        found = curl_index(field, theta, num_probes=num_probes, seed=seed, derivative="difference")
        everything = found
        if pathway_parameters(network):
            whole, start = update_field(
                network, images, labels, loss=loss, flips=flips, parameters="all"
            )
            everything = curl_index(
                whole, start, num_probes=num_probes, seed=seed, derivative="difference"
            )
        cosine, power = _motion(field, theta)
        values = {
            "curl_index": found["curl_index"],
            "curl_index_error": found["standard_error"],
            "curl_index_all": everything["curl_index"],
            "curl_index_all_error": everything["standard_error"],
            "jacobian_norm": found["jacobian_norm"],
            "gradient_cosine": cosine,
            "flipped_power": power,
            "curl_loss": field.loss(theta),
        }
    return xr.Dataset(
        {name: naming.variable((), float(v), "1", _TEXTS[name]) for name, v in values.items()},
        attrs={**found.attrs, "title": "curl of the learning rule", "num_images": len(images)},
    )


def _motion(field: UpdateField, theta: Tensor) -> tuple[float, float]:
    """Return the cosine of update and steepest descent, and the share of power that is flipped."""
    update, descent = field(theta), -field.gradient(theta)
    power = update.square().sum()
    cosine = (update @ descent) / (power.sqrt() * descent.norm())
    flipped = torch.where(field.signs < 0, update, 0.0).square().sum()
    return float(cosine), float(flipped / power)
