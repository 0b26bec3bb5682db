"""Any optimiser of torch, or ours, with the feedback's matrices in groups of their own."""

import inspect
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from neurofb.choices import check_choice
from neurofb.feedback import pathway_parameters
from neurofb.training.matrix_groups import split_params
from neurofb.training.matrix_optimiser import MatrixOptimiser
from neurofb.training.muon import Muon
from neurofb.training.rank_control import RankControlled

#: our own optimisers: matrices get their update, all other parameters an ordinary one
OWN: dict[str, type[MatrixOptimiser]] = {
    "Muon": Muon,
    "RankControlled": RankControlled,
}


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """An optimiser by name, and which parameters decay.

    Parameters
    ----------
    name
        A class of `torch.optim`; or `Muon` or `RankControlled`, which are ours: they act on
        matrices and kernels (`split_params`) and give all others AdamW and momentum SGD. (Not
        `torch.optim.Muon`, which refuses kernels and vectors.)
    learning_rate, weight_decay
        Of the network's own parameters.
    other_learning_rate
        Of those that are no matrices, for our own classes; ``None`` takes `learning_rate`. AdamW
        beside Muon of scale "original" wants less, 1e-3.
    decay_on
        ``"conv"``: kernels of convolutions only; ``"weights"``: every weight of two or more
        dimensions; ``"all"``: biases and gains too.
    options
        Further keyword arguments of the class, ``{"betas": (0.9, 0.99)}``. The values of those of
        torch's classes are looked at in `build`.
    pathway_learning_rate, pathway_weight_decay
        Of the feedback's matrices; ``None`` takes those of the weights. With our own classes a
        matrix of its weight's shape is updated as the weight is, factors Q and P as vectors are.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or a number is out of its range.

    Examples
    --------
    >>> optimiser = Optimiser(weight_decay=1.0).build(nn.Conv2d(1, 2, 3))
    >>> [(group["name"], group["weight_decay"]) for group in optimiser.param_groups]
    [('weights', 1.0), ('no_decay', 0.0)]
    """

    name: str = "AdamW"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay_on: Literal["conv", "weights", "all"] = "conv"
    options: dict[str, float | bool | int | str | tuple[float, ...]] = field(default_factory=dict)
    other_learning_rate: float | None = None
    pathway_learning_rate: float | None = None
    pathway_weight_decay: float | None = None

    def __post_init__(self) -> None:
        allowed = inspect.signature(_find(self.name)).parameters
        for option in self.options:
            if option not in allowed or option in ("params", "lr", "weight_decay", "matrix"):
                raise ValueError(
                    f"options[{option!r}] is no option of {self.name}; it has {', '.join(allowed)}"
                )
        if self.name in OWN:
            defaults = {name: parameter.default for name, parameter in allowed.items()}
            try:
                OWN[self.name].check_settings(defaults | self.options)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self.name} with options={self.options}: {error}") from error
        if self.other_learning_rate is not None and self.name not in OWN:
            raise ValueError(
                f"other_learning_rate={self.other_learning_rate!r} must be None for {self.name}: "
                f"only {' and '.join(OWN)} treat matrices and other parameters differently"
            )
        for name in ("learning_rate", "weight_decay", "other_learning_rate", *_PATHWAY):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be a finite number >= 0")
        if "weight_decay" not in allowed and (self.weight_decay or self.pathway_weight_decay):
            raise ValueError(
                f"weight_decay={self.weight_decay!r}: {self.name} has no weight decay, "
                "so both decays must be 0"
            )
        check_choice("decay_on", self.decay_on, _MIN_DIMS)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Make the optimiser of a network's trainable parameters.

        Its groups carry a ``"name"`` (weights, no_decay, pathways) and a ``"base_rate"``, the
        learning rate before the schedule. Of our own classes these are the matrices' groups, and
        other_weights, others and other_pathways (``matrix=False``) hold what is no matrix.

        Raises
        ------
        ValueError
            If the network has nothing to train or the class refuses its parameters.
        """
        groups = self._plain_groups(network)
        if self.name in OWN:
            groups = self._split_groups(network, groups)
        groups = [group for group in groups if group["params"]]
        if not groups:
            raise ValueError("network has no parameter with requires_grad=True: nothing to train")
        optimiser_class = _find(self.name)
        if "weight_decay" not in inspect.signature(optimiser_class).parameters:
            for group in groups:
                del group["weight_decay"]
        options = _faster_options(optimiser_class, groups) | self.options
        try:
            return optimiser_class(groups, **options)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise ValueError(f"{self.name} with options={self.options}: {error}") from error

    def _plain_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return the groups by decay."""
        pathways = [p for p in pathway_parameters(network) if p.requires_grad]
        is_pathway = {id(parameter) for parameter in pathways}
        own = [p for p in network.parameters() if p.requires_grad and id(p) not in is_pathway]
        decays = [parameter.ndim >= _MIN_DIMS[self.decay_on] for parameter in own]
        rate, decay = self.learning_rate, self.weight_decay
        pathway_rate = rate if self.pathway_learning_rate is None else self.pathway_learning_rate
        pathway_decay = decay if self.pathway_weight_decay is None else self.pathway_weight_decay
        return [
            _group("weights", [p for p, d in zip(own, decays, strict=True) if d], rate, decay),
            _group("no_decay", [p for p, d in zip(own, decays, strict=True) if not d], rate, 0.0),
            _group("pathways", pathways, pathway_rate, pathway_decay),
        ]

    def _split_groups(
        self, network: nn.Module, groups: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Split each group into matrices and others, for one of our own classes."""
        matrices = {id(parameter) for parameter in split_params(network)[0]}
        rate = self.learning_rate if self.other_learning_rate is None else self.other_learning_rate
        pathway_rate = rate if self.pathway_learning_rate is None else self.pathway_learning_rate
        rates = rate, rate, pathway_rate
        names = ("other_weights", "others", "other_pathways")
        others = []
        for group, name, other_rate in zip(groups, names, rates, strict=True):
            own = [p for p in group["params"] if id(p) not in matrices]
            others.append({**_group(name, own, other_rate, group["weight_decay"]), "matrix": False})
            group["params"] = [p for p in group["params"] if id(p) in matrices]
        return [*groups, *others]


_PATHWAY = ("pathway_learning_rate", "pathway_weight_decay")
_MIN_DIMS = {"conv": 3, "weights": 2, "all": 0}
_NEEDS_MORE = {
    "LBFGS": "needs a closure that evaluates the loss again and again",
    "SparseAdam": "needs sparse gradients",
}


def set_learning_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its base rate times the schedule's factor."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_rate"] * factor


def _find(name: str) -> type[Any]:
    """Return our own class of this name, or that of `torch.optim`."""
    if name in OWN:
        return OWN[name]
    found = getattr(torch.optim, name, None)
    if name in _NEEDS_MORE:
        raise ValueError(f"name={name!r} cannot be used here: it {_NEEDS_MORE[name]}")
    if not (inspect.isclass(found) and issubclass(found, torch.optim.Optimizer)):
        found = torch.optim.Optimizer
    if found is torch.optim.Optimizer:
        raise ValueError(
            f"name={name!r} is no optimiser of torch.optim or ours; try AdamW, SGD, Muon"
        )
    return found


def _group(name: str, parameters: list[nn.Parameter], rate: float, decay: float) -> dict[str, Any]:
    return {
        "params": parameters,
        "name": name,
        "base_rate": rate,
        "lr": rate,
        "weight_decay": decay,
    }


def _faster_options(optimiser_class: type, groups: list[dict[str, Any]]) -> dict[str, bool]:
    """Take the fused update where torch has it: the same numbers up to rounding, in less time."""
    has_fused = "fused" in inspect.signature(optimiser_class).parameters
    kinds = {parameter.device.type for group in groups for parameter in group["params"]}
    return {"fused": True} if has_fused and kinds <= {"cpu", "cuda"} else {}
