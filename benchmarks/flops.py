"""FLOPs of a training step: what the equations need, and what torch was seen to do.

`needed` counts the products of the equations in their cheapest order, two FLOPs a multiply-add;
element-wise work, sums, casts and the optimiser are left out. `dispatched` counts the matrix
products and convolutions that torch runs in one step.
"""

import math

import torch
from cases import Case, Trainee, layers_with_shapes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neurofb import feedback as fb
from neurofb.feedback.low_rank import LowRankPathway

PARTS = ("forward", "weight_gradient", "error", "pathway_learning")


def needed(case: Case, variant: str) -> dict[str, int]:
    """Return FLOPs of a step by part: forward, weight gradient, error propagation, learning.

    The first layer needs no error at its input. The Kolen-Pollack side of a layer's own pathway
    learns by h (P δ)ᵀ = (h δᵀ) Pᵀ, whichever order is cheaper: the second one takes the weight
    gradient, which is there already.
    """
    network = case.build()
    pathways = case.pathways[variant]
    if pathways is not None:
        fb.attach(network, pathways, example_input=torch.zeros(case.input_shape))
    shapes = {name: (h, a) for name, _, h, a in layers_with_shapes(case)}
    parts = dict.fromkeys(PARTS, 0)
    for i, (name, (h, a)) in enumerate(shapes.items()):
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        full = _rows(a) * layer.weight.numel()
        parts["forward"] += full
        parts["weight_gradient"] += full
        if i == 0:
            continue
        pathway = getattr(layer, "pathway", None)
        if isinstance(pathway, LowRankPathway):
            source = shapes[pathway.source][1] if pathway.source else a
            error, learning = _low_rank(pathway, layer, h, source)
            parts["error"] += error
            parts["pathway_learning"] += learning
        else:
            parts["error"] += full
    return {part: 2 * multiply_adds for part, multiply_adds in parts.items()}


def dispatched(trainee: Trainee) -> int:
    """Return the FLOPs of the matrix products and convolutions that one step runs."""
    with FlopCounterMode(display=False) as counter:
        trainee.step()
    return int(counter.get_total_flops())


def _low_rank(
    pathway: LowRankPathway, layer: nn.Module, h: torch.Size, delta: torch.Size
) -> tuple[int, int]:
    """Return multiply-adds of Q P δ and of the learning of Q and P."""
    q, p, rank = pathway.Q, pathway.P, pathway.rank
    rule = str(vars(pathway.learning)["rule"])
    through_p, through_q = _rows(delta) * p.numel(), _rows(h) * q.numel()
    if q.dim() == 4 and pathway.factors.channel_factor == "P":
        through_q = _rows(delta) * q.numel()  # Q's kernel runs over the positions of δ
    error = through_p + through_q
    weight = layer.get_parameter("weight").numel()
    of_weight = 0 if pathway.source else rank * weight  # W or its gradient times Q or P
    follow_q = min(through_q, of_weight or through_q)
    if rule == "fixed":
        return error, 0
    if rule == "normative":
        return error, 2 * of_weight + rank * (q.numel() + p.numel())
    if rule == "factored_kolen_pollack":
        return error, follow_q + min(through_q + through_p, of_weight or through_q + through_p)
    assert rule == "oja", rule
    if q.dim() == 2 or pathway.factors.channel_factor == "P":
        n, rows = p.numel() // rank, _rows(delta)
        return error, follow_q + rows * (n * rank + rank**2) + n * rank**2
    # Oja on Q with the error that arrives at the input: components, cross and inner product
    n, rows = q.numel() // rank, _rows(h)
    follow_p = min(rows * q.numel() + through_p, of_weight)
    return error, follow_p + rows * (2 * n * rank + rank**2) + n * rank**2


def _rows(shape: torch.Size) -> int:
    """Return how often a map is applied: samples times pixels."""
    return shape[0] * math.prod(shape[2:]) if len(shape) == 4 else math.prod(shape[:-1])
