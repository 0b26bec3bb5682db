"""Multilayer perceptron of any depth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.choices import check_choice
from neurofb.networks.checks import check_integers, check_probability
from neurofb.networks.initialise import Initialisation, build_from_seed
from neurofb.networks.normalisation import Normalisation, make_normalisation

#: what a hidden unit makes of its input; "linear" leaves it as it is
Activation = Literal["relu", "tanh", "linear"]
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "linear": lambda a: a,
}


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Settings of `MLP`; the defaults are the CIFAR-10 network of Hanut & Kadmon (2025).

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    hidden
        Units of each hidden layer, from the input on; empty for a linear classifier.
    normalisation
        Between a hidden layer's linear map and its activation (`make_normalisation`).
    activation
        Of the hidden units: "relu"; "tanh" for a smooth network, "linear" for a deep linear one.
    dropout
        Probability of dropping a hidden unit, after the activation.
    initialisation
        Of weights and biases (`build_from_seed`).

    Raises
    ------
    ValueError
        If a value is out of its range; the message names argument, value and range.

    Examples
    --------
    >>> network = MLPConfig(image_size=28, in_channels=1, hidden=(64, 32)).build(seed=0)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    network: Literal["mlp"] = "mlp"
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    hidden: tuple[int, ...] = (512, 512, 512)
    normalisation: Normalisation = "batch"
    activation: Activation = "relu"
    dropout: float = 0.0
    initialisation: Initialisation = "torch"

    def __post_init__(self) -> None:
        check_integers(self, {"image_size": 1, "in_channels": 1, "num_classes": 2, "hidden": 1})
        check_probability("dropout", self.dropout)
        check_choice("normalisation", self.normalisation, Normalisation)
        check_choice("activation", self.activation, Activation)
        check_choice("initialisation", self.initialisation, Initialisation)

    def build(self, seed: int) -> "MLP":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        return build_from_seed(lambda: MLP(self), seed=seed, initialisation=self.initialisation)


class MLP(nn.Module):
    """Linear maps, each but the last followed by a normalisation, an activation and dropout.

    The layers are ``hidden_1``, ``hidden_2``, …, ``readout``; the normalisation after ``hidden_1``
    is ``norm_1``.

    Made by `MLPConfig.build`, which also sets the weights from a seed.
    """

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        widths = [config.in_channels * config.image_size**2, *config.hidden]
        for i, width in enumerate(config.hidden, start=1):
            self.add_module(f"hidden_{i}", nn.Linear(widths[i - 1], width))
            self.add_module(f"norm_{i}", make_normalisation(config.normalisation, width, ndim=2))
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(widths[-1], config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        h, activate = images.flatten(1), _ACTIVATIONS[self.config.activation]
        for i in range(1, len(self.config.hidden) + 1):
            a = self.get_submodule(f"norm_{i}")(self.get_submodule(f"hidden_{i}")(h))
            h = self.dropout(activate(a))
        return self.readout(h)
