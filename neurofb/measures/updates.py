"""The step that an optimiser would take, layer by layer."""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.measures.maps import dense_weight, is_map


def weight_updates(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    gradients: Mapping[str, Tensor | None],
) -> dict[str, Float[Tensor, "n_out n_in"]]:
    """Return W' − W of every map that learns, after one step of a copy of network and optimiser.

    The copies compute in float64 and at the rate before the schedule, or the difference would be
    little but rounding late in training. What else a training session does to the weights (terms
    it adds to the gradient, factors it brings back to be orthonormal) is not in it.

    Parameters
    ----------
    network, optimiser
        Left as they are. The optimiser keeps its state (momentum).
    gradients
        Name of a parameter → its gradient; parameters without one are not moved.

    Returns
    -------
    dict
        Name of a linear layer or convolution → the difference of its dense weights, a
        convolution's with (channel, y, x) as one dim, in float64.

    Raises
    ------
    ValueError
        If no parameter of the network is the optimiser's, or they cannot be copied.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 1))
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    >>> weight_updates(net, sgd, {"0.weight": torch.tensor([[1.0, 4.0]])})["0"]
    tensor([[-0.5000, -2.0000]], dtype=torch.float64)
    """
    own = {id(p) for p in network.parameters()}
    if not any(id(p) in own for group in optimiser.param_groups for p in group["params"]):
        raise ValueError("optimiser moves no parameter of this network; is it of another one?")
    try:
        # together: so the copied optimiser holds the copied parameters
        network, optimiser = copy.deepcopy((network, optimiser))
    except RuntimeError as error:
        raise ValueError(
            f"network of class {type(network).__name__} or its optimiser cannot be copied: {error}"
        ) from error
    network.double().eval()
    optimiser.load_state_dict(optimiser.state_dict())  # brings its state to the parameters' dtype
    for name, parameter in network.named_parameters():
        gradient = gradients.get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter)
    for group in optimiser.param_groups:
        group["lr"] = group.get("base_rate", group["lr"])
    learning = {
        name: module
        for name, module in network.named_modules()
        if is_map(module) and any(p.grad is not None for p in module.parameters())
    }
    before = {name: dense_weight(module).clone() for name, module in learning.items()}
    optimiser.step()
    return {name: dense_weight(module) - before[name] for name, module in learning.items()}
