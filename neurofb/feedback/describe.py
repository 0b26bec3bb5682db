"""Say which rule acts on what: a row for every parameter and every feedback matrix."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

import torch
from torch import nn

from neurofb.feedback.attach import feedback_layers


@dataclass(frozen=True)
class Row:
    """What is known of one parameter or feedback matrix."""

    parameter: str
    shape: str
    share: str
    error_leaves_by: str
    source: str
    transport: str
    group: str
    fired: str


@dataclass(frozen=True)
class Description:
    """The rows of `describe`; printing it gives the table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        names = [field.name.replace("_", " ") for field in fields(Row)]
        cells = [names, *(astuple(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def describe(network: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> Description:
    """Tabulate, per parameter, the way on which its layer sends the error further back.

    A weight learns from the error that *reaches* its layer; the column "error leaves by" says what
    becomes of the error behind it. "transport" says whether that way reads the forward weight.

    Parameters
    ----------
    network
        A network with or without pathways.
    optimiser
        If given, the column "group" names the optimiser's parameter group (``group["name"]`` or its
        number), and "none" a parameter that no optimiser moves.

    Returns
    -------
    Description
        Rows for tests, a table for people (``print(describe(network))``). "share" is the share of
        all numbers, feedback matrices included; "fired" counts backward passes by the pathway.

    Examples
    --------
    >>> from neurofb.feedback import LowRank, attach
    >>> net = attach(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2)), {"1": LowRank(rank=1)})
    >>> print(describe(net))
    parameter    shape  share  error leaves by     source  transport  group     fired
    -----------  -----  -----  ------------------  ------  ---------  --------  -----
    0.weight     6×6    56.2%  autograd (BP)       -       yes        weights   -
    0.bias       6      9.4%   autograd (BP)       -       yes        weights   -
    1.weight     2×6    18.8%  low_rank r=1 [oja]  -       no         weights   0
    1.bias       2      3.1%   low_rank r=1 [oja]  -       no         weights   0
    1.pathway.Q  6×1    9.4%   (matrix of 1)       -       no         pathways  0
    1.pathway.P  1×2    3.1%   (matrix of 1)       -       no         pathways  0
    """
    layers = dict(feedback_layers(network))
    matrices = {
        f"{name}.pathway.{key}": value
        for name, layer in layers.items()
        for key, value in layer.pathway.named_buffers()
        if value.dim() > 0
    }
    tensors = {**dict(network.named_parameters()), **matrices}
    total = sum(tensor.numel() for tensor in tensors.values())
    groups = _groups(optimiser)
    rows = []
    for name, tensor in tensors.items():
        owner, _, _ = name.rpartition(".")
        in_pathway = owner.endswith(".pathway")
        owner = owner.removesuffix(".pathway")
        layer = layers.get(owner)
        if layer is None:
            error, source, transport, count = "autograd (BP)", "-", "yes", "-"
        else:
            pathway = layer.pathway
            error = f"(matrix of {owner})" if in_pathway else pathway.rule
            source, count = pathway.source or "-", str(pathway.fired)
            reads = pathway.transports_weights
            transport = reads if isinstance(reads, str) else {True: "yes", False: "no"}[reads]
        default = "pathways" if in_pathway else "weights"
        if not isinstance(tensor, nn.Parameter) or not tensor.requires_grad:
            default = "constant"
        group = default if optimiser is None else groups.get(id(tensor), "none")
        shape = "×".join(map(str, tensor.shape))
        share = f"{tensor.numel() / total:.1%}"
        rows.append(Row(name, shape, share, error, source, transport, group, count))
    return Description(tuple(rows))


def _groups(optimiser: torch.optim.Optimizer | None) -> Mapping[int, str]:
    """Return the name of the parameter group of each parameter (by id)."""
    if optimiser is None:
        return {}
    return {
        id(parameter): str(group.get("name", number))
        for number, group in enumerate(optimiser.param_groups)
        for parameter in group["params"]
    }
