"""Parameter groups of our own optimisers: matrices, and what gets an ordinary update."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neurofb.feedback import feedback_layers
from neurofb.networks.svd_factors import SVDLayer

#: modules whose parameter ``weight`` is a matrix (kernels of convolutions flattened)
_DENSE_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def split_params(
    network: nn.Module, *, last: str | None = None
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split the trainable parameters into matrices, for Muon, and all others, for AdamW.

    Matrices are the weights of linear layers and convolutions, the projections into
    `nn.MultiheadAttention`, and the factors U and V of an SVD layer. Others are biases, gains and
    shifts of normalisations, embeddings, tokens, whatever a module of another kind holds, and the
    last layer, as the authors of Muon recommend (Jordan et al. 2024). A feedback matrix of the
    shape of its layer's weight goes where the weight goes, so that Kolen-Pollack learning gives
    both the same update; low-rank factors are others.

    Parameters
    ----------
    network
        With or without pathways.
    last
        Name of the last layer; by default the last linear layer or convolution in the order of
        ``network.named_modules()``. ``""`` keeps none back.

    Returns
    -------
    tuple
        Matrices and others; together each trainable parameter once.

    Raises
    ------
    ValueError
        If there is no such layer.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    >>> matrices, others = split_params(net)
    >>> [tuple(p.shape) for p in matrices], [tuple(p.shape) for p in others]
    ([(4, 1, 3, 3)], [(4,), (4,), (4,), (2, 4), (2,)])
    """
    layers = {n: m for n, m in network.named_modules(remove_duplicate=False) if _is_layer(m)}
    if last is None:
        last = next(reversed(layers), "")
    if last and last not in layers:
        raise ValueError(f"last={last!r} must be one of the layers {', '.join(layers) or 'none'}")
    matrices = {id(p) for module in network.modules() for p in _matrices_of(module)}
    matrices -= {id(p) for p in (_matrices_of(layers[last]) if last else ())}
    for module in network.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):  # its weight may be a layer's too
            matrices.discard(id(module.weight))
    for matrix, weight in following(network).items():
        if id(weight) in matrices:
            matrices.add(id(matrix))
    trainable = [p for p in network.parameters() if p.requires_grad]
    return (
        [p for p in trainable if id(p) in matrices],
        [p for p in trainable if id(p) not in matrices],
    )


def following(network: nn.Module) -> Mapping[nn.Parameter, nn.Parameter]:
    """Return feedback matrix → weight, of those matrices that can follow their layer's weight.

    Examples
    --------
    >>> following(nn.Linear(3, 2))
    {}
    """
    pairs: dict[nn.Parameter, nn.Parameter] = {}
    for _, layer in feedback_layers(network):
        if layer.pathway.source is not None:
            continue
        matrix = dict(layer.pathway.named_parameters(recurse=False)).get("B")
        weight = getattr(layer, "weight", None)
        if matrix is not None and isinstance(weight, nn.Parameter) and matrix.shape == weight.shape:
            pairs[matrix] = weight
    return pairs


def check_matrices(group: Mapping[str, Any], name: str) -> None:
    """Refuse a group of matrices that holds a parameter which is none.

    Raises
    ------
    ValueError
        With all parameters that do not fit.

    Examples
    --------
    >>> check_matrices({"params": [nn.Linear(3, 2).weight], "matrix": True}, "Muon")
    """
    if not group["matrix"]:
        return
    names = group.get("param_names") or [f"number {i}" for i in range(len(group["params"]))]
    wrong = [
        f"{own} {tuple(p.shape)}"
        for own, p in zip(names, group["params"], strict=True)
        if p.dim() < 2 or not p.is_floating_point()
    ]
    if wrong:
        raise ValueError(
            f"params: {name} acts on real matrices and kernels (two or more dimensions), and these "
            f"are none: {', '.join(wrong)}; put them into a group with matrix=False, as "
            "split_params does"
        )


def flat_gradient(parameter: Tensor) -> Tensor:
    """Return the gradient as (output, all inputs), a view where the layout allows it.

    Raises
    ------
    ValueError
        If the gradient is sparse.

    Examples
    --------
    >>> kernel = nn.Conv2d(2, 4, 3).weight
    >>> kernel.sum().backward()
    >>> flat_gradient(kernel).shape
    torch.Size([4, 18])
    """
    assert parameter.grad is not None
    if parameter.grad.is_sparse:
        raise ValueError("params: a gradient is sparse; matrices need dense gradients")
    return parameter.grad.flatten(1)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (*_DENSE_LAYERS, SVDLayer))


def _matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that are matrices from its inputs to its outputs."""
    names: tuple[str, ...] = ()
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    elif isinstance(module, SVDLayer):
        names = ("U", "V")
    elif _is_layer(module):
        names = ("weight",)
    found = (getattr(module, name, None) for name in names)
    return [parameter for parameter in found if isinstance(parameter, nn.Parameter)]
