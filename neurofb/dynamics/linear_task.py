"""Linear regression tasks by their sufficient statistics: full-batch learning without data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Modes(NamedTuple):
    """Singular vectors and values of the covariance of outputs and inputs, strongest first."""

    output: Float[Tensor, "seed m d"]
    singular_value: Float[Tensor, "seed d"]
    input: Float[Tensor, "seed n d"]


@dataclass(frozen=True, eq=False)
class LinearTask:
    """Inputs x and targets y = W* x + noise, one task a seed, as second moments only.

    The mean gradient of a linear network over any number of samples depends on the samples only
    through Σ_xx and Σ_yx, so that a step of full-batch gradient descent costs no pass over data.

    Parameters
    ----------
    teacher
        W* (seed, m, n): the least-squares map from the n inputs to the m outputs.
    input_covariance
        Σ_xx (seed, n, n): the mean of x xᵀ over the samples (no mean is removed).
    seeds
        The seed of each task.
    residual
        Mean of (y − W* x)(y − W* x)ᵀ (seed, m, m), what no linear map explains; None: nothing.

    Raises
    ------
    ValueError
        If shapes do not fit, there is no seed, one twice or a negative one, a number is not finite
        or not floating point, Σ_xx is not symmetric, or a task has no mode (its Σ_yx is zero).

    Examples
    --------
    >>> task = LinearTask(2 * torch.ones(1, 1, 1), torch.ones(1, 1, 1), seeds=(0,))
    >>> task.modes().singular_value.item(), task.mean_squared_error(torch.zeros(1, 1, 1)).item()
    (2.0, 4.0)
    """

    teacher: Float[Tensor, "*shape"]
    input_covariance: Float[Tensor, "*square"]
    seeds: tuple[int, ...]
    residual: Float[Tensor, "seed m m"] | None = None

    def __post_init__(self) -> None:
        shape, covariance = tuple(self.teacher.shape), tuple(self.input_covariance.shape)
        if not self.seeds or len(shape) != 3 or shape[0] != len(self.seeds):
            raise ValueError(
                f"teacher of shape {shape} must be (seed, m, n) for seeds={self.seeds}, at least 1"
            )
        if covariance != (shape[0], shape[2], shape[2]):
            raise ValueError(
                f"input_covariance of shape {covariance} must be {(shape[0], *shape[2:] * 2)}"
            )
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds={self.seeds} must be different and not negative")
        if self.residual is not None and tuple(self.residual.shape) != (*shape[:2], shape[1]):
            raise ValueError(
                f"residual of shape {tuple(self.residual.shape)} must be {(*shape[:2], shape[1])}"
            )
        for name in ("teacher", "input_covariance", "residual"):
            value = getattr(self, name)
            if value is not None and not (value.is_floating_point() and value.isfinite().all()):
                raise ValueError(f"{name} must hold finite floating-point numbers")
        skew = (self.input_covariance - self.input_covariance.mT).abs().max()
        if skew > 1e-4 * self.input_covariance.abs().max():
            raise ValueError("input_covariance must be symmetric")
        if not self.output_input.flatten(1).any(dim=1).all():
            raise ValueError("the task of a seed has zero modes: targets must depend on inputs")

    @property
    def num_outputs(self) -> int:
        """The number m of outputs."""
        return self.teacher.shape[1]

    @property
    def num_inputs(self) -> int:
        """The number n of inputs."""
        return self.teacher.shape[2]

    @property
    def output_input(self) -> Float[Tensor, "seed m n"]:
        """Σ_yx = W* Σ_xx."""
        return self.teacher @ self.input_covariance

    @property
    def output_covariance(self) -> Float[Tensor, "seed m m"]:
        """Σ_yy, the mean of y yᵀ."""
        return self.error_moment(torch.zeros_like(self.teacher))

    def modes(self) -> Modes:
        """Return the singular vectors and values of Σ_yx that are not zero in every seed."""
        u, s, vh = torch.linalg.svd(self.output_input, full_matrices=False)
        floor = s[:, :1] * max(self.teacher.shape[1:]) * torch.finfo(s.dtype).eps
        d = int((s > floor).sum(1).min())
        return Modes(u[:, :, :d], s[:, :d], vh.mT[:, :, :d])

    def error_moment(self, product: Float[Tensor, "seed *batch m n"]) -> Tensor:
        """Return the mean of e eᵀ (seed, *batch, m, m), e = y − W x, for networks of product W."""
        task = (len(self.seeds), *(1,) * (product.ndim - 3))
        error = self.teacher.view(*task, *self.teacher.shape[1:]) - product
        rows = error.flatten(1, -2) @ self.input_covariance  # one large product a seed
        moment = rows.view(error.shape) @ error.mT
        if self.residual is not None:
            moment = moment + self.residual.view(*task, *self.residual.shape[1:])
        return moment

    def mean_squared_error(self, product: Float[Tensor, "seed *batch m n"]) -> Tensor:
        """Return the mean over samples and outputs of (y − W x)², of shape (seed, *batch)."""
        return self.error_moment(product).diagonal(dim1=-2, dim2=-1).mean(-1)


def random_task(
    num_inputs: int = 128,
    num_outputs: int = 64,
    num_modes: int = 32,
    *,
    num_samples: int | None = 100_000,
    seeds: Sequence[int] = (0, 1, 2),
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> LinearTask:
    """Draw the linear teachers of Hanut & Kadmon (2025, arXiv:2502.20580), without the samples.

    W* = A C / √m with A (m, d) and C (d, n) standard normal, and Gaussian inputs of unit
    covariance. The covariance of the samples is drawn exactly, as the samples' would be, by
    Bartlett's factor of a Wishart matrix (Bartlett 1933).

    Parameters
    ----------
    num_inputs, num_outputs, num_modes
        n, m, and the rank d of the teacher, at most the smaller of the two.
    num_samples
        Samples that the covariance comes from; None: infinitely many, Σ_xx = I.
    seeds
        One task a seed; a seed's task is the same whatever the others are.
    dtype, device
        Of the statistics.

    Returns
    -------
    LinearTask
        Without noise; mean squared output n d / m, 64 by default.

    Raises
    ------
    ValueError
        If a number is below 1, `num_modes` larger than the teacher allows, or a seed negative.

    Examples
    --------
    >>> task = random_task(6, 4, 2, num_samples=None, seeds=(5,))
    >>> task.teacher.shape, task.modes().singular_value.shape
    (torch.Size([1, 4, 6]), torch.Size([1, 2]))
    """
    sizes = {"num_inputs": num_inputs, "num_outputs": num_outputs, "num_samples": num_samples}
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if isinstance(seeds, int | np.integer):
        raise ValueError(f"seeds={seeds} must be a list of seeds, such as ({seeds},)")
    if len(seeds) == 0 or min(seeds) < 0:
        raise ValueError(f"seeds={tuple(seeds)} must name at least one seed, none negative")
    if not 1 <= num_modes <= min(num_inputs, num_outputs):
        raise ValueError(
            f"num_modes={num_modes} must be 1 to {min(num_inputs, num_outputs)}, the smaller of "
            f"num_inputs={num_inputs} and num_outputs={num_outputs}"
        )
    teachers, covariances = [], []
    for seed in seeds:
        generator = np.random.default_rng((seed, 0))
        left = generator.standard_normal((num_outputs, num_modes))
        right = generator.standard_normal((num_modes, num_inputs))
        teachers.append(left @ right / np.sqrt(num_outputs))
        covariances.append(_sample_covariance(num_inputs, num_samples, generator))
    return LinearTask(
        torch.tensor(np.array(teachers), dtype=dtype, device=device),
        torch.tensor(np.array(covariances), dtype=dtype, device=device),
        tuple(seeds),
    )


def task_from_data(
    inputs: Float[Tensor, "_ n"] | np.ndarray,
    targets: Float[Tensor, "_ m"] | np.ndarray,
    *,
    seed: int = 0,
) -> LinearTask:
    """Return the task that learning from these samples is, full batch.

    Parameters
    ----------
    inputs, targets
        x and y, one sample a row, any units, tensors or arrays. Nothing is centred: centre them, or
        let an input be 1.
    seed
        What the task's seed is called; the start of learning is drawn from it.

    Raises
    ------
    ValueError
        If there is no sample or not a target for each, these are not matrices of finite
        floating-point numbers, or the targets do not depend on the inputs.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [-1.0]])
    >>> task_from_data(x, 3 * x).teacher
    tensor([[[3.]]])
    """
    inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
    if inputs.ndim != 2 or targets.ndim != 2:
        raise ValueError(
            f"inputs and targets must be (sample, …), not of shapes {tuple(inputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    if len(inputs) == 0 or len(inputs) != len(targets):
        raise ValueError(
            f"inputs and targets must be equally many and at least one, not {len(inputs)} and "
            f"{len(targets)}"
        )
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(
                f"{name} of {value.dtype} must hold finite floating-point numbers, no NaN"
            )
    wide_x, wide_y = inputs.double(), targets.double()
    covariance = wide_x.mT @ wide_x / len(inputs)
    teacher = (wide_y.mT @ wide_x / len(inputs)) @ torch.linalg.pinv(covariance, hermitian=True)
    error = wide_y - wide_x @ teacher.mT
    residual = error.mT @ error / len(inputs)
    cast = inputs.dtype
    return LinearTask(
        teacher[None].to(cast), covariance[None].to(cast), (seed,), residual[None].to(cast)
    )


def _sample_covariance(
    num_inputs: int, num_samples: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Draw Xᵀ X / N for N standard normal samples."""
    if num_samples is None:
        return np.eye(num_inputs)
    if num_samples < num_inputs:  # singular: Bartlett's factor does not exist
        rows = generator.standard_normal((num_samples, num_inputs))
        return rows.T @ rows / num_samples
    factor = np.tril(generator.standard_normal((num_inputs, num_inputs)), -1)
    degrees = num_samples - np.arange(num_inputs)
    np.fill_diagonal(factor, np.sqrt(generator.chisquare(degrees)))
    return factor @ factor.T / num_samples
