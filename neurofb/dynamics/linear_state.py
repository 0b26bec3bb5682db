"""The matrices of many linear networks that learn at once, and one step of their learning."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad

from neurofb.dynamics.linear_rules import RULES, LinearRule, LinearSignals
from neurofb.dynamics.linear_settings import LinearCondition, LinearTraining
from neurofb.dynamics.linear_start import LinearStart
from neurofb.dynamics.linear_task import LinearTask


def rule_and_size(condition: LinearCondition) -> tuple[int, int]:
    """Return what conditions that run as one share: the rule, and the rank up to a power of two.

    Examples
    --------
    >>> [rule_and_size(LinearCondition(rule="low-rank FA", rank=r))[1] for r in (1, 2, 3, 4, 5)]
    [0, 1, 2, 2, 3]
    """
    return list(RULES).index(condition.rule), ((condition.rank or 1) - 1).bit_length()


class _Group:
    """Conditions of one rule: their Q, P and rates, and where they lie among all conditions."""

    def __init__(
        self,
        conditions: Sequence[LinearCondition],
        starts: Sequence[LinearStart],
        first: int,
        training: LinearTraining,
        like: Tensor,
    ) -> None:
        self.rule: LinearRule = RULES[conditions[0].rule]
        self.where = slice(first, first + len(conditions))
        rates = partial(_rates, conditions, training, like)
        self.q_rate = rates("learning_rate" if self.rule.learns_like_weight else "feedback_rate")
        self.p_rate, self.decay = rates("feedback_rate"), rates("feedback_decay")
        self.q_decay = rates("weight_decay") * self.rule.learns_like_weight
        self.q_rate_decay = 1.0 if self.rule.learns_like_weight else self.decay
        self.normalise = torch.tensor([c.normalise for c in conditions], device=like.device)
        self.normalise = self.normalise[:, None, None]
        above = range(len(starts[0].weights) - 1)
        self.q = [_stack([start.q for start in starts], i, -1, like) for i in above]
        self.p = [_stack([start.p for start in starts], i, -2, like) for i in above]


class LinearState:
    """All conditions and seeds: W_l (seed, condition, n_out, n_in), Q and P by rule.

    Parameters
    ----------
    task, training
        As for `neurofb.dynamics.simulate_linear`.
    conditions, starts
        Conditions of one `rule_and_size` must be neighbours.
    """

    def __init__(
        self,
        task: LinearTask,
        conditions: Sequence[LinearCondition],
        starts: Sequence[LinearStart],
        training: LinearTraining,
    ) -> None:
        like = task.teacher
        self.task, self.modes = task, task.modes()
        self.output_input = task.output_input[:, None]
        self.output_covariance = task.output_covariance[:, None]
        self.weights = [
            _stack([start.weights for start in starts], i, -1, like)
            for i in range(len(starts[0].weights))
        ]
        inputs = self.weights[0].shape[-1]  # memory for each step's errors at the hidden layers
        self.errors = [w.new_empty(*w.shape[:-1], inputs) for w in self.weights[:-1]]
        rates = partial(_rates, conditions, training, like)
        self.rate, self.decay = rates("learning_rate"), rates("weight_decay")
        self.clip = math.inf if training.gradient_clip is None else float(training.gradient_clip)
        self.groups = []
        members = enumerate(zip(conditions, starts, strict=True))
        for _, each in groupby(members, key=lambda member: rule_and_size(member[1][0])):
            indices, pairs = zip(*each, strict=True)
            own, own_starts = zip(*pairs, strict=True)
            self.groups.append(_Group(own, own_starts, indices[0], training, like))

    def product(self, where: slice = slice(None)) -> Tensor:
        """Return W_L … W_1 (seed, condition, m, n) of all conditions, or of some."""
        total = self.weights[0][:, where]
        for weight in self.weights[1:]:
            total = weight[:, where] @ total
        return total

    def step(self) -> None:
        """Make one step of gradient descent."""
        activities = [self.weights[0]]  # h_l as a map of the input
        for weight in self.weights[1:-1]:
            activities.append(weight @ activities[-1])
        seeds, conditions, units, inputs = activities[-1].shape
        correlated = activities[-1].reshape(seeds, -1, inputs) @ self.task.input_covariance
        correlated = correlated.view(seeds, conditions, units, inputs)
        error = (self.weights[-1] @ correlated).neg_().add_(self.output_input)  # mean of δ_L xᵀ
        changes, errors = [], [error]
        for layer in range(len(self.weights) - 1, 0, -1):
            changes.insert(0, (errors[0] @ activities[layer - 1].mT).clamp_(-self.clip, self.clip))
            parts = [
                group.rule.back(
                    self.weights[layer][:, group.where],
                    group.q[layer - 1],
                    group.p[layer - 1],
                    errors[0][:, group.where],
                )
                for group in self.groups
            ]
            errors.insert(0, torch.cat(parts, dim=1, out=self.errors[layer - 1]))
        changes.insert(0, errors[0].clamp_(-self.clip, self.clip))
        for group in self.groups:
            self._learn(group, changes)
        for weight, change in zip(self.weights, changes, strict=True):
            weight.mul_(1 - self.rate * self.decay).addcmul_(change, self.rate)

    def _learn(self, group: _Group, changes: list[Tensor]) -> None:
        """Let one rule teach its Q and P, all layers from the state before the step."""
        learned = []
        last = len(self.weights) - 1
        for layer in range(1, last + 1):
            error: Callable[[], Tensor] = partial(self._error_moment, group, layer)
            target = partial(self._target_moment, group) if layer == last else error
            learned.append(
                group.rule.learn(
                    LinearSignals(
                        self.weights[layer][:, group.where],
                        changes[layer][:, group.where],
                        group.q[layer - 1],
                        group.p[layer - 1],
                        error,
                        target,
                    )
                )
            )
        for q, p, (dq, dp) in zip(group.q, group.p, learned, strict=True):
            if dq is not None:
                q.mul_(1 - group.q_rate * group.q_decay)
                q.addcmul_(dq.clamp_(-self.clip, self.clip), group.q_rate)
            if dp is not None:
                p.addcmul_(dp.clamp_(-self.clip, self.clip), group.p_rate)
        group.q_rate = group.q_rate * group.q_rate_decay
        group.p_rate = group.p_rate * group.decay

    def _error_moment(self, group: _Group, layer: int) -> Tensor:
        """Return the mean of δ_l δ_lᵀ for the conditions of a group."""
        moment = self.task.error_moment(self.product(group.where))
        for above in range(len(self.weights) - 1, layer, -1):  # B M, then B (B M)ᵀ = B M Bᵀ
            weight = self.weights[above][:, group.where]
            for _ in range(2):
                q, p = group.q[above - 1], group.p[above - 1]
                moment = group.rule.back(weight, q, p, moment).mT
        return normalised(moment, group.normalise)

    def _target_moment(self, group: _Group) -> Tensor:
        """Return Σ_yy."""
        return normalised(self.output_covariance, group.normalise)

    def record(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return overlaps (seed, condition, mode), loss and feedback gap (seed, condition)."""
        product = self.product()
        along = (self.modes.output[:, None].mT @ product) * self.modes.input[:, None].mT
        overlap = along.sum(-1) / self.modes.singular_value[:, None]
        gap = torch.zeros(product.shape[:2]).to(product)
        for layer, weight in enumerate(self.weights[1:]):
            eye = torch.eye(weight.shape[-2], dtype=weight.dtype, device=weight.device)
            maps = [
                g.rule.back(weight[:, g.where], g.q[layer], g.p[layer], eye) for g in self.groups
            ]
            gap += (weight.mT - torch.cat(maps, dim=1)).square().sum((-2, -1))
        norm = sum(weight.square().sum((-2, -1)) for weight in self.weights[1:])
        return overlap, self.task.mean_squared_error(product), (gap / norm).sqrt()


