"""What a balanced network is: its size, balance, disorder, noise, delay and weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurofb.choices import check_choice

Nonlinearity = Literal["tanh", "linear", "erf"] | Callable[[Tensor], Tensor]

#: Streams of random numbers: what is drawn from one leaves the others as they are.
_READOUT, _DISORDER = 20, 21
_PROBE = torch.linspace(-3.0, 3.0, 601, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class BalancedNetwork:
    """Rate network that codes its input by feedback of its own error (arXiv:2006.14178).

    With time in membrane time constants, ξ white noise and J_ij ~ N(0, 1/N)::

        dh_i/dt = -h_i + g Σ_j J_ij φ(h_j) + b Σ_k w_ik [x_k(t) - x̂_k(t - d)] + σ ξ_i(t)
        x̂_k(t) = (1/N) Σ_i w_ik φ(h_i(t)),      <ξ_i(t) ξ_j(t')> = δ_ij δ(t - t')

    The weights are W = g J - (b/N) w wᵀ: a random bulk, and negative feedback of rank K whose
    strength is independent of it. That balance and disorder are separate knobs, and φ = tanh, is
    the paper's; the equations as written here are our reconstruction of its model, and so is the
    convention of the noise: **without feedback the variance of h is σ²/2**.

    Parameters
    ----------
    num_units
        N.
    balance
        b, from 0 on.
    disorder
        g, from 0 on; above 1 a free tanh network is chaotic.
    noise
        σ, from 0 on.
    delay
        d of the feedback, in membrane time constants; a whole number of time steps.
    readout
        Entries of w: ``"signs"`` ±1, ``"normal"`` N(0, 1); both have E[wᵀw]/N = 1.
    num_signals
        K: how many signals are coded at once.
    nonlinearity
        φ, odd: ``"tanh"``, ``"linear"``, ``"erf"`` (erf(√π h / 2), of slope 1 at 0), or a function
        of a torch tensor.

    Raises
    ------
    ValueError
        If a size is below 1, a strength negative or not finite, a name unknown, or φ is not odd.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=50, balance=10.0, noise=0.75)
    >>> disorder, readout = network.weights(seed=0)
    >>> disorder, readout.shape
    (None, (50, 1))
    """

    num_units: int
    balance: float | int
    disorder: float | int = 0.0
    noise: float | int = 0.0
    delay: float | int = 0.0
    readout: Literal["signs", "normal"] = "signs"
    num_signals: int = 1
    nonlinearity: Nonlinearity = "tanh"

    def __post_init__(self) -> None:
        for name in ("num_units", "num_signals"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{name}={size!r} must be at least 1, and whole")
        for name in ("balance", "disorder", "noise", "delay"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) and 0 <= value < math.inf):
                raise ValueError(f"{name}={value!r} must be a number, finite and at least 0")
        check_choice("readout", self.readout, ("signs", "normal"))
        if callable(self.nonlinearity):
            rates = None if isinstance(self.nonlinearity, np.ufunc) else self.rates(_PROBE)
            if not isinstance(rates, Tensor):
                raise ValueError(
                    f"nonlinearity={_name(self.nonlinearity)} must be a function of a torch tensor "
                    "that returns one (torch.tanh, say), or one of: tanh, linear, erf"
                )
            if rates.shape != _PROBE.shape or not torch.allclose(rates, -rates.flip(0)):
                raise ValueError(
                    f"nonlinearity={_name(self.nonlinearity)} must be odd, φ(-h) = -φ(h), finite, "
                    "and act on each entry of a tensor"
                )
        else:
            check_choice("nonlinearity", self.nonlinearity, ("tanh", "linear", "erf"))

    def rates(self, potential: Tensor, out: Tensor | None = None) -> Tensor:
        """Return φ(h), written into `out` where that is given.

        Examples
        --------
        >>> BalancedNetwork(num_units=1, balance=1.0).rates(torch.zeros(2))
        tensor([0., 0.])
        """
        if self.nonlinearity == "tanh":
            return torch.tanh(potential, out=out)
        if self.nonlinearity == "erf":
            return torch.erf(torch.mul(potential, math.sqrt(math.pi) / 2, out=out), out=out)
        rates = potential if self.nonlinearity == "linear" else self.nonlinearity(potential)
        return rates if out is None else out.copy_(rates)

    @property
    def nonlinearity_name(self) -> str:
        """Return the word of φ, or what its function is called with ``()`` behind."""
        name = _name(self.nonlinearity)
        return f"{name}()" if callable(self.nonlinearity) else name

    @property
    def largest_slope(self) -> float:
        """Return the largest slope of φ between h = -3 and 3, which bounds the gain of the loop."""
        rates = self.rates(_PROBE)
        return float(((rates[1:] - rates[:-1]) / (_PROBE[1:] - _PROBE[:-1])).abs().max())

    @property
    def largest_loop_gain(self) -> float:
        """Return what a unit of balance feeds back at most: the slope times that of wᵀw/N.

        Several signals share neurons: for random readouts the largest eigenvalue of wᵀw/N is
        (1 + √(K/N))² where N is large (Marchenko & Pastur); for one signal it is taken as 1.
        """
        shared = (
            1.0
            if self.num_signals == 1
            else (1 + math.sqrt(self.num_signals / self.num_units)) ** 2
        )
        return self.largest_slope * shared

    def weights(self, seed: int, matrix: int = 0) -> tuple[np.ndarray | None, np.ndarray]:
        """Return J (num_units, num_units), None where g = 0, and w (num_units, num_signals).

        Parameters
        ----------
        seed
            Of the simulation.
        matrix
            Number of the realisation; realisation 3 is the same whether or not 0 to 2 are drawn.
        """
        draw = np.random.default_rng((seed, _READOUT, matrix)).standard_normal
        readout = draw((self.num_units, self.num_signals))
        if self.readout == "signs":
            readout = np.where(readout < 0, -1.0, 1.0)
        if self.disorder == 0:
            return None, readout
        draw = np.random.default_rng((seed, _DISORDER, matrix)).standard_normal
        connections = draw((self.num_units, self.num_units), dtype=np.float32)
        connections /= math.sqrt(self.num_units)
        return connections, readout

    def settings(self) -> dict[str, str | int | float]:
        """Return the parameters as plain words and numbers."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"nonlinearity": _name(self.nonlinearity)}


def _name(nonlinearity: Nonlinearity) -> str:
    """Return what φ is called."""
    if isinstance(nonlinearity, str):
        return nonlinearity
    return getattr(nonlinearity, "__name__", type(nonlinearity).__name__)
