"""The signed neural tangent kernel: whether learning with flipped synapses keeps a solution."""

import copy
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from neurofb.feedback import exact_backward, pathway_parameters
from neurofb.training import FlipSpec, flip_masks

#: which synapses have a factor D: flips, or name of the parameter → D, as `flip_masks` returns it
Signs = Sequence[FlipSpec] | Mapping[str, Tensor]


def signed_ntk(
    network: nn.Module, inputs: Float[Tensor, "image *shape"], signs: Signs = ()
) -> Float[Tensor, "row row"]:
    """Return K_D = J D Jᵀ / P, with J the Jacobian of a network's outputs by its parameters.

    Where the outputs are the targets, errors e of the loss ½‖e‖² / P relax by de/dt = -K_D e under
    the flow dθ/dt = -D ∇L, for any network and any number of outputs: the solution is stable if and
    only if K_D is positive definite on the range of J (our derivation; D = 1 gives the neural
    tangent kernel of Jacot et al. 2018, arXiv:1806.07572). The eigenvalues of -K_D on this range
    are all that is not zero in the spectrum of the flow, and are real. `neurofb.measures.
    flip_stability` names them.

    Parameters
    ----------
    network
        Maps inputs to outputs; evaluated in float64 and evaluation mode, on a copy. Pathways have
        no part in it: these are derivatives of the forward function.
    inputs
        P inputs.
    signs
        Flips, or D for parameters by name (as by `neurofb.training.flip_masks`; 1 for all others).

    Returns
    -------
    Tensor
        Symmetric, float64; rows are the outputs of each input, input by input. J, of (rows × number
        of parameters) numbers, is in memory meanwhile.

    Raises
    ------
    ValueError
        If there is no input, nothing learns, the network cannot be copied, or the signs do not fit.

    Examples
    --------
    >>> network = nn.Linear(2, 1, bias=False)
    >>> inputs = torch.tensor([[1.0, 2.0]])
    >>> signed_ntk(network, inputs), signed_ntk(network, inputs, [FlipSpec(layer="", count=1)])
    (tensor([[5.]], dtype=torch.float64), tensor([[3.]], dtype=torch.float64))
    """
    jacobian, diagonal = output_jacobian(network, inputs, signs)
    return (jacobian * diagonal) @ jacobian.mT / len(inputs)


def output_jacobian(
    network: nn.Module, inputs: Float[Tensor, "image *shape"], signs: Signs = ()
) -> tuple[Float[Tensor, "row parameter"], Float[Tensor, " parameter"]]:
    """Return the Jacobian of the outputs by the parameters that learn, and the diagonal of D.

    Parameters
    ----------
    network, inputs, signs
        As in `signed_ntk`. Matrices of pathways are no parameters here.

    Raises
    ------
    ValueError
        As `signed_ntk`.

    Examples
    --------
    >>> jacobian, diagonal = output_jacobian(nn.Linear(2, 3), torch.ones(4, 2))
    >>> jacobian.shape, diagonal.shape
    (torch.Size([12, 9]), torch.Size([9]))
    """
    if len(inputs) == 0:
        raise ValueError("inputs: there must be at least one")
    try:
        network = copy.deepcopy(network).double().eval()
    except RuntimeError as error:
        raise ValueError(
            f"network of class {type(network).__name__} cannot be copied: {error}"
        ) from error
    parameters = _learning(network)
    diagonal = sign_diagonal(network, signs)
    inputs = inputs.detach().to(diagonal.device, torch.float64)

    def output(values: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(network, values, (one[None],))[0].flatten()

    with exact_backward(network), torch.no_grad():
        parts = vmap(jacrev(output), in_dims=(None, 0))(parameters, inputs)
    columns = [part.flatten(2) for part in parts.values()]
    return torch.cat(columns, dim=-1).flatten(0, 1), diagonal


def sign_diagonal(network: nn.Module, signs: Signs) -> Float[Tensor, " parameter"]:
    """Return the diagonal of D over all parameters that learn, one after another, in float64.

    Parameters
    ----------
    network, signs
        As in `signed_ntk`.

    Raises
    ------
    ValueError
        If nothing learns or the signs do not fit.

    Examples
    --------
    >>> sign_diagonal(nn.Linear(2, 1), [FlipSpec(layer="", count=1)])
    tensor([-1.,  1.,  1.], dtype=torch.float64)
    """
    masks = signs if isinstance(signs, Mapping) else flip_masks(network, signs)
    parameters = _learning(network)
    unknown = [name for name in masks if name not in parameters]
    if unknown:
        raise ValueError(
            f"signs: {', '.join(unknown)} must be among the parameters that learn: "
            f"{', '.join(parameters)}"
        )
    rows = []
    for name, parameter in parameters.items():
        mask = masks.get(name, torch.ones(())).to(parameter.device, torch.float64)
        try:
            rows.append(mask.expand(parameter.shape).flatten())
        except RuntimeError as error:
            raise ValueError(
                f"signs[{name!r}] of shape {tuple(mask.shape)} must broadcast to "
                f"{tuple(parameter.shape)}"
            ) from error
    return torch.cat(rows)


def _learning(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that learn, without those of pathways."""
    pathways = {id(matrix) for matrix in pathway_parameters(network)}
    parameters = {
        name: parameter.detach()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and id(parameter) not in pathways
    }
    if not parameters:
        raise ValueError("network has no parameter that learns")
    return parameters
