"""How much of each mode of a linear task a linear network has learned."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from neurofb import labels as naming
from neurofb.dynamics import LinearTask


def mode_overlap(
    product: Float[Tensor, "*batch m n"],
    output_modes: Float[Tensor, "*modes _ d"],
    singular_values: Float[Tensor, "*modes d"],
    input_modes: Float[Tensor, "*modes _ d"],
) -> Float[Tensor, "*answer d"]:
    """Return Λ_i = u_iᵀ W v_i / s_i: 1 for a mode that is learned, 0 for one that is not.

    The overlap of Hanut & Kadmon (2025, arXiv:2502.20580, Fig. 2). It may be negative or above 1,
    and says nothing of what W does between modes: at all Λ = 1 the error need not be 0.

    Parameters
    ----------
    product
        W = W_L … W_1 of a linear network.
    output_modes, singular_values, input_modes
        U, s, V of the covariance of outputs and inputs (`neurofb.dynamics.LinearTask.modes`);
        leading dims broadcast against those of W.

    Raises
    ------
    ValueError
        If there is no mode or one is not positive, or W's shape does not fit.

    Examples
    --------
    >>> import torch
    >>> eye = torch.eye(2)
    >>> mode_overlap(torch.diag(torch.tensor([3.0, 0.5])), eye, torch.tensor([3.0, 2.0]), eye)
    tensor([1.0000, 0.2500])
    """
    if singular_values.shape[-1] < 1 or not (singular_values > 0).all():
        raise ValueError(f"singular_values={singular_values} must be at least one, all positive")
    expected = (output_modes.shape[-2], input_modes.shape[-2])
    if tuple(product.shape[-2:]) != expected:
        raise ValueError(f"product of shape {tuple(product.shape)} must end in {expected}")
    return ((output_modes.mT @ product) * input_modes.mT).sum(-1) / singular_values


def linear_mode_overlap(network: nn.Module | Sequence[nn.Module], task: LinearTask) -> xr.Dataset:
    """Measure the modes of a task that a deep linear network of torch has learned.

    Parameters
    ----------
    network
        A module whose `torch.nn.Linear` layers run one after another, in the order in which they
        are registered, with nothing that is not linear between them; or these layers. Biases and
        pathways of feedback (`neurofb.feedback.attach`) do not enter.
    task
        With one seed; of data by `neurofb.dynamics.task_from_data`.

    Returns
    -------
    xr.Dataset
        ``overlap`` (mode), ``singular_value`` (mode).

    Raises
    ------
    ValueError
        If there is another layer than linear ones, none, their shapes do not fit each other and the
        task, or the task has several seeds.

    Examples
    --------
    >>> import torch
    >>> from neurofb.dynamics import random_task
    >>> task = random_task(6, 4, 2, seeds=(0,), dtype=torch.float32)
    >>> network = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 4, bias=False))
    >>> _ = network[0].weight.data.copy_(torch.eye(6))
    >>> _ = network[1].weight.data.copy_(task.output_input[0])  # all modes, whole
    >>> answer = linear_mode_overlap(network, task)
    >>> answer.overlap.dims, answer.overlap.values.round(3)
    (('mode',), array([1., 1.], dtype=float32))
    """
    if len(task.seeds) != 1:
        raise ValueError(f"task must have one seed, not {task.seeds}")
    given = [network] if isinstance(network, nn.Module) else network
    layers = [layer for module in given for layer in _layers(module)]
    others = sorted({type(layer).__name__ for layer in layers if not isinstance(layer, nn.Linear)})
    if others or not layers:
        raise ValueError(f"network must consist of linear layers only, not of {others or 'none'}")
    weights = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
    sizes = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    if any(weight.shape[1] != size for weight, size in zip(weights, sizes, strict=False)):
        shapes = [tuple(weight.shape) for weight in weights]
        raise ValueError(f"network: the layers' shapes {shapes} do not follow each other")
    product = weights[0]
    for weight in weights[1:]:
        product = weight @ product
    modes = task.modes()
    overlap = mode_overlap(product.to(task.teacher), *(part[0] for part in modes))
    return xr.Dataset(
        {
            "overlap": naming.variable("mode", overlap, "1", "share of the mode learned"),
            "singular_value": naming.variable(
                "mode", modes.singular_value[0], "1", "strength of the mode"
            ),
        },
        coords={"mode": naming.coordinate("mode", np.arange(1, len(overlap) + 1))},
        attrs={"title": "modes of the task that the network has learned"},
    )


def _layers(module: nn.Module) -> list[nn.Module]:
    """Return what computes: linear layers whole, of what holds others these, as far as one sees."""
    children = [] if isinstance(module, nn.Linear) else list(module.children())
    return [layer for child in children for layer in _layers(child)] if children else [module]
