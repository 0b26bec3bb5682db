"""Errors and hand-written gradients of many two-layer students at once: ``y = φ(W2 φ(W1 x))``.

Every tensor has the run as its first dimension. A linear network needs no data in the loop: its
error W2 W1 − teacher and the covariance of the inputs say all. Losses are ½ the mean squared error
over samples and outputs; gradients are those of ½ the squared error *summed* over outputs (as in
the authors' code; the same for one output).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.dynamics.student_teacher import Activation, StudentTeacher

Hidden = Float[Tensor, "run hidden input"]
Readout = Float[Tensor, "run output hidden"]
PerRun = Float[Tensor, " run"]


class Gradients(NamedTuple):
    """What the rule descends, before signs: for exact feedback, the gradient of the loss.

    That of W1 is the product ``left @ right`` of (run, hidden, some) and (run, some, input).
    """

    left: Tensor
    right: Tensor
    readout: Tensor


@dataclass(frozen=True)
class LinearErrors:
    """A linear student, from statistics: `teacher` (run, output, input) and covariances.

    A covariance is (run, input, input), or (run, 1, 1) for a multiple of the identity; that of the
    test inputs is None where it is the same.

    Examples
    --------
    >>> errors = LinearErrors(torch.ones(1, 1, 1), torch.ones(1, 1, 1), None)
    >>> errors.gradients(torch.ones(1, 1, 1), 3 * torch.ones(1, 1, 1), None)  # 3 − 1 = 2
    Gradients(left=tensor([[[3.]]]), right=tensor([[[2.]]]), readout=tensor([[[2.]]]))
    """

    teacher: Float[Tensor, "run output input"]
    train_covariance: Float[Tensor, "run _ _"]
    test_covariance: Float[Tensor, "run _ _"] | None

    def gradients(
        self, hidden: Hidden, readout: Readout, feedback: Float[Tensor, "run hidden output"] | None
    ) -> Gradients:
        """Return the gradients of the exact rule, or with feedback in the place of W2ᵀ."""
        correlation = self.correlate(readout @ hidden - self.teacher)
        back = readout.mT if feedback is None else feedback
        return Gradients(back, correlation, correlation @ hidden.mT)

    def losses(self, hidden: Hidden, readout: Readout) -> tuple[PerRun, PerRun]:
        """Return training and test loss."""
        error = readout @ hidden - self.teacher
        train = 0.5 * (self.correlate(error) * error).sum(-1).mean(-1)
        if self.test_covariance is None:
            return train, train
        return train, 0.5 * (_times(error, self.test_covariance) * error).sum(-1).mean(-1)

    def correlate(
        self, error: Float[Tensor, "run output input"]
    ) -> Float[Tensor, "run output input"]:
        """Return error times training covariance: the correlation of errors and inputs."""
        return _times(error, self.train_covariance)

    def keep(self, runs: Int[Tensor, " kept"] | slice) -> "LinearErrors":
        """Return the same for these runs only."""
        test = None if self.test_covariance is None else self.test_covariance[runs]
        return LinearErrors(self.teacher[runs], self.train_covariance[runs], test)


@dataclass(frozen=True)
class SampleErrors:
    """Any student, from samples: inputs (run, input, sample) and the teacher's outputs.

    With `output_derivative` the gradient is exact; without, φ' of the output is left out of the
    error (the delta rule of the authors' code).

    Examples
    --------
    >>> x, y = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    >>> errors = SampleErrors(x, y, x, y, activation="relu", output_activation="linear")
    >>> errors.gradients(torch.ones(1, 1, 1), 3 * torch.ones(1, 1, 1), None)
    Gradients(left=tensor([[[9.]]]), right=tensor([[[1.]]]), readout=tensor([[[3.]]]))
    """

    train_inputs: Float[Tensor, "run input sample"]
    train_targets: Float[Tensor, "run output sample"]
    test_inputs: Float[Tensor, "run input test_sample"]
    test_targets: Float[Tensor, "run output test_sample"]
    activation: Activation
    output_activation: Activation
    output_derivative: bool = False

    def gradients(
        self, hidden: Hidden, readout: Readout, feedback: Float[Tensor, "run hidden output"] | None
    ) -> Gradients:
        """Return the gradients of the exact rule, or with feedback in the place of W2ᵀ."""
        activity = activate(hidden @ self.train_inputs, self.activation)
        output = activate(readout @ activity, self.output_activation)
        error = (output - self.train_targets) / output.shape[-1]
        if self.output_derivative:
            error = times_slope(error, output, self.output_activation)
        change = error @ activity.mT
        back = (readout.mT if feedback is None else feedback) @ error
        back = times_slope(back, activity, self.activation)
        return Gradients(back, self.train_inputs.mT, change)

    def losses(self, hidden: Hidden, readout: Readout) -> tuple[PerRun, PerRun]:
        """Return training and test loss."""
        train_pair = (self.train_inputs, self.train_targets)
        pairs = (train_pair, (self.test_inputs, self.test_targets))
        train, test = (
            0.5 * (self.outputs(hidden, readout, inputs) - targets).square().flatten(-2).mean(-1)
            for inputs, targets in pairs
        )
        return train, test

    def outputs(
        self, hidden: Hidden, readout: Readout, inputs: Float[Tensor, "run input some_sample"]
    ) -> Float[Tensor, "run output some_sample"]:
        """Return the outputs to some inputs."""
        activity = activate(hidden @ inputs, self.activation)
        return activate(readout @ activity, self.output_activation)

    def batch(self, samples: Int[Tensor, "run part"]) -> "SampleErrors":
        """Return the same with these training samples only, of each run its own."""
        along = samples[:, None, :]
        inputs, targets = self.train_inputs, self.train_targets
        return replace(
            self,
            train_inputs=inputs.gather(-1, along.expand(-1, inputs.shape[1], -1)),
            train_targets=targets.gather(-1, along.expand(-1, targets.shape[1], -1)),
        )

    def keep(self, runs: Int[Tensor, " kept"] | slice) -> "SampleErrors":
        """Return the same for these runs only."""
        return replace(
            self,
            train_inputs=self.train_inputs[runs],
            train_targets=self.train_targets[runs],
            test_inputs=self.test_inputs[runs],
            test_targets=self.test_targets[runs],
        )


def errors_of(
    problem: StudentTeacher,
    seeds: Sequence[int],
    *,
    samples: bool,
    output_derivative: bool,
    dtype: torch.dtype,
    device: str | torch.device,
) -> LinearErrors | SampleErrors:
    """Return the errors of one run per seed; from samples if asked for or if φ is not linear.

    Raises
    ------
    ValueError
        If samples are needed and the problem has the population, or of another dtype than
        float32 and float64.

    Examples
    --------
    >>> errors = errors_of(StudentTeacher(3, 2), (0, 1), samples=False, output_derivative=False,
    ...                    dtype=torch.float64, device="cpu")
    >>> errors.train_covariance.shape
    torch.Size([2, 3, 3])
    """
    check_choice("dtype", dtype, (torch.float32, torch.float64))

    def tensor(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.as_tensor(np.stack(arrays)).to(device=device, dtype=dtype)

    teachers = [problem.teacher(seed) for seed in seeds]
    train = [problem.train_inputs(seed) for seed in seeds]
    test = [problem.test_inputs(seed) for seed in seeds]
    if problem.is_linear and not samples:
        scale = np.full((1, 1), float(problem.input_variance))
        train_covariance = [scale if x is None else x @ x.T / x.shape[1] for x in train]
        test_covariance = [x @ x.T / x.shape[1] for x in test if x is not None]
        product = [readout @ hidden for hidden, readout in teachers]
        if problem.num_test is None and problem.num_train is not None:
            test_covariance = [scale] * len(seeds)
        return LinearErrors(
            tensor(product),
            tensor(train_covariance),
            tensor(test_covariance) if test_covariance else None,
        )
    train_samples = [x for x in train if x is not None]
    test_samples = [x for x in test if x is not None]
    if not train_samples or not test_samples:
        raise ValueError("batch_size needs samples: give num_train and num_test, not None")
    output = problem.output_activation or problem.activation
    x, x_test = tensor(train_samples), tensor(test_samples)
    hidden, readout = tensor([w.hidden for w in teachers]), tensor([w.readout for w in teachers])
    teacher = SampleErrors(x, x[:, :1], x, x[:, :1], problem.activation, output)
    return SampleErrors(
        train_inputs=x,
        train_targets=teacher.outputs(hidden, readout, x),
        test_inputs=x_test,
        test_targets=teacher.outputs(hidden, readout, x_test),
        activation=problem.activation,
        output_activation=output,
        output_derivative=output_derivative,
    )


def activate(x: Float[Tensor, "*shape"], activation: Activation) -> Float[Tensor, "*shape"]:
    """Return φ(x).

    Examples
    --------
    >>> activate(torch.tensor([-1.0, 2.0]), "relu")
    tensor([0., 2.])
    """
    if activation == "tanh":
        return torch.tanh(x)
    return torch.relu(x) if activation == "relu" else x


def times_slope(
    x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], activation: Activation
) -> Float[Tensor, "*shape"]:
    """Return x φ'(z), with the slope from y = φ(z): each of these φ allows it.

    Examples
    --------
    >>> times_slope(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 0.5]), "tanh")
    tensor([3.0000, 2.2500])
    """
    if activation == "tanh":
        return torch.addcmul(x, x * y, y, value=-1)
    return x * (y > 0) if activation == "relu" else x


def _times(
    error: Float[Tensor, "run output input"], covariance: Float[Tensor, "run _ _"]
) -> Float[Tensor, "run output input"]:
    """Return error times covariance."""
    return error * covariance if covariance.shape[-1] == 1 else error @ covariance
