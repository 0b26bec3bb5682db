"""How well a network's pathways are aligned with backpropagation, layer by layer."""

import math

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurofb import labels as naming
from neurofb.feedback import exact_backward, feedback_layers
from neurofb.feedback.route import FeedbackLayer
from neurofb.measures.effective_rank import spectrum_rank
from neurofb.measures.maps import is_map
from neurofb.measures.overlap import Overlap, compare, orthonormality_drift, project
from neurofb.measures.pathway_matrix import (
    channel_directions,
    error_rows,
    through_channel_factor,
)
from neurofb.measures.two_passes import Call, Calls, TwoPasses
from neurofb.networks.svd_factors import SVDLayer

_VARIABLES = {
    "gradient_cosine": ("1", "cosine of the weight's gradient to that of backpropagation"),
    "gradient_norm_ratio": ("1", "norm of the weight's gradient over that of backpropagation"),
    "delta_angle": ("degree", "angle between the pathway's error and backpropagation's"),
    "error_norm_ratio": ("1", "norm of the pathway's error over that of backpropagation's"),
    "weight_angle": ("degree", "angle between the feedback matrix and the transposed weight"),
    "matrix_norm_ratio": ("1", "norm of the feedback matrix over that of the weight"),
    "relative_distance": ("1", "distance of feedback matrix and transposed weight over its norm"),
    "captured_energy": ("1", "share of the error's energy in the subspace of the feedback"),
    "orthonormality_drift": ("1", "distance of P from orthonormal rows"),
    "effective_rank": ("1", "effective rank of the error at the layer's output"),
}


