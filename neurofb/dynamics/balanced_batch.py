"""A batch of balanced networks that steps through time: conditions, realisations and trials."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.dynamics.balanced_settings import BalancedNetwork

#: Streams of random numbers: what is drawn from one leaves the others as they are.
_START, _NOISE = 22, 23
#: Normal numbers that a trial draws at once, about; the draw is cut by steps, never within one.
_DRAW = 8192


class BalancedBatch:
    """State of all networks of a batch: h (matrix, network, trial, unit).

    One step, exact in the leak and in the noise, and Euler in what is fed back (our choice)::

        h ← e^{-dt} h + (1 - e^{-dt}) [g J φ(h) + b w (x - x̂(t - d))] + σ √((1 - e^{-2dt})/2) η

    Noise and start belong to (seed, matrix, trial), weights to (seed, matrix): networks of a batch
    share them. A trial therefore has the same numbers whatever else is in the batch. They are
    single precision in a double-precision run too (which then differs by rounding alone).

    Parameters
    ----------
    networks
        That agree in all but balance, disorder, noise and delay.
    time_step
        dt, in membrane time constants.
    num_trials, num_matrices, seed
        Trials of each realisation of the weights, realisations, and where their numbers start.
    start
        h at the start: ``"normal"``, N(0, 1); ``"zero"``; or an array that is broadcast to (matrix,
        network, trial, unit). Before it, the estimate is taken to have been what it is then.
    dtype, device
        Of the tensors.

    Examples
    --------
    >>> network = BalancedNetwork(num_units=40, balance=2.0, nonlinearity="linear")
    >>> batch = BalancedBatch([network], time_step=0.01, seed=0)
    >>> batch.advance(np.full((1000, 1, 1), 0.6), np.full((1000, 1), 2.0))[-1].round(decimals=3)
    tensor([[[[0.4000]]]])
    """

    def __init__(
        self,
        networks: Sequence[BalancedNetwork],
        *,
        time_step: float | int,
        num_trials: int = 1,
        num_matrices: int = 1,
        seed: int = 0,
        start: str | np.ndarray | Tensor = "normal",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.network = networks[0]
        self.seed, self.like = seed, {"dtype": dtype, "device": device}
        self.shape = (num_matrices, len(networks), num_trials)
        self.leak, self.hold = math.exp(-time_step), -math.expm1(-time_step)
        self.lags = [round(network.delay / time_step) for network in networks]
        self._draw_weights(networks)
        num_units, num_signals = self.network.num_units, self.network.num_signals
        self.potential = self._started(start)
        self.rate = torch.empty_like(self.potential)

        kick = math.sqrt(-math.expm1(-2 * time_step) / 2)
        sizes = [kick * network.noise for network in networks]
        self.noise_size = sizes[0] if len(set(sizes)) == 1 else 1.0
        self.noise_sizes = None
        if len(set(sizes)) > 1:
            self.noise_sizes = torch.tensor(sizes, **self.like)[:, None, None]
        steps = 16 // math.gcd(num_units, 16)  # torch draws normal numbers in groups of 16
        steps *= math.ceil(_DRAW / (steps * num_units))
        self.noise = torch.empty(
            num_matrices, num_trials, steps, num_units, dtype=torch.float32, device=device
        )
        self.generators = [
            [self._generator(matrix, trial) for trial in range(num_trials)]
            for matrix in range(num_matrices)
        ]
        self.num_noise_left = 0

        self._estimate(self.potential, first := torch.empty(*self.shape, num_signals, **self.like))
        self.past = first.expand(max(self.lags) + 1, *first.shape).clone()

    def advance(
        self,
        signal: Float[np.ndarray, "step network signal"],
        balance: Float[np.ndarray, "step network"],
        kept: Tensor | None = None,
        record_every: int = 1,
    ) -> Float[Tensor, "step matrix network trial signal"]:
        """Go on by as many steps as the signal has, and return the estimates before each of them.

        Parameters
        ----------
        signal, balance
            x and b at each step.
        kept, record_every
            Where h of the first units goes (record, matrix, network, trial, unit), before every
            `record_every`-th of the steps, from the first on.
        """
        num_steps, before = len(signal), len(self.past)
        gains = torch.tensor(self.hold * balance, **self.like)[:, :, None, None]
        offsets = gains * torch.tensor(signal, **self.like)[:, :, None, :]
        estimates = torch.empty(before + num_steps, *self.past.shape[1:], **self.like)
        estimates[:before] = self.past
        delayed = self._delayed(estimates, before)
        potential, rate = self.potential.flatten(1, 2), self.rate.flatten(1, 2)  # views
        noisy = self.noise_sizes is not None or self.noise_size > 0
        for step in range(num_steps):
            if kept is not None and step % record_every == 0:
                kept[step // record_every] = self.potential[..., : kept.shape[-1]]
            self._estimate(self.potential, estimates[before + step])
            drive = torch.addcmul(offsets[step], delayed(step), gains[step], value=-1)
            leak = self.leak
            if self.recurrent is not None:
                if self.disorders is not None:
                    self.rate.mul_(self.disorders)
                potential.baddbmm_(rate, self.recurrent, beta=leak)
                leak = 1.0
            potential.baddbmm_(drive.flatten(1, 2), self.feedback, beta=leak)
            if noisy:
                self._add_noise()
        self.past = estimates[num_steps:].clone()
        return estimates[before:]

    def _estimate(self, potential: Tensor, out: Tensor) -> None:
        """Write x̂ of the present state into `out` (matrix, network, trial, signal)."""
        self.network.rates(potential, out=self.rate)
        torch.bmm(self.rate.flatten(1, 2), self.readout, out=out.flatten(1, 2))

    def _delayed(self, estimates: Tensor, before: int):
        """Return a function from step to what is fed back (matrix, network, trial, signal)."""
        if len(set(self.lags)) == 1:
            first = before - self.lags[0]
            return lambda step: estimates[first + step]
        lags = torch.tensor(self.lags, device=estimates.device)
        which = torch.arange(len(self.lags), device=estimates.device)
        return lambda step: estimates[before + step - lags, :, which].transpose(0, 1)

    def _add_noise(self) -> None:
        """Add a step's noise; draw for some steps ahead when none is left."""
        steps = self.noise.shape[2]
        if self.num_noise_left == 0:
            for noises, generators in zip(self.noise, self.generators, strict=True):
                for noise, generator in zip(noises, generators, strict=True):
                    noise.normal_(0.0, self.noise_size, generator=generator)
            self.num_noise_left = steps
        noise = self.noise[:, None, :, steps - self.num_noise_left]
        self.num_noise_left -= 1
        if self.noise_sizes is None:
            self.potential.add_(noise)
        else:
            self.potential.addcmul_(noise.to(self.potential.dtype), self.noise_sizes)

    def _draw_weights(self, networks: Sequence[BalancedNetwork]) -> None:
        """Make the tensors of the readout, the feedback and the disorder."""
        disorders = [network.disorder for network in networks]
        widest = networks[int(np.argmax(disorders))]
        num_matrices, num_units = self.shape[0], widest.num_units
        readout = torch.empty(num_matrices, num_units, widest.num_signals, **self.like)
        self.recurrent = self.disorders = None
        if widest.disorder > 0:
            self.recurrent = torch.empty(num_matrices, num_units, num_units, **self.like)
        for matrix in range(num_matrices):  # one at a time: they may be large
            connections, drawn = widest.weights(self.seed, matrix)
            readout[matrix] = torch.from_numpy(drawn)
            if self.recurrent is not None and connections is not None:
                self.recurrent[matrix] = torch.from_numpy(connections).mT
        self.readout, self.feedback = readout / num_units, readout.mT.contiguous()
        if self.recurrent is not None:
            same = len(set(disorders)) == 1
            self.recurrent.mul_(self.hold * (widest.disorder if same else 1.0))
            if not same:
                self.disorders = torch.tensor(disorders, **self.like)[:, None, None]

    def _started(self, start: str | np.ndarray | Tensor) -> Tensor:
        """Return h at the start (matrix, network, trial, unit)."""
        shape = (*self.shape, self.network.num_units)
        if isinstance(start, str) and start == "normal":
            num_matrices, _, num_trials, num_units = shape
            drawn = np.empty((num_matrices, 1, num_trials, num_units))
            for matrix, trial in np.ndindex(num_matrices, num_trials):
                generator = np.random.default_rng((self.seed, _START, matrix, trial))
                drawn[matrix, 0, trial] = generator.standard_normal(num_units)
            start = drawn
        elif isinstance(start, str):
            start = np.zeros(1)
        given = torch.as_tensor(start).to(**self.like)
        if not given.isfinite().all():
            raise ValueError(
                f"start has {int((~given.isfinite()).sum())} entries that are not finite"
            )
        try:
            return given.expand(shape).clone()
        except RuntimeError as error:
            raise ValueError(
                f"start of shape {tuple(given.shape)} must be broadcastable to (matrix, network, "
                f"trial, unit) = {shape}"
            ) from error

    def _generator(self, matrix: int, trial: int) -> torch.Generator:
        """Return the generator of a trial's noise."""
        sequence = np.random.SeedSequence((self.seed, _NOISE, matrix, trial))
        state = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator(device=self.potential.device).manual_seed(state)