def _rates(
    conditions: Sequence[LinearCondition], training: LinearTraining, like: Tensor, name: str
) -> Tensor:
    """Return a rate of every condition, to be multiplied with (seed, condition, row, column)."""
    rates = [condition.rate(name, training) for condition in conditions]
    return torch.tensor(rates, dtype=like.dtype, device=like.device)[:, None, None]


def _stack(matrices: Sequence[tuple[Tensor, ...]], layer: int, axis: int, like: Tensor) -> Tensor:
    """Stack one layer's matrices of all conditions along dim 1, padding `axis` to the largest."""
    if not matrices[0]:
        return like.new_zeros(0)
    layers = [each[layer].to(like) for each in matrices]
    largest = max(each.shape[axis] for each in layers)
    missing = [largest - each.shape[axis] for each in layers]
    padding = [(0, m) if axis == -1 else (0, 0, 0, m) for m in missing]
    return torch.stack([pad(x, p) for x, p in zip(layers, padding, strict=True)], dim=1)


def normalised(moment: Tensor, chosen: Tensor) -> Tensor:
    """Divide a second moment (…, m, m) by its largest diagonal entry, where `chosen` is true.

    Examples
    --------
    >>> normalised(torch.diag(torch.tensor([4.0, 2.0])), torch.tensor(True)).diagonal()
    tensor([1.0000, 0.5000])
    """
    largest = moment.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    return moment / torch.where(chosen & (largest > 0), largest, 1.0)
