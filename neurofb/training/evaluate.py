"""Loss and accuracy of a network on a set of images."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from neurofb.data.images import ImageSet
from neurofb.training.arithmetic import Arithmetic


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean cross-entropy (nat), fraction of images classified correctly, number of images."""

    loss: float
    accuracy: float
    num_images: int


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: ImageSet,
    *,
    batch_size: int = 256,
    arithmetic: Arithmetic | None = None,
) -> Evaluation:
    """Evaluate a network in evaluation mode, on the device where its parameters are.

    The network is left as it was found. Nothing random is drawn.

    Parameters
    ----------
    network
        Maps images to logits.
    images
        The images and their labels.
    batch_size
        Number of images at a time; it does not change the result but for rounding.
    arithmetic
        Number format and layout; ``None`` is plain float32.

    Raises
    ------
    ValueError
        If there are no images.

    Examples
    --------
    >>> images = ImageSet(images=torch.zeros(4, 1, 2, 2), labels=torch.tensor([0, 0, 0, 1]))
    >>> constant = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> evaluate(constant, images).accuracy
    0.75
    """
    num_images = len(images.labels)
    if num_images == 0:
        raise ValueError("images holds no image: there is nothing to evaluate")
    arithmetic = arithmetic or Arithmetic()
    device = next(network.parameters()).device
    modes = {module: module.training for module in network.modules()}
    network.eval()
    losses, hits = [], []
    try:
        for batch, labels in zip(
            images.images.split(batch_size), images.labels.split(batch_size), strict=True
        ):
            labels = labels.to(device)
            with arithmetic.autocast(device):
                logits = network(arithmetic.layout_images(batch.to(device)))
            losses.append(functional.cross_entropy(logits.float(), labels, reduction="sum"))
            hits.append((logits.argmax(1) == labels).sum())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Evaluation(
        loss=torch.stack(losses).sum().item() / num_images,
        accuracy=torch.stack(hits).sum().item() / num_images,
        num_images=num_images,
    )
