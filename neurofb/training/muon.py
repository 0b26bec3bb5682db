"""Muon: orthogonalised momentum for matrices, AdamW for all other parameters, in one step."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from neurofb.training.matrix_groups import flat_gradient
from neurofb.training.matrix_optimiser import MatrixOptimiser
from neurofb.training.newton_schulz import newton_schulz, polar_factor

#: up to this smaller side matrices of one shape are orthogonalised together
_BATCHED_UP_TO = 128


class Muon(MatrixOptimiser):
    """Momentum whose singular values are set to one (Jordan et al. 2024).

    For a matrix W (m × n; a kernel is flattened to output × all its inputs) with gradient G,

    - M ← μ M + (1 − μ) G, and M' = (1 − μ) G + μ M (Nesterov) or M;
    - O = `newton_schulz` (M'), nearly U Vᵀ of its singular value decomposition;
    - W ← (1 − η λ) W − η s(m, n) O.

    A group with ``matrix=False`` gets AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), the
    same numbers as `torch.optim.AdamW`. Unlike `torch.optim.Muon` it takes kernels and vectors,
    computes in single precision and does not decay weights unless told to. Gradients are left as
    they are. The update makes no new directions: its rank is that of M'.

    Parameters
    ----------
    params
        Parameters, named or not, or groups of them (`split_params` makes the lists).
    lr
        η. With the scale "original" 0.003 to 0.03 is usual for matrices, with "match_rms_adamw"
        the rate of AdamW.
    weight_decay
        λ, decoupled.
    matrix
        Whether a group's parameters are matrices.
    momentum, nesterov
        μ in [0, 1), and whether the gradient counts once more.
    scale
        s(m, n): "original" √max(1, m/n); "match_rms_adamw" 0.2 √max(m, n), the root mean square of
        an AdamW update (Liu et al. 2025, arXiv:2502.16982); "spectral" √(m/n).
    num_iterations, ns_dtype
        Of Newton-Schulz. "float32" is exact to six digits; "bfloat16" is torch's, good to two. For
        matrices of 256 rows that is 2 to 3 times faster on a processor with units for it (AMX), and
        4 to 35 times slower on others (benchmarks/muon_time.py).
    exact
        Use the polar factor (a singular value decomposition, slow) in place of Newton-Schulz.
    betas, eps
        Of AdamW.

    Raises
    ------
    ValueError
        If a number is out of its range, or a group of matrices holds a vector; here or in
        `add_param_group`.

    Examples
    --------
    >>> from neurofb.training import split_params
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    >>> matrices, others = split_params(net)
    >>> muon = Muon([{"params": matrices}, {"params": others, "matrix": False, "lr": 1e-3}], lr=0.1)
    >>> before = net[0].weight.detach().clone()
    >>> net(torch.eye(3)).square().sum().backward()
    >>> muon.step()
    >>> change = net[0].weight.detach() - before
    >>> 0.06 < float(torch.linalg.matrix_norm(change, 2)) < 0.121
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        weight_decay: float = 0.0,
        *,
        matrix: bool = True,
        momentum: float = 0.95,
        nesterov: bool = True,
        scale: str = "original",
        num_iterations: int = 5,
        ns_dtype: str = "float32",
        exact: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "matrix": matrix,
            "momentum": momentum,
            "nesterov": nesterov,
            "scale": scale,
            "num_iterations": num_iterations,
            "ns_dtype": ns_dtype,
            "exact": exact,
            "betas": betas,
            "eps": eps,
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
        >>> Muon.check_settings(Muon([torch.zeros(2, 2)]).defaults | {"momentum": 1.5})
        Traceback (most recent call last):
        ValueError: momentum=1.5 must be in [0, 1)
        """
        ranges = {
            "lr": (0 <= group["lr"] < math.inf, "a finite number >= 0"),
            "weight_decay": (0 <= group["weight_decay"] < math.inf, "a finite number >= 0"),
            "momentum": (0 <= group["momentum"] < 1, "in [0, 1)"),
            "scale": (group["scale"] in _SCALES, f"one of {', '.join(_SCALES)}"),
            "num_iterations": (_is_count(group["num_iterations"]), "an integer >= 1"),
            "ns_dtype": (group["ns_dtype"] in _DTYPES, f"one of {', '.join(_DTYPES)}"),
            "betas": (
                len(group["betas"]) == 2 and all(0 <= beta < 1 for beta in group["betas"]),
                "two numbers in [0, 1)",
            ),
            "eps": (group["eps"] >= 0, "a number >= 0"),
        }
        for name, (is_good, allowed) in ranges.items():
            if not is_good:
                raise ValueError(f"{name}={group[name]!r} must be {allowed}")

    def update(self) -> None:
        """Update all parameters that have a gradient."""
        alike: dict[Any, list[tuple[Tensor, Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not group["matrix"]:
                self._step_adamw(moved, group)
                continue
            for parameter in moved:
                update = self._momentum(parameter, group)
                small = min(update.shape) <= _BATCHED_UP_TO
                settings = group["exact"], group["num_iterations"], group["ns_dtype"]
                kind = (update.shape, update.dtype, update.device) if small else id(parameter)
                alike.setdefault((kind, settings), []).append((parameter, update, group))
        for (_, settings), members in alike.items():
            updates = [update for _, update, _ in members]
            if len(updates) == 1:
                factors = [_orthogonalise(updates[0], *settings)]
            else:
                factors = _orthogonalise(torch.stack(updates), *settings).unbind()
            for (parameter, _, group), factor in zip(members, factors, strict=True):
                rate, decay = float(group["lr"]), group["weight_decay"]
                size = rate * step_scale(group["scale"], *factor.shape)
                if decay:
                    parameter.mul_(1 - rate * decay)
                parameter.add_(factor.reshape(parameter.shape), alpha=-size)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Take up a gradient, as (output, all inputs), and return what is orthogonalised."""
        state, gradient = self.state[parameter], flat_gradient(parameter)
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"]
        buffer.lerp_(parameter.grad, 1 - group["momentum"])
        flat = buffer.flatten(1)
        return gradient.lerp(flat, group["momentum"]) if group["nesterov"] else flat

    def _step_adamw(self, moved: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters by AdamW."""
        for parameter in moved:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in moved]
        beta1, beta2 = group["betas"]
        adamw(
            moved,
            [parameter.grad for parameter in moved if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True if all(p.device.type == "cpu" for p in moved) else None,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def step_scale(scale: str, num_rows: int, num_columns: int) -> float:
    """Return s(m, n), the factor on the rate of an m × n matrix.

    Examples
    --------
    >>> [step_scale(scale, 400, 100) for scale in ("original", "match_rms_adamw", "spectral")]
    [2.0, 4.0, 2.0]
    """
    if scale == "match_rms_adamw":
        return 0.2 * math.sqrt(max(num_rows, num_columns))
    ratio = num_rows / num_columns
    return math.sqrt(max(1.0, ratio) if scale == "original" else ratio)


_SCALES = ("original", "match_rms_adamw", "spectral")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def _orthogonalise(g: Tensor, exact: bool, num_iterations: int, ns_dtype: str) -> Tensor:
    if exact:
        return polar_factor(g)
    return newton_schulz(g, num_iterations=num_iterations, dtype=_DTYPES[ns_dtype])


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1
