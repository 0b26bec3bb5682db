"""What a run takes beside its accuracy: parameters, operations, memory; from its settings alone."""

from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from neurofb.build import num_parameters, pathways_of
from neurofb.config import RunConfig
from neurofb.feedback import attach, present_targets
from neurofb.labels import variable
from neurofb.measures import compute_cost
from neurofb.measures.flops import operation_flops, singular_value_flops
from neurofb.networks import factored_layers


def run_cost(config: RunConfig) -> xr.Dataset:
    """Count parameters, FLOPs and bytes of a run, without its data.

    The network is built with its factors and pathways as the run starts, and makes one training
    step on a batch of zeros.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    xr.Dataset
        - ``num_parameters``: weights, factors and biases, without the feedback's.
        - ``forward_flops``: all operations of a forward pass of one batch, two a multiply-add.
        - ``step_flops``: those of a training step (`neurofb.measures.compute_cost`), with the
          retractions of `neurofb.training.SVDSpaceTraining`; its other terms are not counted.
        - ``retraction_flops``: the retractions alone.
        - ``training_memory``: bytes of the weights, their gradients, the optimiser's state, the
          feedback and what a batch's forward pass keeps for the backward pass.

    Raises
    ------
    ValueError
        If factors or pathways do not fit the network.

    Examples
    --------
    >>> from neurofb.networks import Factorised, MLPConfig
    >>> mlp = MLPConfig(image_size=8, in_channels=1, hidden=(64,))
    >>> dense, factored = (
    ...     run_cost(RunConfig(name="test", network=mlp, factorised=factors))
    ...     for factors in (None, Factorised(rank=0.25))
    ... )
    >>> bool(factored.num_parameters < dense.num_parameters)
    True
    """
    net, size = config.network, config.training.batch_size
    network = net.build(config.seed)
    if config.factorised is not None:
        network = config.factorised.apply(network)
    images = torch.zeros(size, net.in_channels, net.image_size, net.image_size)
    attach(network, pathways_of(config, network), example_input=images[:2], seed=config.seed)
    optimiser = config.training.optimiser.build(network.train())
    classes = torch.zeros(size, dtype=torch.long)
    flops = compute_cost(network, images, classes, optimiser)["flops"].sum("kind")
    retraction = _retraction_flops(config, network)
    memory = _training_memory(network, images, classes, optimiser)
    found = {
        "num_parameters": (num_parameters(network), "1", "parameters that are trained"),
        "forward_flops": (
            float(flops.sel(phase="forward")),
            "1",
            f"operations forwards, {size} images",
        ),
        "step_flops": (
            float(flops.sum()) + retraction,
            "1",
            f"operations of a step, {size} images",
        ),
        "retraction_flops": (retraction, "1", "retraction of the factors after the step"),
        "training_memory": (memory, "byte", "memory in training"),
    }
    return xr.Dataset({name: variable((), *about) for name, about in found.items()})


def _retraction_flops(config: RunConfig, network: nn.Module) -> float:
    """Return the FLOPs of making all factors orthonormal after a step."""
    settings = config.training.svd_space
    layers = factored_layers(network).values() if settings is not None else ()
    factors = [factor for layer in layers for factor in (layer.U.detach(), layer.V.detach())]
    if settings is None or settings.orthogonality not in ("retract", "polar"):
        return 0.0
    if settings.orthogonality == "retract":
        qr = torch.ops.aten.linalg_qr.default
        return float(sum(operation_flops(qr, (factor,), {}, None) or 0 for factor in factors))
    product = sum(2 * factor.numel() * factor.shape[1] for factor in factors)
    return float(product + sum(singular_value_flops(*factor.shape) for factor in factors))


def _training_memory(
    network: nn.Module, images: Tensor, classes: Tensor, optimiser: torch.optim.Optimizer
) -> float:
    """Return the bytes that are held at the end of a forward pass, and the step's own."""
    held = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    present_targets(network, classes)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = cross_entropy(network(images), classes)
    loss.backward()
    optimiser.step()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    state: list[Any] = [v for entry in optimiser.state.values() for v in entry.values()]
    tensors = [*network.parameters(), *network.buffers(), *gradients]
    tensors += [value for value in state if isinstance(value, Tensor)]
    return float(sum(kept.values()) + sum(t.numel() * t.element_size() for t in tensors))
