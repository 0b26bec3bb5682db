"""What a training step's equations cost, in the cheapest order of their products.

Beside the count of `neurofb.measures.compute_cost` it says how far the code is from that.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from neurofb.feedback.direct_random import DirectRandomPathway
from neurofb.feedback.low_rank import LowRankPathway
from neurofb.feedback.pathway import Pathway
from neurofb.feedback.random import RandomPathway
from neurofb.feedback.route import DirectRoute, Receiver
from neurofb.feedback.svd_refresh import SvdRefresh
from neurofb.feedback.weight_mirror import WeightMirror
from neurofb.labels import coordinate, variable
from neurofb.measures.compute_cost import PHASES
from neurofb.measures.flops import singular_value_flops


def analytic_cost(network: nn.Module, example_input: Tensor) -> xr.Dataset:
    """Return the FLOPs that the equations of a training step need, by layer and phase.

    Matrix products and convolutions, two FLOPs a multiply-add. Element-wise work, sums, casts, the
    optimiser and products outside of layers (attention's own two) are left out. Nothing is counted
    for an error that nobody asks for: at the first layer, or past what a direct pathway bypasses.

    A low-rank error costs T r (n_in + n_out) multiply-adds for T samples instead of T n_in n_out
    (samples times pixels for a convolution). A Kolen-Pollack factor learns by h zᵀ = (h δᵀ) Pᵀ,
    whichever is cheaper; the second takes the weight's gradient, which is there already.

    Parameters
    ----------
    network
        A network, with pathways or without. Its `nn.Linear` and `nn.Conv2d` layers and the modules
        with direct pathways are counted.
    example_input
        A batch of the size to count for; a copy of the network runs forwards on it.

    Returns
    -------
    xr.Dataset
        ``flops`` over ``layer`` (in the order in which they run) and ``phase``.

    Raises
    ------
    ValueError
        If no layer ran.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> analytic_cost(net, torch.ones(5, 8)).flops.sel(phase="error").values
    array([  0., 640.])
    """
    runs = _run(copy.deepcopy(network), example_input)
    if not runs:
        raise ValueError("no nn.Linear or nn.Conv2d layer ran on example_input")
    costs = np.zeros((len(runs), len(PHASES)))
    for i, run in enumerate(runs):
        for phase, multiply_adds in _multiply_adds(run).items():
            costs[i, PHASES.index(phase)] = 2 * multiply_adds
    flops = variable(("layer", "phase"), costs, "1", "floating-point operations")
    names = coordinate("layer", [run.name for run in runs])
    return xr.Dataset({"flops": flops}, {"layer": names, "phase": coordinate("phase", PHASES)})


@dataclass
class _Run:
    """One call of a module in the forward pass."""

    name: str
    module: nn.Module
    h: torch.Size
    needs_error: bool
    a: torch.Size
    source: torch.Size | None = None


def _run(network: nn.Module, example_input: Tensor) -> list[_Run]:
    """Run a network and return the calls of its layers and of the modules with direct pathways."""
    names = {module: name for name, module in network.named_modules()}
    runs: list[_Run] = []
    shapes: dict[str, torch.Size] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        name = names[module]
        if isinstance(output, Tensor):
            shapes[name] = output.shape
        if isinstance(module, nn.Linear | nn.Conv2d | Receiver):
            needs = torch.is_tensor(inputs[0]) and inputs[0].requires_grad
            runs.append(_Run(name, module, inputs[0].shape, needs, output.shape))

    for module in network.modules():
        module.register_forward_hook(record)
    devices = [example_input.device] if example_input.is_cuda else []
    with torch.enable_grad(), torch.random.fork_rng(devices):
        network(example_input)
    for run in runs:
        if isinstance(run.module, Receiver):
            run.source = shapes[str(run.module.pathway.source)]
    return runs


def _multiply_adds(run: _Run) -> dict[str, int | float]:
    """Return the multiply-adds of one call by phase."""
    found: dict[str, int | float] = {}
    full, kernel = 0, 0
    if isinstance(run.module, nn.Linear | nn.Conv2d):
        kernel = run.module.weight.numel()
        full = _rows(run.a) * kernel
        found["forward"] = full
        found["weight_gradient"] = full * run.module.weight.requires_grad
    if not run.needs_error:
        return found
    pathway = getattr(run.module, "pathway", None)
    if isinstance(pathway, DirectRoute):
        assert run.source is not None
        is_map = isinstance(pathway, DirectRandomPathway | LowRankPathway) and _has_kernel(pathway)
        rows = (_rows(run.h), _rows(run.source)) if is_map else (run.h[0], run.h[0])
        return found | _through(pathway, 0, 0, *rows)
    return found | _through(pathway, full, kernel, _rows(run.h), _rows(run.a))


def _through(
    pathway: Pathway | None, full: int, kernel: int, rows_in: int, rows_out: int
) -> dict[str, int | float]:
    """Return the multiply-adds of error and learning of a pathway.

    `full` is what the exact error costs, `kernel` the size of the weight whose gradient is there
    (0 for a direct pathway), `rows_in` and `rows_out` the samples (times pixels) at its two ends.
    """
    match pathway:
        case LowRankPathway():
            work = _LowRank(pathway, kernel, rows_in, rows_out)
            rule = str(vars(pathway.learning)["rule"])
            found = {"error": work.error, "pathway_learning": _LEARNING[rule](work)}
            if isinstance(pathway.learning, SvdRefresh):
                found["svd_refresh"] = work.svd / pathway.learning.every
            return found
        case DirectRandomPathway():
            product = rows_out * pathway.B.numel()
            return {"error": product, "pathway_learning": product * bool(pathway.learned)}
        case RandomPathway(learning=WeightMirror() as mirror):
            noise = 2 * mirror.num_samples * kernel / mirror.every
            return {"error": full, "pathway_learning": noise}
        case _:  # one kernel of the weight's size; Kolen-Pollack takes the weight's own gradient
            return {"error": full}


@dataclass
class _LowRank:
    """The parts of which the cost of a low-rank pathway consists, in multiply-adds."""

    pathway: LowRankPathway
    kernel: int
    rows_in: int
    rows_out: int

    def __post_init__(self) -> None:
        pathway, factors = self.pathway, self.pathway.factors
        self.q, self.p, self.rank = pathway.Q.numel(), pathway.P.numel(), pathway.rank
        self.groups = getattr(getattr(factors, "stage", None), "groups", 1)
        self.channels_in_p = factors.channel_factor == "P"
        self.dense = pathway.Q.dim() == 2
        # a k×k kernel runs over the positions of δ, as Q's 1×1 kernel does over those of h
        self.through_p = self.rows_out * self.p
        q_rows = self.rows_out if self.channels_in_p and not self.dense else self.rows_in
        self.through_q = q_rows * self.q
        #: the weight or its gradient times one factor
        self.of_kernel = self.rank * self.kernel

    @property
    def error(self) -> int:
        """Q P δ, and the r × r products of an energy match."""
        matched = self.rank * (self.q + self.p) if self.pathway.matches_energy else 0
        return self.through_p + self.through_q + matched

    @property
    def follow_q(self) -> int:
        """Q's h zᵀ, or (h δᵀ) Pᵀ."""
        return min(self.through_q, self.of_kernel or self.through_q)

    @property
    def follow_p(self) -> int:
        """P's (Qᵀ h) δᵀ, or Qᵀ (h δᵀ)."""
        by_rows = self.through_q + self.through_p
        return min(by_rows, self.of_kernel or by_rows)

    @property
    def normative(self) -> int:
        """Products W Pᵀ, Q (P Pᵀ), Qᵀ W and (Qᵀ Q) P."""
        return 2 * self.of_kernel + 2 * self.rank * (self.q + self.p)

    @property
    def subspace(self) -> int:
        """Oja's z eᵀ and (z zᵀ) P, and the components z where they are not there yet."""
        rows, factor = (self.rows_out, self.p) if self.channels_in_p else (self.rows_in, self.q)
        is_there = self.channels_in_p and not self.pathway.learning.needs_targets
        products = 1 if is_there else 2
        return rows * (products * factor + self.groups * self.rank**2) + factor * self.rank

    @property
    def oja(self) -> int:
        """The subspace rule for one factor, Kolen-Pollack for the other."""
        return self.subspace + (self.follow_q if self.channels_in_p else self.follow_p)

    @property
    def svd(self) -> float:
        """A thin SVD of W."""
        left, right = self.pathway.factors.join(self.pathway.Q, self.pathway.P)
        return self.groups * singular_value_flops(left.shape[1], right.shape[2]) / 2


_LEARNING: dict[str, Callable[[_LowRank], int | float]] = {
    "fixed": lambda work: 0,
    "svd_refresh": lambda work: 0,
    "kolen_pollack": lambda work: work.follow_q,
    "factored_kolen_pollack": lambda work: work.follow_q + work.follow_p,
    "normative": lambda work: work.normative,
    "subspace": lambda work: work.subspace,
    "oja": lambda work: work.oja,
}


def _has_kernel(pathway: DirectRandomPathway | LowRankPathway) -> bool:
    """Whether a direct pathway goes from map to map, by convolution."""
    matrix = pathway.B if isinstance(pathway, DirectRandomPathway) else pathway.Q
    return matrix.dim() == 4


def _rows(shape: torch.Size) -> int:
    """Return how often a map is applied: samples times pixels, or samples times tokens."""
    return shape[0] * math.prod(shape[2:]) if len(shape) == 4 else math.prod(shape[:-1])
