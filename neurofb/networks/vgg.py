"""VGG-like convolutional network."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurofb.choices import check_choice
from neurofb.networks.checks import check_integers, check_probability
from neurofb.networks.initialise import build_from_seed
from neurofb.networks.normalisation import Normalisation, make_normalisation


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """Settings of `VGG`; the defaults are the CIFAR-10 network of Hanut & Kadmon (2025).

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    widths
        Channels of the convolutions of each block. Maps are halved between the blocks.
    layers_per_block
        Convolutions in a block.
    hidden, dropout
        Units of the hidden linear layer, and the probability of dropping one of them.
    normalisation
        Between a convolution and its rectification (`make_normalisation`).

    Raises
    ------
    ValueError
        If a value is out of its range, or the image too small for so many blocks.

    Examples
    --------
    >>> network = VGGConfig(widths=(4, 8), hidden=16).build(seed=0)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    network: Literal["vgg"] = "vgg"
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    widths: tuple[int, ...] = (64, 128, 256, 512)
    layers_per_block: int = 2
    hidden: int = 256
    dropout: float = 0.4
    normalisation: Normalisation = "batch"

    def __post_init__(self) -> None:
        check_integers(self, {"image_size": 1, "in_channels": 1, "num_classes": 2, "widths": 1})
        check_integers(self, {"layers_per_block": 1, "hidden": 1})
        check_probability("dropout", self.dropout)
        check_choice("normalisation", self.normalisation, Normalisation)
        if not self.widths:
            raise ValueError("widths=() must name at least one block")
        smallest = 2 ** (len(self.widths) - 1)
        if self.image_size < smallest:
            raise ValueError(
                f"image_size={self.image_size} must be at least {smallest} for "
                f"{len(self.widths)} blocks"
            )

    def build(self, seed: int) -> "VGG":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        return build_from_seed(lambda: VGG(self), seed=seed)


class VGG(nn.Module):
    """Blocks of 3 × 3 convolutions with max-pooling between them, then a hidden linear layer.

    The second convolution of the first block is ``conv_1_2``; a normalisation (``norm_1_2``) and a
    rectification follow. Only without normalisation the convolutions have biases, since every
    normalisation has a shift. The last block's maps are averaged; then come ``hidden``, rectified,
    and ``readout``. Weights start from torch's default initialisation.

    Made by `VGGConfig.build`, which also sets the weights from a seed.

    References
    ----------
    Simonyan & Zisserman 2015, arXiv:1409.1556; in this form Hanut & Kadmon 2025, arXiv:2502.20580.
    """

    def __init__(self, config: VGGConfig):
        super().__init__()
        self.config = config
        c_in, has_bias = config.in_channels, config.normalisation == "none"
        for block, width in enumerate(config.widths, start=1):
            for place in self._places(block):
                conv = nn.Conv2d(c_in, width, kernel_size=3, padding=1, bias=has_bias)
                norm = make_normalisation(config.normalisation, width, ndim=4)
                self.add_module(f"conv_{place}", conv)
                self.add_module(f"norm_{place}", norm)
                c_in = width
        self.hidden = nn.Linear(c_in, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(config.hidden, config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        h = images
        for block in range(1, len(self.config.widths) + 1):
            if block > 1:
                h = functional.max_pool2d(h, 2)
            for place in self._places(block):
                a = self.get_submodule(f"norm_{place}")(self.get_submodule(f"conv_{place}")(h))
                h = torch.relu(a)
        h = torch.relu(self.hidden(h.mean((-2, -1))))
        return self.readout(self.dropout(h))

    def _places(self, block: int) -> list[str]:
        """Return block and position, ``"1_2"``, of the convolutions of a block."""
        return [f"{block}_{i}" for i in range(1, self.config.layers_per_block + 1)]
