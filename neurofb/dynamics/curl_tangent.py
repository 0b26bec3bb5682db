"""One step of curl descent as a map with its derivative: for Lyapunov exponents."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.dynamics.curl_batch import CurlBatch
from neurofb.dynamics.curl_errors import LinearErrors, errors_of
from neurofb.dynamics.curl_result import check_runs
from neurofb.dynamics.curl_training import CurlTraining
from neurofb.dynamics.flips import Flips
from neurofb.dynamics.student_teacher import StudentTeacher
from neurofb.dynamics.weight_norms import rescaled, rescaled_tangent

State = Float[Tensor, "run parameter"]


class CurlMap:
    """The map θ → θ' of one full-batch step of curl descent, norms included, for many runs at once.

    A state holds the weights of a run in one row, W1 (hidden, input) then W2 (output, hidden), row
    by row. The runs are all flips from all seeds; flips vary slowest, as the rows of
    ``result.stack(run=("flip", "seed"))`` of `neurofb.dynamics.curl_descent`.

    Parameters
    ----------
    problem, flips, training, seeds, dtype, device
        As in `neurofb.dynamics.curl_descent`; of the training, what makes a step.

    Attributes
    ----------
    start : Tensor
        The state (run, parameter) at which students start.

    Raises
    ------
    ValueError
        As `neurofb.dynamics.curl_descent`, and if the training takes batches: the map would differ
        from step to step.

    Examples
    --------
    >>> problem = StudentTeacher(num_inputs=3, num_hidden=2, num_train=None, num_test=None)
    >>> step = CurlMap(problem, [Flips(), Flips(hidden=1)], seeds=(0, 1))
    >>> state = step(step.start)
    >>> state, tangent = step.tangent(state, torch.ones_like(state))
    >>> state.shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        problem: StudentTeacher,
        flips: Sequence[Flips],
        training: CurlTraining | None = None,
        *,
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> None:
        training = training or CurlTraining()
        check_runs(flips, seeds)
        if training.batch_size is not None:
            raise ValueError(
                f"batch_size={training.batch_size} must be None: a map is the same at every step"
            )
        errors = errors_of(
            problem,
            seeds,
            samples=False,
            output_derivative=training.output_derivative,
            dtype=dtype,
            device=device,
        )
        signs = [condition.signs(*problem.sizes) for condition in flips]
        batch = CurlBatch(problem, signs, training, seeds, errors)
        self.errors = batch.errors
        self.feedback = batch.feedback
        self.norms = batch.norms
        self.rates = [training.learning_rate * factors for factors in batch.all_factors]
        self.rows = batch.rows[0]
        self.columns = training.learning_rate * batch.columns[0]
        self.shapes = [tuple(v.shape) for v in batch.values]
        self.start = self.pack(*batch.values)

    def pack(
        self, hidden: Float[Tensor, "run hidden input"], readout: Float[Tensor, "run output hidden"]
    ) -> State:
        """Return weights as a state."""
        return torch.cat([hidden.flatten(1), readout.flatten(1)], dim=1)

    def unpack(
        self, state: State
    ) -> tuple[Float[Tensor, "run hidden input"], Float[Tensor, "run output hidden"]]:
        """Return W1 and W2 of a state."""
        size = self.shapes[0][1] * self.shapes[0][2]
        return state[:, :size].view(self.shapes[0]), state[:, size:].view(self.shapes[1])

    def __call__(self, state: State) -> State:
        """Return the state after one step; torch differentiates through it."""
        hidden, readout = self.unpack(state)
        left, right, change = self.errors.gradients(hidden, readout, self.feedback)
        values = (
            hidden - self.rates[0] * (left @ right),
            readout - self.rates[1] * change,
        )
        return self.pack(*map(rescaled, values, self.norms))

    def losses(self, state: State) -> tuple[Float[Tensor, " run"], Float[Tensor, " run"]]:
        """Return training and test loss."""
        return self.errors.losses(*self.unpack(state))

    @property
    def has_tangent(self) -> bool:
        """Whether `tangent` is there: the student is linear."""
        return isinstance(self.errors, LinearErrors)

    def tangent(self, state: State, tangent: State) -> tuple[State, State]:
        """Return the state after one step and the derivative of the step along a tangent, exactly.

        Raises
        ------
        ValueError
            If the student is not linear: `torch.func.jvp` differentiates the map then.
        """
        if not isinstance(self.errors, LinearErrors):
            raise ValueError("tangent is for linear students; use torch.func.jvp for others")
        (w1, w2), (t1, t2) = self.unpack(state), self.unpack(tangent)
        both = torch.cat([w2, t2], dim=1)
        product, moved = (both @ w1).split(w2.shape[1], dim=1)
        right = self.errors.correlate(product - self.errors.teacher)
        right_tangent = self.errors.correlate(torch.baddbmm(moved, w2, t1))
        change = right @ w1.mT
        change_tangent = torch.baddbmm(right_tangent @ w1.mT, right, t1.mT)
        # W1 moves by left @ right, its tangent by the derivative of that product
        left, left_tangent = (both.mT * self.rows).split(w2.shape[1], dim=2)
        if self.feedback is not None:
            left, left_tangent = self.feedback * self.rows, torch.zeros_like(left)
        right, right_tangent = right * self.columns, right_tangent * self.columns
        lefts = torch.cat([left, left_tangent], dim=2)
        rights = torch.cat([right_tangent, right], dim=1)
        w1, t1 = rescaled_tangent(
            torch.baddbmm(w1, left, right, alpha=-1),
            torch.baddbmm(t1, lefts, rights, alpha=-1),
            self.norms[0],
        )
        w2, t2 = rescaled_tangent(
            torch.addcmul(w2, self.rates[1], change, value=-1),
            torch.addcmul(t2, self.rates[1], change_tangent, value=-1),
            self.norms[1],
        )
        return self.pack(w1, w2), self.pack(t1, t2)
