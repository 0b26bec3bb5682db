"""How a pathway learns its own matrices: what every learning rule has in common.

A rule teaches the factors Q and P of a low-rank map (`Learning.gradients`), the one matrix B of a
map of full rank (`Learning.dense_gradient`), or either. It returns *pseudo-gradients*: tensors that
an optimiser subtracts, as it does with gradients. They arrive in ``.grad`` of the matrices, so that
any torch optimiser, weight decay and distributed training work as for weights. One rule a file; the
rules never look at the loss.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from torch import Tensor

from neurofb.feedback.factors import Factors, grouped
from neurofb.feedback.stage import Stage


@runtime_checkable
class Matrices(Protocol):
    """What a rule may see of its pathway before the error goes through: Q, P and their history."""

    Q: Tensor
    P: Tensor
    rank: int
    factors: Factors
    fired: int
    layer_name: str
    start_norm: Tensor
    held: Tensor
    warned: bool

    def set_matrices(self, q: Tensor, p: Tensor) -> None:
        """Overwrite Q and P in place."""
        ...


class Signals(NamedTuple):
    """What is present at a pathway's synapses during one backward pass.

    With h the layer's input, δ the error at its output (for a direct pathway: at its source),
    z = P δ and g = Q z. Q and P are in the precision of δ. `weight` is None for a direct pathway;
    `grad_weight`, δ hᵀ, too, and wherever the weight does not learn. `target` is the one-hot target
    of every sample, in the precision of δ, if the rule asks for it (`Learning.needs_targets`).
    """

    h: Tensor
    delta: Tensor
    z: Tensor
    g: Tensor
    q: Tensor
    p: Tensor
    weight: Tensor | None
    factors: Factors
    grad_weight: Tensor | None = None
    target: Tensor | None = None


class DenseSignals(NamedTuple):
    """What is present at the synapses of a matrix B in one backward pass.

    B has the layout of a kernel of `stage`, which maps h to the place of δ. `weight` and
    `grad_weight` are as in `Signals`; `seed` and `fired` are the pathway's, for rules that draw.
    """

    h: Tensor
    delta: Tensor
    b: Tensor
    stage: Stage
    weight: Tensor | None = None
    grad_weight: Tensor | None = None
    seed: int = 0
    fired: int = 0


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Base of the learning rules: a frozen setting, a few facts, a method for each kind of map."""

    #: whether the rule reads the forward weights (weight transport), so is not local
    transports_weights: ClassVar[bool] = False
    #: the factors that receive pseudo-gradients (parameters); the others are buffers
    learns: ClassVar[tuple[str, ...]] = ("Q", "P")

    @property
    def needs_targets(self) -> bool:
        """Whether the rule sees the class labels, which `present_targets` hands on."""
        return False

    def learned_factors(self, factors: Factors) -> tuple[str, ...]:
        """Return which of Q and P receive pseudo-gradients, for this way of splitting a weight."""
        del factors
        return self.learns

    def prepare(self, pathway: Matrices, weight: Tensor | None) -> None:
        """Act on the matrices before the error goes through them (default: nothing)."""

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return the pseudo-gradients of Q and P (None for one that does not learn)."""
        raise NotImplementedError

    def dense_gradient(self, signals: DenseSignals) -> Tensor:
        """Return the pseudo-gradient of B, in B's layout, for a rule that can teach it."""
        raise NotImplementedError


def check_learning(learning: object, allowed: Any) -> None:
    """Refuse a rule that is not in a pathway's union of rules.

    Examples
    --------
    >>> from neurofb.feedback import Fixed, KolenPollack, Oja
    >>> check_learning(Oja(), Fixed | KolenPollack)
    Traceback (most recent call last):
    ValueError: learning=Oja(...) must be one of: Fixed, KolenPollack
    """
    if not isinstance(learning, allowed):
        names = ", ".join(rule.__name__ for rule in get_args(allowed))
        raise ValueError(f"learning={type(learning).__name__}(...) must be one of: {names}")


def kolen_pollack(signals: Signals, factor: Literal["Q", "P"]) -> Tensor:
    """Return the Kolen-Pollack pseudo-gradient of Q, h zᵀ = (h δᵀ) Pᵀ, or of P, Qᵀ (h δᵀ).

    Both are sums over the batch. The second form of each is the weight's own gradient, pushed
    through the other factor: it costs no pass over the batch, so large batches take it.
    """
    factors, gradient = signals.factors, signals.grad_weight
    if gradient is not None and factors.outer.rows(signals.delta).shape[0] >= gradient.shape[0]:
        matrix = factors.matrix(gradient)
        left, right = factors.join(signals.q, signals.p)
        if factor == factors.left_factor:
            return factors.split(grouped(matrix, right.mT), right)["QP".index(factor)]
        return factors.split(left, grouped(left.mT, matrix))["QP".index(factor)]
    inner, outer = factors.kernels(signals.q, signals.p)
    if factor == "Q":
        return factors.kernels(factors.inner.product(signals.h, signals.z, inner.shape), outer)[0]
    compressed = factors.inner.apply(signals.h, inner)
    return factors.kernels(inner, factors.outer.product(compressed, signals.delta, outer.shape))[1]
