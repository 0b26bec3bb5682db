"""The retina → ventral visual stream (VVS) network of Lindsey et al. 2019."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurofb.networks.checks import check_integers, check_probability
from neurofb.networks.initialise import build_from_seed
from neurofb.networks.noise import GaussianNoise


@dataclass(frozen=True, kw_only=True)
class RetinaVVSConfig:
    """Settings of `RetinaVVS`; the defaults are the small network for a CPU.

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    kernel_size
        Side of every convolution kernel, odd (padding keeps the image size).
    retina_width, retina_layers, bottleneck
        The retina has ``retina_layers`` convolutions of ``retina_width`` channels, except the last,
        the retinal output, which has ``bottleneck`` channels.
    vvs_layers, vvs_width
        Number (0 or more) and channels of the convolutions after the bottleneck.
    input_noise, bottleneck_noise
        Standard deviations of the noise on the image and on the rectified retinal output.
    pool
        Average pooling before the head; 1 pools nothing.
    hidden, dropout
        Units of the hidden linear layer (0 leaves the layer out), and the dropout after it.
    init
        ``"glorot"``: Glorot-uniform weights and zero biases (Keras' default, as in Lindsey et al.);
        ``"torch"``: torch's own default for weights and biases.
    init_scale
        Factor on the initial weights of the retina's layers only.

    Raises
    ------
    ValueError
        If a value is out of its range; the message names argument, value and range.

    Examples
    --------
    >>> network = RetinaVVSConfig(bottleneck=4).build(seed=0)
    >>> network(torch.zeros(2, 1, 24, 24)).shape
    torch.Size([2, 10])
    """

    network: Literal["retina_vvs"] = "retina_vvs"
    image_size: int = 24
    in_channels: int = 1
    num_classes: int = 10
    kernel_size: int = 7
    retina_width: int = 32
    retina_layers: int = 2
    bottleneck: int = 32
    vvs_layers: int = 2
    vvs_width: int = 32
    input_noise: float = 0.3
    bottleneck_noise: float = 0.0
    pool: int = 2
    hidden: int = 64
    dropout: float = 0.0
    init: Literal["glorot", "torch"] = "glorot"
    init_scale: float = 0.7

    def __post_init__(self) -> None:
        check_integers(self, _LOWEST)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={self.kernel_size} must be odd, so that padding keeps the image size"
            )
        if self.image_size % self.pool:
            raise ValueError(f"pool={self.pool} must divide image_size={self.image_size}")
        for name in ("input_noise", "bottleneck_noise"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be a finite number >= 0")
        check_probability("dropout", self.dropout)
        if not 0 < self.init_scale < math.inf:
            raise ValueError(f"init_scale={self.init_scale!r} must be a finite number > 0")
        if self.init not in ("glorot", "torch"):
            raise ValueError(f"init={self.init!r} must be 'glorot' or 'torch'")

    def build(self, seed: int) -> "RetinaVVS":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        network = build_from_seed(lambda: RetinaVVS(self), seed=seed, initialisation=self.init)
        with torch.no_grad():
            for name in network.retina_names:
                network.get_parameter(f"{name}.weight").mul_(self.init_scale)
        return network


class RetinaVVS(nn.Module):
    """Retina, narrow or not, then ventral visual stream, then a fully connected head.

    The layers have flat names: ``retina_1``, ``retina_2``, … (the last one is the bottleneck),
    ``vvs_1``, …, ``hidden``, ``readout``. Every one of them is linear, so a unit's pre-activation
    is the output of the module of that name; the rectification follows outside.

    Made by `RetinaVVSConfig.build`, which also sets the weights from a seed.

    References
    ----------
    Lindsey, Ocko, Ganguli & Deny 2019, "A unified theory of early visual representations from
    retina to cortex through anatomically constrained deep CNNs", arXiv 1901.00945.
    """

    def __init__(self, config: RetinaVVSConfig):
        super().__init__()
        self.config = config
        self.retina_names = [f"retina_{i + 1}" for i in range(config.retina_layers)]
        self.vvs_names = [f"vvs_{i + 1}" for i in range(config.vvs_layers)]
        widths = [config.in_channels, *[config.retina_width] * (config.retina_layers - 1)]
        widths += [config.bottleneck, *[config.vvs_width] * config.vvs_layers]
        size, padding = config.kernel_size, config.kernel_size // 2

        self.input_noise = GaussianNoise(config.input_noise)
        self.bottleneck_noise = GaussianNoise(config.bottleneck_noise)
        for i, name in enumerate(self.retina_names + self.vvs_names):
            self.add_module(name, nn.Conv2d(widths[i], widths[i + 1], size, padding=padding))
        num_features = widths[-1] * (config.image_size // config.pool) ** 2
        if config.hidden:
            self.hidden = nn.Linear(num_features, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(config.hidden or num_features, config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        h = self.features(images)
        h = functional.avg_pool2d(h, self.config.pool)
        h = h.permute(0, 2, 3, 1).flatten(1)  # y, x, unit as in Keras; quick in channels-last
        if self.config.hidden:
            h = self.dropout(torch.relu(self.hidden(h)))
        return self.readout(h)

    def features(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image unit y x"]:
        """Return the last rectified map before the head; works at any image size."""
        h = self.input_noise(images)
        for name in self.retina_names:
            h = torch.relu(self.get_submodule(name)(h))
        h = self.bottleneck_noise(h)
        for name in self.vvs_names:
            h = torch.relu(self.get_submodule(name)(h))
        return h


def lindsey2019(*, bottleneck: int, vvs_layers: int = 2) -> RetinaVVSConfig:
    """Return the network of Lindsey et al. 2019 for 32 × 32 grey images in [0, 1].

    Every released experiment of the authors has no noise, no pooling, no dropout and Keras' default
    initialisation (github.com/ganguli-lab/RetinalResources). Trained with RMSprop, rate 1e-4,
    decay 1e-6, batch 64, 20 epochs.

    Examples
    --------
    >>> lindsey2019(bottleneck=1).hidden
    1024
    """
    return RetinaVVSConfig(
        image_size=32,
        kernel_size=9,
        retina_width=32,
        bottleneck=bottleneck,
        vvs_layers=vvs_layers,
        vvs_width=32,
        input_noise=0.0,
        pool=1,
        hidden=1024,
        init="glorot",
        init_scale=1.0,
    )


def hanut2025(*, bottleneck: int) -> RetinaVVSConfig:
    """Return the variant of Hanut & Kadmon 2025 (arXiv 2502.20580, Fig. 5).

    Three VVS layers and dropout before the readout; the authors' layers start from torch's default
    (Kaiming uniform, a = √5), not from Glorot's. Trained with RMSprop, rate 4e-4, weight decay
    1e-4, batch 64, 120 epochs.

    Examples
    --------
    >>> hanut2025(bottleneck=4).vvs_layers
    3
    """
    return RetinaVVSConfig(
        image_size=32,
        kernel_size=9,
        retina_width=32,
        bottleneck=bottleneck,
        vvs_layers=3,
        vvs_width=32,
        input_noise=0.0,
        pool=1,
        hidden=1024,
        dropout=0.5,
        init="torch",
        init_scale=1.0,
    )


_LOWEST = {
    "image_size": 1,
    "in_channels": 1,
    "num_classes": 2,
    "kernel_size": 1,
    "retina_width": 1,
    "retina_layers": 1,
    "bottleneck": 1,
    "vvs_layers": 0,
    "vvs_width": 1,
    "pool": 1,
    "hidden": 0,
}
