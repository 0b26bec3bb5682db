"""The Jacobian of a field θ → v(θ) at one point: its products with vectors, or all of it."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.choices import check_choice

#: a vector field on parameters: the update that a rule makes, as a function of all parameters
Field = Callable[[Tensor], Tensor]
#: how a field is differentiated
Derivative = Literal["autograd", "difference"]
#: largest number of parameters of which the whole Jacobian is formed (0.8 GB)
MAX_EXACT = 10_000
_ROWS = 128


class ByAutograd:
    """The Jacobian by backpropagation through the field, exact to rounding.

    Products J z are two backward passes (the derivative of u → Jᵀ u), so that a field may itself
    call `torch.autograd.grad` with ``create_graph=True``.

    Examples
    --------
    >>> near = ByAutograd(lambda x: x.flip(0) * x, torch.tensor([1.0, 2.0]))
    >>> near.times(torch.tensor([1.0, 0.0]))
    tensor([2., 2.])
    """

    def __init__(self, field: Field, theta: Float[Tensor, " p"]) -> None:
        with torch.enable_grad():
            self.theta = theta.detach().clone().requires_grad_()
            self.value = field(self.theta)
            check_value(self.value, theta)
            if not self.value.requires_grad:
                raise ValueError(
                    "field carries no derivatives (a constant, .detach() or .grad inside?); "
                    'derivative="difference" differentiates any field'
                )
            self._probe = torch.zeros_like(self.value, requires_grad=True)
            with _Explained():
                (self._back,) = torch.autograd.grad(
                    self.value, self.theta, self._probe, create_graph=True
                )

    def times(self, z: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return J z."""
        with _Explained():
            return torch.autograd.grad(self._back, self._probe, z, retain_graph=True)[0]

    def transposed(self, z: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return Jᵀ z."""
        with _Explained():
            return torch.autograd.grad(self.value, self.theta, z, retain_graph=True)[0]

    def matrix(self) -> Float[Tensor, "p p"]:
        """Return J, some rows at a time."""
        eye = torch.eye(len(self.theta), dtype=self.theta.dtype, device=self.theta.device)
        with _Explained():
            rows = [
                torch.autograd.grad(
                    self.value, self.theta, part, retain_graph=True, is_grads_batched=True
                )[0]
                for part in eye.split(_ROWS)
            ]
        return torch.cat(rows)


class ByDifference:
    """The Jacobian by central differences, for a field of which nothing but values is known.

    J z = (v(θ + ε z) − v(θ − ε z)) / 2ε with |ε z| = `step`; the error is about `step`² times the
    third derivative, and rounding over `step`. A field must be smooth: where it jumps (the update
    of a network with ReLU does) a difference across the jump is large and means nothing.

    Examples
    --------
    >>> theta = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> near = ByDifference(lambda x: x.flip(0) * x, theta)
    >>> near.times(torch.tensor([1.0, 0.0], dtype=torch.float64)).round(decimals=8)
    tensor([2., 2.], dtype=torch.float64)
    """

    def __init__(self, field: Field, theta: Float[Tensor, " p"], step: float = 2e-6) -> None:
        if theta.dtype != torch.float64:
            raise ValueError(f"theta of {theta.dtype} must be float64 for differences")
        if not 0 < step < 1:
            raise ValueError(f"step={step} must be between 0 and 1")
        self.field, self.theta, self.step = field, theta.detach(), step

    def times(self, z: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return J z."""
        norm = float(torch.linalg.vector_norm(z))
        if norm == 0:
            return torch.zeros_like(self.theta)
        epsilon = self.step / norm
        ahead, behind = (self._at(sign * epsilon * z) for sign in (1, -1))
        return (ahead - behind) / (2 * epsilon)

    def matrix(self) -> Float[Tensor, "p p"]:
        """Return J, a column at a time."""
        columns = torch.empty(2 * self.theta.shape, dtype=torch.float64, device=self.theta.device)
        unit = torch.zeros_like(self.theta)
        for i in range(len(unit)):
            unit[i] = 1
            columns[i] = self.times(unit)
            unit[i] = 0
        return columns.mT

    def _at(self, shift: Tensor) -> Tensor:
        """Return the field beside the point."""
        value = self.field(self.theta + shift).detach()
        check_value(value, self.theta)
        return value.clone()


def linearise(
    field: Field, theta: Float[Tensor, " p"], derivative: Derivative = "autograd"
) -> ByAutograd | ByDifference:
    """Return the field near a point, differentiated in one of two ways.

    Parameters
    ----------
    field
        θ → v(θ), both of shape (p,).
    theta
        The point.
    derivative
        ``"autograd"`` (the field consists of torch operations that can be differentiated, without
        ``.detach()``), or ``"difference"`` (any field; θ in float64).

    Raises
    ------
    ValueError
        If `derivative` is unknown, θ is no vector of finite real numbers, v has another shape, or
        the field cannot be differentiated this way.

    Examples
    --------
    >>> linearise(torch.sin, torch.zeros(3)).matrix()
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    check_choice("derivative", derivative, Derivative)
    if theta.ndim != 1 or not len(theta) or not theta.is_floating_point():
        raise ValueError(
            f"theta of shape {tuple(theta.shape)} and {theta.dtype} must be a vector of real "
            "floating-point numbers"
        )
    if not bool(torch.isfinite(theta).all()):
        raise ValueError("theta holds NaN or infinity")
    return ByAutograd(field, theta) if derivative == "autograd" else ByDifference(field, theta)


def jacobian(
    field: Field, theta: Float[Tensor, " p"], derivative: Derivative = "autograd"
) -> Float[Tensor, "p p"]:
    """Return the Jacobian of a field: J_ij = ∂v_i / ∂θ_j.

    Parameters
    ----------
    field, theta, derivative
        As in `linearise`.

    Raises
    ------
    ValueError
        As `linearise`, and above 10 000 parameters, where only products with J can be afforded.

    Examples
    --------
    >>> jacobian(lambda x: torch.stack([-x[1], x[0]]), torch.tensor([1.0, 2.0]))
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    if theta.numel() > MAX_EXACT:
        raise ValueError(
            f"theta has {theta.numel()} parameters; the whole Jacobian is formed up to "
            f"{MAX_EXACT}: take random probes (num_probes=200)"
        )
    return linearise(field, theta, derivative).matrix()


def check_value(value: Tensor, theta: Tensor) -> None:
    """Refuse a field whose value is not a vector of finite numbers like θ."""
    if value.shape != theta.shape:
        raise ValueError(
            f"field returns shape {tuple(value.shape)}, but theta has {tuple(theta.shape)}"
        )
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError("field returns NaN or infinity at or beside theta")


class _Explained:
    """Say what to do when autograd cannot differentiate a field."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            raise ValueError(
                f'field cannot be differentiated ({error}); derivative="difference" can'
            ) from error
