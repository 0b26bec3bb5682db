"""Momentum SGD whose update has the rank that is asked for: for causal experiments on rank."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.training.matrix_optimiser import MatrixOptimiser
from neurofb.training.newton_schulz import above_rounding, decompose


@torch.no_grad()
def control_rank(
    matrix: Float[Tensor, "*batch row column"],
    mode: str,
    *,
    rank: int | None = None,
    share: float | None = None,
    amount: float | None = None,
    match_norm: bool = True,
) -> Float[Tensor, "*batch row column"]:
    """Change the singular values of a matrix and keep its singular vectors: U S Vᵀ → U S' Vᵀ.

    The modes, with k = min(row, column) and S in falling order:

    - "none": S' = S;
    - "truncate": the first `rank` of S, then zero;
    - "flat": one for the first ⌈`share` · k⌉, then zero;
    - "interpolate": S'² = (1 − `amount`) S² + `amount` · mean(S²);
    - "polar": one for all.

    The first two lower the rank of an update, the others raise its effective rank. Singular values
    that are rounding (`polar_factor`) stay zero in every mode and are left out of the mean: no
    direction is made that the matrix lacks.

    Parameters
    ----------
    matrix
        Matrices; those with an entry that is not finite give NaN.
    mode
        One of the above.
    rank, share, amount
        An integer ≥ 1 (above k it is k), a number in (0, 1], a number in [0, 1]; of the mode that
        has it.
    match_norm
        Scale to the Frobenius norm of before, which separates the spectrum's shape from the size
        of the step.

    Raises
    ------
    ValueError
        If the mode is unknown, or its number is missing, out of range, or of another mode.

    References
    ----------
    Boeshertz, Pascanu & Clopath 2026, arXiv:2606.11123, control the rank of the updates of
    backpropagation and of feedback alignment so; the definitions here are ours.

    Examples
    --------
    >>> control_rank(torch.diag(torch.tensor([4.0, 3.0])), "truncate", rank=1)
    tensor([[5., 0.],
            [0., 0.]])
    """
    check_mode(mode, rank=rank, share=share, amount=amount)
    if mode == "none":
        return matrix.clone()
    u, s, v = decompose(matrix)
    real = above_rounding(s, matrix)[..., 0, :]
    place = torch.arange(s.shape[-1], device=s.device)
    if mode == "truncate":
        new = s * real * (place < (rank or 0))
    elif mode == "flat":
        new = real * (place < math.ceil((share or 0.0) * s.shape[-1] - 1e-9))
    elif mode == "interpolate":
        square, t = s.square() * real, amount or 0.0
        mean = square.sum(-1, keepdim=True) / real.sum(-1, keepdim=True).clamp(min=1)
        new = ((1 - t) * square + t * mean * real).sqrt()
    else:
        new = real
    if match_norm:
        tiny = torch.finfo(s.dtype).tiny
        before, after = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (s, new))
        new = new * (before / after.clamp(min=tiny))
    return ((u * new[..., None, :]) @ v).to(matrix.dtype)


class RankControlled(MatrixOptimiser):
    """Momentum SGD with the rank of the matrices' updates controlled.

    M ← μ M + G + λ W as in `torch.optim.SGD`, then W ← W − η `control_rank` (M), a kernel
    flattened to output × all its inputs. In a group with ``matrix=False``, and with the mode
    "none", it is `torch.optim.SGD` itself. The decay λ W is part of what is controlled, so in the
    other modes W − B of Kolen-Pollack learning does not shrink by the factor 1 − η λ a step.

    Parameters
    ----------
    params
        Parameters, named or not, or groups of them (`split_params` makes the lists).
    lr, weight_decay, momentum
        η, λ, and μ in [0, 1).
    matrix
        Whether a group's parameters are matrices.
    mode, rank, share, amount, match_norm
        As in `control_rank`.

    Raises
    ------
    ValueError
        If a number is out of its range, or a group of matrices holds a vector.

    Examples
    --------
    >>> net = torch.nn.Linear(4, 3)
    >>> before = net.weight.detach().clone()
    >>> sgd = RankControlled([net.weight], lr=0.1, mode="truncate", rank=1)
    >>> net(torch.randn(8, 4)).square().sum().backward()
    >>> sgd.step()
    >>> int(torch.linalg.matrix_rank(net.weight - before, rtol=1e-4))
    1
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        weight_decay: float = 0.0,
        *,
        matrix: bool = True,
        momentum: float = 0.9,
        mode: str = "none",
        rank: int | None = None,
        share: float | None = None,
        amount: float | None = None,
        match_norm: bool = True,
    ):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "matrix": matrix,
            "momentum": momentum,
            "mode": mode,
            "rank": rank,
            "share": share,
            "amount": amount,
            "match_norm": match_norm,
        }
        super().__init__(params, defaults)

    @staticmethod
    def check_settings(group: Mapping[str, Any]) -> None:
        """Refuse settings of a group out of their range.

        Raises
        ------
        ValueError
            With the setting's name, its value and what is allowed.

        Examples
        --------
        >>> group = RankControlled([torch.zeros(2, 2)]).defaults
        >>> RankControlled.check_settings(group | {"mode": "truncate"})
        Traceback (most recent call last):
        ValueError: rank=None must be an integer >= 1 for mode='truncate'
        """
        for name in ("lr", "weight_decay"):
            if not 0 <= group[name] < math.inf:
                raise ValueError(f"{name}={group[name]!r} must be a finite number >= 0")
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum={group['momentum']!r} must be in [0, 1)")
        check_mode(group["mode"], **{name: group[name] for name in ("rank", "share", "amount")})

    def update(self) -> None:
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, group)
                if group["matrix"] and group["mode"] != "none":
                    numbers = {
                        name: group[name] for name in ("rank", "share", "amount", "match_norm")
                    }
                    update = control_rank(update.flatten(1), group["mode"], **numbers)
                parameter.add_(update.reshape(parameter.shape), alpha=-float(group["lr"]))

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Take up a gradient and return the momentum."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if not group["momentum"]:
            return gradient
        if not state:
            state["momentum_buffer"] = gradient.clone()
            return gradient
        return state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)


_NUMBERS = {"truncate": "rank", "flat": "share", "interpolate": "amount"}
_MODES = ("none", *_NUMBERS, "polar")


def check_mode(mode: str, *, rank: int | None, share: float | None, amount: float | None) -> None:
    """Refuse a mode that there is not, or numbers that do not fit it.

    Raises
    ------
    ValueError
        With the argument's name, its value and what is allowed.

    Examples
    --------
    >>> check_mode("flat", rank=None, share=0.5, amount=None)
    """
    check_choice("mode", mode, _MODES)
    fits = {
        "rank": (rank, isinstance(rank, Integral) and rank >= 1, "an integer >= 1"),
        "share": (share, share is not None and 0 < share <= 1, "a number in (0, 1]"),
        "amount": (amount, amount is not None and 0 <= amount <= 1, "a number in [0, 1]"),
    }
    for name, (value, is_good, allowed) in fits.items():
        if _NUMBERS.get(mode) == name and not is_good:
            raise ValueError(f"{name}={value!r} must be {allowed} for mode={mode!r}")
        if _NUMBERS.get(mode) != name and value is not None:
            raise ValueError(f"{name}={value!r} must be None for mode={mode!r}, which has none")
