"""Plain convolutional network of any depth."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.choices import check_choice
from neurofb.networks.checks import check_integers
from neurofb.networks.initialise import Initialisation, build_from_seed
from neurofb.networks.normalisation import Normalisation, make_normalisation


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """Settings of `ConvNet`.

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    channels
        Channels of each convolution, from the input on.
    strides
        Of each convolution; a stride of 2 halves the map, rounded up.
    kernel_size
        Side of every kernel, odd, so that padding keeps the size of the map.
    normalisation
        Between a convolution and its rectification (`make_normalisation`).
    initialisation
        Of weights and biases (`build_from_seed`).

    Raises
    ------
    ValueError
        If a value is out of its range; the message names argument, value and range.

    Examples
    --------
    >>> network = ConvNetConfig(image_size=28, in_channels=1).build(seed=0)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    network: Literal["conv_net"] = "conv_net"
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    channels: tuple[int, ...] = (16, 32, 32, 64, 64)
    strides: tuple[int, ...] = (2, 1, 2, 1, 1)
    kernel_size: int = 3
    normalisation: Normalisation = "batch"
    initialisation: Initialisation = "he_normal"

    def __post_init__(self) -> None:
        check_integers(self, {"image_size": 1, "in_channels": 1, "num_classes": 2, "channels": 1})
        check_integers(self, {"strides": 1, "kernel_size": 1})
        if not self.channels:
            raise ValueError("channels=() must name at least one convolution")
        if len(self.strides) != len(self.channels):
            raise ValueError(
                f"strides={self.strides} must have as many entries as channels={self.channels}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd")
        check_choice("normalisation", self.normalisation, Normalisation)
        check_choice("initialisation", self.initialisation, Initialisation)

    def build(self, seed: int) -> "ConvNet":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        return build_from_seed(lambda: ConvNet(self), seed=seed, initialisation=self.initialisation)


class ConvNet(nn.Module):
    """Convolutions, each normalised and rectified, averaging over the map, a linear readout.

    The layers are ``conv_1``, ``conv_2``, …, ``readout``; the normalisation after ``conv_1`` is
    ``norm_1``. Only without normalisation the convolutions have biases, since every normalisation
    has a shift. Maps shrink by strides; there is no pooling.

    Made by `ConvNetConfig.build`, which also sets the weights from a seed.
    """

    def __init__(self, config: ConvNetConfig):
        super().__init__()
        self.config = config
        c_in, size, kind = config.in_channels, config.kernel_size, config.normalisation
        for i, (width, stride) in enumerate(zip(config.channels, config.strides, strict=True), 1):
            conv = nn.Conv2d(c_in, width, size, stride, size // 2, bias=kind == "none")
            self.add_module(f"conv_{i}", conv)
            self.add_module(f"norm_{i}", make_normalisation(kind, width, ndim=4))
            c_in = width
        self.readout = nn.Linear(c_in, config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        h = images
        for i in range(1, len(self.config.channels) + 1):
            h = torch.relu(self.get_submodule(f"norm_{i}")(self.get_submodule(f"conv_{i}")(h)))
        return self.readout(h.mean((-2, -1)))
