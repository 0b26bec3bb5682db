"""Show the classes of a batch to the pathways that learn from them."""

from torch import Tensor, nn

from neurofb.feedback.attach import feedback_layers


def present_targets(network: nn.Module, labels: Tensor) -> None:
    """Give the classes of the next backward pass to every pathway that needs them.

    For DRTP (`DirectRandom` with ``signal="target"``) and for Oja's rule driven by one-hot targets.
    The training loop calls it; in a loop of your own call it before ``loss.backward()``.

    Parameters
    ----------
    network
        A network with pathways; without one that needs classes nothing happens.
    labels
        Classes as integers, shape (sample,).

    Raises
    ------
    ValueError
        If the labels are not one integer a sample.

    Examples
    --------
    >>> import torch
    >>> present_targets(nn.Linear(3, 2), torch.tensor([0, 1]))
    """
    if labels.dim() != 1 or labels.is_floating_point():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} must be one integer a "
            "sample"
        )
    for _, layer in feedback_layers(network):
        if layer.pathway.needs_targets:
            layer.pathway.targets = labels.detach()