def alignment(
    network: nn.Module,
    images: Float[Tensor, "image *shape"],
    labels: Int[Tensor, " image"],
    *,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Compare a network's errors and gradients with exact backpropagation on the same images.

    The images go forwards and back through two copies of the network in training mode, once by the
    pathways and once exactly, with the same random masks and the same mean cross-entropy: what the
    next step of training would see. The network (weights, `.grad`, buffers, counts, modes, matrices
    that a backward pass refreshes) and the random state are left as they were. This costs two
    training steps, twice the memory of weights, gradients and feedback matrices, and the
    activations of one batch; hooks of the user's run on the copies too.

    Parameters
    ----------
    network
        Maps images to logits; with pathways or without (then all gradients are exact).
    images, labels
        Images, and their classes.
    batch_size
        Images at a time; all by default. Errors and gradients are those of the mean loss over all
        images; only what a network computes over its batch (batch normalisation, random masks)
        depends on it.

    Returns
    -------
    xr.Dataset
        Dim ``layer``, in the order of the forward pass: every linear layer and convolution that
        runs, and every other module that carries a pathway. All images, pixels and tokens are one
        vector in angles and norms.

        - ``gradient_cosine``, ``gradient_norm_ratio``: the weight's gradient with pathways against
          exact backpropagation. A layer's own pathway does not enter here, those behind it do.
        - ``delta_angle`` (degree), ``error_norm_ratio``: the pathway's error at the layer's *input*
          against Wᵀ δ for the *same* δ. For a direct pathway: what arrives at the module's input
          against the error that exact backpropagation brings there.
        - ``weight_angle`` (degree), ``matrix_norm_ratio``, ``relative_distance``: the feedback
          matrix B or Q P against Wᵀ; ‖Wᵀ − Q P‖ / ‖W‖. NaN for direct pathways.
        - ``captured_energy``: ‖P δ‖² / ‖δ‖² with orthonormalised P (δ at the source for a direct
          pathway). A convolution's 1×1 factor is used: P on the channels of δ, or, if the kernel is
          in P, Q on the channels of the exact error at the input.
        - ``orthonormality_drift``: ‖P Pᵀ − I‖_F / √r of the same factor (Qᵀ in place of P).
        - ``effective_rank`` of δ at the layer's output (entropy; see `effective_rank`): rows are
          images, pixels and tokens, columns are channels or units.

        NaN where there is no pathway, no such matrix, or no error: a pathway of the first layer
        carries none; a weight that is not a parameter that learns has no gradient (of a layer that
        keeps factors `neurofb.measures.error_rank` has the angle of the dense weight's).

    Raises
    ------
    ValueError
        If there are no images, not a label for each, `batch_size` is below 1, or the network
        cannot be copied.

    Examples
    --------
    >>> from neurofb.feedback import Random, attach
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> net = attach(net, {"2": Random()})
    >>> answer = alignment(net, torch.randn(20, 6), torch.arange(20) % 3)
    >>> answer.sizes["layer"], answer.delta_angle.attrs["units"]
    (2, 'degree')
    >>> answer.gradient_cosine.sel(layer="2").item()  # no pathway lies behind the last layer
    1.0
    """
    size = len(images) if batch_size is None else batch_size
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"images and labels must be equally many and at least one, not {len(images)} images "
            f"and {len(labels)} labels"
        )
    if size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    device = next((p.device for p in network.parameters()), images.device)
    devices = [device] if device.type == "cuda" else []
    rows: dict[str, _Row] = {}
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        passes = TwoPasses.of(network)
        for batch, classes in zip(images.split(size), labels.split(size), strict=True):
            share = len(batch) / len(images)
            at = batch.detach().to(device), classes.clone().to(device)
            calls, exact = passes.run(*at, share)
            for name in calls:
                _add(rows.setdefault(name, _Row()), name, passes.learning, calls, exact)
        values = [_finish(row, name, passes) for name, row in rows.items()]
    return xr.Dataset(
        {
            key: naming.variable("layer", [value[key] for value in values], *_VARIABLES[key])
            for key in _VARIABLES
        },
        coords={"layer": naming.coordinate("layer", list(rows))},
        attrs={"title": "alignment with backpropagation", "num_images": len(images)},
    )


class _Row:
    """What adds up over batches for one layer."""

    def __init__(self) -> None:
        self.error = Overlap()
        self.captured = Overlap()
        self.moments: Tensor | None = None


def _add(row: _Row, name: str, network: nn.Module, calls: Calls, exact: Calls) -> None:
    """Add the calls of one layer in one batch."""
    module = network.get_submodule(name)
    carrier = dict(feedback_layers(network)).get(name)
    for index, (call, reference) in enumerate(zip(calls[name], exact[name], strict=True)):
        if call.delta is not None:
            errors = error_rows(call.delta, isinstance(module, nn.Conv2d)).double()
            moments = errors.T @ errors
            row.moments = moments if row.moments is None else row.moments + moments
        if carrier is None or call.error is None:
            continue
        source = carrier.pathway.source
        at_input = reference.error if source else _exact_error(network, carrier, call)
        if at_input is None:
            continue
        row.error.add(call.error, at_input)
        at_output = calls[source][index].delta if source else call.delta
        for errors, directions in through_channel_factor(carrier.pathway, at_input, at_output):
            row.captured.add(project(errors, directions), errors.double())


def _exact_error(network: nn.Module, layer: FeedbackLayer, call: Call) -> Tensor | None:
    """Return Wᵀ δ for the δ of a call."""
    if call.h is None or call.delta is None:
        return None
    with exact_backward(network):
        h = call.h.detach().requires_grad_()
        return torch.autograd.grad(layer.forward(h), h, call.delta)[0]


def _finish(row: _Row, name: str, passes: TwoPasses) -> dict[str, float]:
    """Return the variables of one layer."""
    module = passes.learning.get_submodule(name)
    carrier = dict(feedback_layers(passes.learning)).get(name)
    gradient, matrix, drift = Overlap(), Overlap(), math.nan
    weights = dict(module.named_parameters(recurse=False))
    if is_map(module) and "weight" in weights:
        own, exact = weights["weight"].grad, passes.exact.get_parameter(f"{name}.weight").grad
        if own is not None and exact is not None:
            gradient = compare(own, exact)
    if carrier is not None:
        # A layer that keeps factors has no such parameter, but a weight.
        weight = module.dense_weight() if isinstance(module, SVDLayer) else weights.get("weight")
        if is_map(module) and weight is not None:
            kernel = carrier.pathway.kernel(weight.detach())
            matrix = matrix if kernel is None else compare(kernel, weight.detach())
        directions = channel_directions(carrier.pathway)
        if directions is not None:
            drift = orthonormality_drift(directions[1])
    rank = math.nan
    if row.moments is not None:
        rank = spectrum_rank(torch.linalg.eigvalsh(row.moments).clamp_min(0).sqrt()).item()
    return {
        "gradient_cosine": gradient.cosine,
        "gradient_norm_ratio": gradient.norm_ratio,
        "delta_angle": row.error.angle,
        "error_norm_ratio": row.error.norm_ratio,
        "weight_angle": matrix.angle,
        "matrix_norm_ratio": matrix.norm_ratio,
        "relative_distance": matrix.relative_distance,
        "captured_energy": row.captured.norm_ratio**2,
        "orthonormality_drift": drift,
        "effective_rank": rank,
    }
