"""Residual networks for images of CIFAR's size."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurofb.choices import check_choice
from neurofb.networks.checks import check_integers
from neurofb.networks.initialise import build_from_seed
from neurofb.networks.normalisation import Normalisation, make_normalisation


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Settings of `ResNet`.

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    depth
        Weight layers: 8, 20, 32 or 56 (three stages of 16, 32 and 64 channels, 6 n + 2 layers, He
        et al. 2016, section 4.2; they have no 8), or 18 (four stages of 64 to 512 channels).
    normalisation
        After every convolution (`make_normalisation`).

    Raises
    ------
    ValueError
        If a value is out of its range; the message names argument, value and range.

    Examples
    --------
    >>> network = ResNetConfig(image_size=28, in_channels=1).build(seed=0)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    network: Literal["resnet"] = "resnet"
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    depth: Literal[8, 18, 20, 32, 56] = 20
    normalisation: Normalisation = "batch"

    def __post_init__(self) -> None:
        check_integers(self, {"image_size": 1, "in_channels": 1, "num_classes": 2})
        check_choice("depth", self.depth, _STAGES)
        check_choice("normalisation", self.normalisation, Normalisation)

    def build(self, seed: int) -> "ResNet":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        return build_from_seed(lambda: ResNet(self), seed=seed, initialisation="he")


class ResNet(nn.Module):
    """A 3 × 3 stem, residual blocks in stages, averaging over the map, a linear readout.

    The layers are ``stem``, ``blocks.0.conv_1``, ``blocks.0.conv_2``, …, ``readout``. Each stage
    after the first halves the map with a stride of 2. Where a block changes the shape, its shortcut
    is a 1 × 1 convolution with normalisation, ``blocks.2.shortcut``, at depth 18 (option B of He et
    al.), and has no parameters at the other depths (every other pixel, new channels zero: option
    A). Only without normalisation the convolutions have biases. The stem of depth 18 is the one for
    small images, 3 × 3 without pooling. Kernels start from He et al.'s normal distribution (2015,
    with the number of outputs), the readout from torch's default.

    Made by `ResNetConfig.build`, which also sets the weights from a seed.

    References
    ----------
    He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition", arXiv:1512.03385.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        widths, blocks_per_stage, projects = _STAGES[config.depth]
        c_in = widths[0]
        kind = config.normalisation
        has_bias = kind == "none"
        self.stem = nn.Conv2d(config.in_channels, c_in, kernel_size=3, padding=1, bias=has_bias)
        self.stem_norm = make_normalisation(kind, c_in, ndim=4)
        self.blocks = nn.ModuleList()
        for stage, width in enumerate(widths):
            for i in range(blocks_per_stage):
                stride = 2 if stage and i == 0 else 1
                block = ResidualBlock(
                    c_in, width, stride=stride, projects=projects, normalisation=kind
                )
                self.blocks.append(block)
                c_in = width
        self.readout = nn.Linear(c_in, config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        h = torch.relu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            h = block(h)
        return self.readout(h.mean((-2, -1)))


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with normalisation, added to the block's input.

    Parameters
    ----------
    c_in, c_out
        Channels of input and output.
    stride
        Of the first convolution, and of the shortcut.
    projects
        Whether a shortcut between different shapes is a 1 × 1 convolution with normalisation; else
        it takes every `stride`-th pixel and leaves new channels zero.
    normalisation
        After every convolution; the convolutions have biases only if it is ``"none"``.

    Examples
    --------
    >>> ResidualBlock(4, 8, stride=2, projects=False)(torch.zeros(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        stride: int,
        projects: bool,
        normalisation: Normalisation = "batch",
    ):
        super().__init__()
        self.stride, self.num_new = stride, c_out - c_in
        has_bias = normalisation == "none"
        self.conv_1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=has_bias)
        self.norm_1 = make_normalisation(normalisation, c_out, ndim=4)
        self.conv_2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=has_bias)
        self.norm_2 = make_normalisation(normalisation, c_out, ndim=4)
        self.projects = projects and (stride > 1 or c_in != c_out)
        if self.projects:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=has_bias)
            self.shortcut_norm = make_normalisation(normalisation, c_out, ndim=4)

    def forward(
        self, h: Float[Tensor, "image c_in y_in x_in"]
    ) -> Float[Tensor, "image c_out y_out x_out"]:
        """Return the rectified sum of the convolved input and the shortcut."""
        a = torch.relu(self.norm_1(self.conv_1(h)))
        a = self.norm_2(self.conv_2(a))
        if self.projects:
            return torch.relu(a + self.shortcut_norm(self.shortcut(h)))
        skipped = h[:, :, :: self.stride, :: self.stride]
        return torch.relu(a + functional.pad(skipped, (0, 0, 0, 0, 0, self.num_new)))


#: depth -> channels of the stages, blocks in each, whether shortcuts between shapes are projections
_STAGES: dict[int, tuple[tuple[int, ...], int, bool]] = {
    8: ((16, 32, 64), 1, False),
    18: ((64, 128, 256, 512), 2, True),
    20: ((16, 32, 64), 3, False),
    32: ((16, 32, 64), 5, False),
    56: ((16, 32, 64), 9, False),
}
