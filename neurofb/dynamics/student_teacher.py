"""A two-layer student that learns a two-layer teacher of its own size, drawn for many seeds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from neurofb.choices import check_choice

Activation = Literal["linear", "tanh", "relu"]
Distribution = Literal["uniform", "normal"]

# what is drawn has a stream of its own, so that a setting of one thing never moves another
_TEACHER, _STUDENT, _PERTURBATION, _FEEDBACK, _TRAIN, _TEST = range(6)


class Weights(NamedTuple):
    """Weights onto the hidden layer, W1 (hidden, input), and the readout, W2 (output, hidden)."""

    hidden: np.ndarray
    readout: np.ndarray


@dataclass(frozen=True)
class StudentTeacher:
    """The student-teacher problem of curl descent (arXiv:2510.02765): ``y = φ(W2 φ(W1 x))``.

    Inputs are normal, independent, of variance `input_variance`. Teacher and student have the same
    shape and are drawn alike: uniform from ±g/√(fan in), or normal with standard deviation
    g/√(fan in). The paper's settings are the defaults, save sizes.

    Parameters
    ----------
    num_inputs, num_hidden, num_outputs
        M, N and K; c = M/N.
    activation
        φ, of the hidden layer and of the output.
    output_activation
        φ of the output, if it differs from that of the hidden layer.
    gain, teacher_gain
        g of the student and of the teacher (None: the same). What escapes a saddle sooner with
        flips is a student of large g under a teacher of g = 1 (the paper's Fig. 5).
    distribution
        Of the weights.
    input_variance
        Of every coordinate of the input.
    num_train
        Training samples per seed; None takes the population (linear networks only: the covariance
        is then exactly `input_variance` times the identity).
    num_test
        Test samples per seed; None takes the population (linear networks only).
    start
        ``"random"``: a student drawn apart. ``"teacher"``: the teacher's weights, plus normal noise
        of standard deviation `perturbation` on the layers named by `perturbed`.
    perturbation, perturbed
        See `start`; the paper perturbs the readout (its Fig. 3b) or the hidden layer (Fig. 4).
    unit_norms
        Scale teacher and student to ‖W1‖ = √N and ‖W2‖ = √K (Frobenius; the paper's Fig. 3b).

    Raises
    ------
    ValueError
        If a size is below 1, a gain or variance not positive, the perturbation negative, a name
        unknown, or the population is asked for of a network that is not linear.

    Examples
    --------
    >>> problem = StudentTeacher(num_inputs=3, num_hidden=2, num_train=5, num_test=None)
    >>> teacher = problem.teacher(seed=0)
    >>> teacher.hidden.shape, teacher.readout.shape, problem.train_inputs(seed=0).shape
    ((2, 3), (1, 2), (3, 5))
    """

    num_inputs: int = 100
    num_hidden: int = 10
    num_outputs: int = 1
    activation: Activation = "linear"
    output_activation: Activation | None = None
    gain: float | int = 1.0
    teacher_gain: float | int | None = None
    distribution: Distribution = "uniform"
    input_variance: float | int = 0.5
    num_train: int | None = 250
    num_test: int | None = 100
    start: Literal["random", "teacher"] = "random"
    perturbation: float | int = 1e-6
    perturbed: Literal["both", "hidden", "readout"] = "both"
    unit_norms: bool = False

    def __post_init__(self) -> None:
        for name in ("num_inputs", "num_hidden", "num_outputs", "num_train", "num_test"):
            size = getattr(self, name)
            if size is not None and not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name}={size} must be at least 1, and whole")
        for name in ("gain", "teacher_gain", "input_variance"):
            size = getattr(self, name)
            if size is not None and not 0 < size < np.inf:
                raise ValueError(f"{name}={size} must be above 0 and finite")
        if not 0 <= self.perturbation < np.inf:
            raise ValueError(f"perturbation={self.perturbation} must be at least 0 and finite")
        choices = {
            "activation": Activation,
            "output_activation": (None, *get_args(Activation)),
            "distribution": Distribution,
            "start": ("random", "teacher"),
            "perturbed": ("both", "hidden", "readout"),
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("num_train", "num_test"):
            if getattr(self, name) is None and not self.is_linear:
                raise ValueError(
                    f"{name}=None (the population) needs a linear network, not "
                    f"activation={self.activation!r}, output_activation="
                    f"{self.output_activation!r}; give a number of samples"
                )

    @property
    def is_linear(self) -> bool:
        """Whether the student is linear in its inputs."""
        return self.activation == "linear" and self.output_activation in (None, "linear")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of inputs, of hidden neurons and of outputs."""
        return self.num_inputs, self.num_hidden, self.num_outputs

    def teacher(self, seed: int) -> Weights:
        """Return the teacher's weights."""
        return self._weights(seed, _TEACHER, self.teacher_gain or self.gain)

    def student(self, seed: int) -> Weights:
        """Return the weights that the student starts with."""
        if self.start == "random":
            return self._weights(seed, _STUDENT, self.gain)
        hidden, readout = self.teacher(seed)
        generator = np.random.default_rng((seed, _PERTURBATION))
        noise = [self.perturbation * generator.standard_normal(w.shape) for w in (hidden, readout)]
        if self.perturbed != "readout":
            hidden = hidden + noise[0]
        if self.perturbed != "hidden":
            readout = readout + noise[1]
        return Weights(hidden, readout)

    def feedback(self, seed: int) -> np.ndarray:
        """Return fixed feedback (hidden, output), uniform from ±1/√N: direct feedback alignment."""
        generator = np.random.default_rng((seed, _FEEDBACK))
        bound = 1 / np.sqrt(self.num_hidden)
        return generator.uniform(-bound, bound, (self.num_hidden, self.num_outputs))

    def train_inputs(self, seed: int) -> np.ndarray | None:
        """Return training inputs (input, sample), or None for the population."""
        return self._inputs(seed, _TRAIN, self.num_train)

    def test_inputs(self, seed: int) -> np.ndarray | None:
        """Return test inputs (input, sample), or None for the population."""
        return self._inputs(seed, _TEST, self.num_test)

    def _weights(self, seed: int, stream: int, gain: float | int) -> Weights:
        """Draw both layers."""
        generator = np.random.default_rng((seed, stream))
        layers = []
        for rows, columns in (
            (self.num_hidden, self.num_inputs),
            (self.num_outputs, self.num_hidden),
        ):
            scale = gain / np.sqrt(columns)
            if self.distribution == "uniform":
                weight = generator.uniform(-scale, scale, (rows, columns))
            else:
                weight = scale * generator.standard_normal((rows, columns))
            if self.unit_norms:
                weight *= np.sqrt(rows) / np.linalg.norm(weight)
            layers.append(weight)
        return Weights(*layers)

    def _inputs(self, seed: int, stream: int, num_samples: int | None) -> np.ndarray | None:
        """Draw inputs."""
        if num_samples is None:
            return None
        generator = np.random.default_rng((seed, stream))
        shape = (num_samples, self.num_inputs)  # more samples leave the first ones as they are
        return np.sqrt(self.input_variance) * generator.standard_normal(shape).T
