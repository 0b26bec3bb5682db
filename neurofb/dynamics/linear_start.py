"""Where linear learning starts: weights and feedback, drawn from the seeds of the task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurofb.dynamics.linear_rules import RULES
from neurofb.dynamics.linear_settings import LinearCondition, LinearTraining
from neurofb.dynamics.linear_task import LinearTask


class LinearStart(NamedTuple):
    """The matrices that one condition starts from, the seed leading.

    Parameters
    ----------
    weights
        W_1 to W_L, each (seed, n_out, n_in).
    q
        Q of layers 2 to L, each (seed, n_in, r); B itself for "FA"; empty for "BP".
    p
        P of layers 2 to L, each (seed, r, n_out); empty for "BP" and "FA".
    """

    weights: tuple[Tensor, ...]
    q: tuple[Tensor, ...] = ()
    p: tuple[Tensor, ...] = ()


def initial_weights(
    task: LinearTask, conditions: Sequence[LinearCondition], training: LinearTraining
) -> list[LinearStart]:
    """Draw where each condition starts: the same weights for all conditions of a seed.

    W_l is normal with standard deviation start_scale / n_out (Hanut & Kadmon's). Of the feedback a
    condition of rank r has the first r rows of one orthogonal matrix as P, and the first r columns
    of one normal matrix as Q, whatever the other conditions are: with deviation 1 / √n_in if
    the start is "fixed" (a random error keeps its length at full rank), that of W if it is "small".
    From "svd" Q has the leading right singular vectors of W, and P = Σ Uᵀ.

    Parameters
    ----------
    task, conditions, training
        As for `neurofb.dynamics.simulate_linear`.

    Returns
    -------
    list[LinearStart]
        One a condition, in the task's precision and on its device.

    Raises
    ------
    ValueError
        If a layer does not allow a condition's rank.

    Examples
    --------
    >>> from neurofb.dynamics import random_task
    >>> task = random_task(6, 4, 2, seeds=(0, 1))
    >>> condition = LinearCondition(rule="LDFA fixed P", rank=3)
    >>> (start,) = initial_weights(task, [condition], LinearTraining(hidden=(5,)))
    >>> start.weights[1].shape, start.q[0].shape, start.p[0].shape
    (torch.Size([2, 4, 5]), torch.Size([2, 5, 3]), torch.Size([2, 3, 4]))
    """
    sizes = (task.num_inputs, *training.hidden, task.num_outputs)
    largest = min(sizes[1:])
    for condition in conditions:
        if condition.rank is not None and condition.rank > largest:
            raise ValueError(
                f"rank={condition.rank} of condition {condition.name!r} must be at most {largest}, "
                f"the smallest of the layers {sizes[1:]} that the feedback connects"
            )
    drawn = [_draw(seed, sizes, training.start_scale) for seed in task.seeds]
    stacked = [
        torch.tensor(np.array(arrays)).to(task.teacher) for arrays in zip(*drawn, strict=True)
    ]
    depth = len(sizes) - 1
    weights = tuple(stacked[:depth])
    normal, rotation = stacked[depth::2], stacked[depth + 1 :: 2]
    starts = []
    for condition in conditions:
        rule = RULES[condition.rule]
        if rule.map == "transpose":
            starts.append(LinearStart(weights))
            continue
        pairs = [
            _feedback(condition, weight, b, o, training.start_scale)
            for weight, b, o in zip(weights[1:], normal, rotation, strict=True)
        ]
        q, p = tuple(zip(*pairs, strict=True))
        starts.append(LinearStart(weights, q, p if rule.map == "low-rank" else ()))
    return starts


def _draw(seed: int, sizes: tuple[int, ...], scale: float | int) -> list[np.ndarray]:
    """Draw all weights, and for each but the first a normal matrix and a rotation."""
    generator = np.random.default_rng((seed, 1))
    layers = list(zip(sizes[1:], sizes[:-1], strict=True))
    arrays = [scale / n_out * generator.standard_normal((n_out, n_in)) for n_out, n_in in layers]
    for n_out, n_in in layers[1:]:
        arrays.append(generator.standard_normal((n_in, n_out)))
        arrays.append(np.linalg.qr(generator.standard_normal((n_out, n_out)))[0])
    return arrays


def _feedback(
    condition: LinearCondition, weight: Tensor, normal: Tensor, rotation: Tensor, scale: float | int
) -> tuple[Tensor, Tensor]:
    """Return Q and P of a layer for one condition."""
    n_out, n_in = weight.shape[1:]
    rank = condition.rank or n_out
    start = condition.start or RULES[condition.rule].start
    if start == "svd":
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        return vh.mT[:, :, :rank].contiguous(), (u[:, :, :rank] * s[:, None, :rank]).mT.contiguous()
    size = n_in**-0.5 if start == "fixed" else scale / n_out
    return size * normal[:, :, :rank], rotation[:, :rank].contiguous()
