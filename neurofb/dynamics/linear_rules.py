"""The rules by which linear networks and their feedback learn, one small function each.

Everywhere the shapes are those of one layer with n_in inputs and n_out outputs: W (n_out, n_in),
its feedback g = B δ with B = Q P, Q (n_in, r), P (r, n_out), behind leading dims of seed and
condition. The functions return directions of change, which the simulator multiplies by a rate and
*adds*.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor


class LinearSignals(NamedTuple):
    """What the rules may read of one layer: its matrices and the means over the samples.

    `change` is the mean of −dL/da hᵀ, W's own direction of change; the two moments are functions,
    computed only where a rule asks: of the error at the layer's output, and of the targets (at a
    hidden layer: of its error).
    """

    weight: Tensor
    change: Tensor
    q: Tensor
    p: Tensor
    error_moment: Callable[[], Tensor]
    target_moment: Callable[[], Tensor]


Changes = tuple[Tensor | None, Tensor | None]


def fixed(signals: LinearSignals) -> Changes:
    """Change neither Q nor P (BP, FA: there is nothing to learn)."""
    del signals
    return None, None


def kolen_pollack(signals: LinearSignals) -> Changes:
    """Teach Q by W's own change seen through P, dQ = dWᵀ Pᵀ; P stays.

    At W's rate and decay Q − Wᵀ Pᵀ shrinks by 1 − η λ at every step (after Akrout et al. 2019,
    arXiv:1904.05391).
    """
    return signals.change.mT @ signals.p.mT, None


def oja_targets(signals: LinearSignals) -> Changes:
    """Teach Q by Kolen-Pollack and P by Oja's subspace rule on the targets (LDFA v1, Fig. 4)."""
    return kolen_pollack(signals)[0], _oja(signals.p, signals.target_moment())


def oja_error(signals: LinearSignals) -> Changes:
    """Teach Q by Kolen-Pollack and P by Oja's subspace rule on the layer's own error."""
    return kolen_pollack(signals)[0], _oja(signals.p, signals.error_moment())


def normative(signals: LinearSignals) -> Changes:
    """Descend ½‖Wᵀ − Q P‖² (weight transport; LDFA v4, Figs. 2 and 3)."""
    gap = signals.weight.mT - signals.q @ signals.p
    return gap @ signals.p.mT, signals.q.mT @ gap


def factored_kolen_pollack(signals: LinearSignals) -> Changes:
    """Push W's change through both factors: dQ = dWᵀ Pᵀ, dP = Qᵀ dWᵀ.

    Positive feedback: nothing holds Q P at Wᵀ. At the authors' sizes with r = 8 it diverges at W's
    own rate, and does not at a third of it or less.
    """
    return signals.change.mT @ signals.p.mT, signals.q.mT @ signals.change.mT


def _oja(p: Tensor, moment: Tensor) -> Tensor:
    """Return P C (I − Pᵀ P)."""
    driven = p @ moment
    return driven - (driven @ p.mT) @ p


def _transposed(weight: Tensor, q: Tensor, p: Tensor, error: Tensor) -> Tensor:
    del q, p
    return weight.mT @ error


def _dense(weight: Tensor, q: Tensor, p: Tensor, error: Tensor) -> Tensor:
    del weight, p
    return q @ error


def _low_rank(weight: Tensor, q: Tensor, p: Tensor, error: Tensor) -> Tensor:
    del weight
    return q @ (p @ error)


@dataclass(frozen=True)
class LinearRule:
    """A rule: how the error goes back, how Q and P learn, and from where.

    Parameters
    ----------
    learn
        Direction of change of Q and P.
    back
        (W, Q, P, error at the output) → error at the input.
    map
        "transpose" (Wᵀ), "dense" (one matrix B, kept as Q) or "low-rank" (Q P).
    start
        Where Q and P start: "fixed" (random, of the size that carries the error at full strength),
        "small" (P with random orthonormal rows, Q as small as W) or "svd" (the best rank-r
        approximation of Wᵀ: weight transport).
    learns_like_weight
        Whether Q has the rate and the decay of W (Kolen-Pollack), and not the feedback's rate.
    learns_moment
        Whether P learns a second moment (Oja), which may be normalised.
    transports_weights
        Whether learning reads W.

    Examples
    --------
    >>> [name for name, rule in RULES.items() if rule.transports_weights]
    ['BP', 'LDFA normative']
    """

    learn: Callable[[LinearSignals], Changes] = fixed
    back: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _low_rank
    map: Literal["transpose", "dense", "low-rank"] = "low-rank"
    start: Literal["fixed", "small", "svd"] = "small"
    learns_like_weight: bool = False
    learns_moment: bool = False
    transports_weights: bool = False


#: name -> rule. Add one here, and its function above.
RULES: dict[str, LinearRule] = {
    "BP": LinearRule(back=_transposed, map="transpose", transports_weights=True),
    "FA": LinearRule(back=_dense, map="dense", start="fixed"),
    "low-rank FA": LinearRule(start="fixed"),
    "LDFA fixed P": LinearRule(kolen_pollack, learns_like_weight=True),
    "LDFA Oja targets": LinearRule(oja_targets, learns_like_weight=True, learns_moment=True),
    "LDFA Oja error": LinearRule(oja_error, learns_like_weight=True, learns_moment=True),
    "LDFA normative": LinearRule(normative, start="svd", transports_weights=True),
    "LDFA factored KP": LinearRule(factored_kolen_pollack, start="svd"),
}
