"""What one training step of a run costs, from its configuration alone."""

import torch
import xarray as xr

from neurofb.build import pathways_of
from neurofb.config import RunConfig
from neurofb.feedback import attach
from neurofb.measures import analytic_cost, compute_cost


def step_cost(config: RunConfig) -> xr.Dataset:
    """Count the FLOPs of a training step of a run, without its data.

    The network is built with its pathways and given a batch of zeros; costs do not depend on the
    values.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    xr.Dataset
        Over ``phase``: ``counted_flops``, all operations of a step with its optimiser
        (`neurofb.measures.compute_cost`), and ``analytic_flops``, those that the equations of
        linear layers and convolutions need (`neurofb.measures.analytic_cost`).

    Raises
    ------
    ValueError
        If a pathway does not fit the network, or layers are factored.

    Examples
    --------
    >>> from neurofb.networks import MLPConfig
    >>> mlp = MLPConfig(image_size=4, in_channels=1, hidden=(8,))
    >>> cost = step_cost(RunConfig(name="test", network=mlp))
    >>> bool((cost.analytic_flops.sum() < cost.counted_flops.sum()).item())
    True
    """
    if config.factorised is not None:
        raise ValueError(
            "factorised: the equations' cost is not known for factored layers; "
            "neurofb.run_cost.run_cost counts a run's operations, and neurofb.measures.factor_cost "
            "has the equations"
        )
    net = config.network
    network = net.build(config.seed)
    size = config.training.batch_size
    images = torch.zeros(size, net.in_channels, net.image_size, net.image_size)
    attach(network, pathways_of(config, network), example_input=images[:2], seed=config.seed)
    optimiser = config.training.optimiser.build(network)
    counted = compute_cost(network.train(), images, torch.zeros(size, dtype=torch.long), optimiser)
    needed = analytic_cost(network, images)
    return xr.Dataset(
        {
            "counted_flops": counted["flops"].sum("kind", keep_attrs=True),
            "analytic_flops": needed["flops"].sum("layer", keep_attrs=True),
        }
    )
