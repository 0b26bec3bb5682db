"""Least squares by turns (ALS), tensorly's `parafac`: what message passing is compared with."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.tensors.scores import tensor_error

Start = Literal["random", "svd", "prior"]
Array = np.ndarray | torch.Tensor
Factors = Sequence[Float[np.ndarray, "_ _"] | Float[torch.Tensor, "_ _"]]


@dataclass
class TensorALS:
    """Rank-r decomposition of a tensor by alternating least squares, through tensorly's `parafac`.

    Attributes and normalisation are those of `TensorAMP` (Y = N^{-(p-1)/2} Σ x₁ ∘ … ∘ x_p + noise,
    N the geometric mean of the sides), without what least squares does not know: there is no prior,
    and no posterior variance. tensorly runs with numpy, on the CPU, in the tensor's precision.

    Parameters
    ----------
    rank
        Number of components.
    start
        ``"random"`` (tensorly's: uniform from 0 to 1), ``"svd"`` (leading left singular vectors of
        each unfolding, from their Gram matrix), ``"prior"`` (means of `priors` and a little noise,
        what message passing starts from), or a sequence of factors, one an axis, (side, rank).
    priors
        Of ``start="prior"``: one, or one an axis; anything with `mean_of(rank)`.
    start_noise
        Standard deviation of the noise of ``start="prior"``; without it components of one mean
        never part.
    max_sweeps
        Sweeps over all axes at most.
    tolerance
        Sweeps end when the factors, each component's scale spread evenly over the axes, change by
        less than this, relative to their norm. (tensorly's own criterion, the decrease of the
        residual, hardly moves where noise is most of it.)
    seed
        Of whatever is random: the start, and what tensorly draws.

    Attributes
    ----------
    factors_
        One tensor an axis (side, rank), of the tensor's dtype and device.
    noise_variance_
        Mean square of what is left of the tensor.
    num_sweeps_, converged_
        Number of sweeps done; whether they ended by `tolerance`.
    trace_
        Dataset over `sweep`: `change`, `noise_variance`, and with a truth `overlap` and
        `tensor_error`.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, or ``start="prior"`` has no priors.

    Examples
    --------
    >>> planted = [torch.tensor([[1.0], [2.0], [3.0]]) for _ in range(3)]
    >>> tensor = torch.einsum("ir,jr,kr->ijk", *planted) / 3
    >>> fitted = TensorALS(rank=1, start="svd").fit(tensor, truth=planted)
    >>> bool(fitted.converged_), bool(fitted.trace_["tensor_error"][-1] < 1e-10)
    (True, True)
    """

    rank: int = 1
    start: str | Factors = "random"
    priors: Any = None
    start_noise: float | int = 1e-2
    max_sweeps: int = 200
    tolerance: float | int = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "max_sweeps"):
            size = getattr(self, name)
            if not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name}={size} must be at least 1, and whole")
        for name in ("start_noise", "tolerance"):
            size = getattr(self, name)
            if not 0 <= size < np.inf:
                raise ValueError(f"{name}={size} must be at least 0 and finite")
        if not (isinstance(self.seed, int | np.integer) and 0 <= self.seed < 2**32):
            raise ValueError(f"seed={self.seed} must be a whole number from 0 to 2**32 - 1")
        if isinstance(self.start, str):
            check_choice("start", self.start, Start)
            if self.start == "prior" and self.priors is None:
                raise ValueError("start='prior' needs priors: one, or one for each axis")

    def fit(self, tensor: Array, truth: Factors | None = None) -> "TensorALS":
        """Decompose a tensor.

        Parameters
        ----------
        tensor
            numpy array or torch tensor, of at least two axes.
        truth
            Planted factors, one an axis: the trace then has overlaps and errors.

        Returns
        -------
        itself, with the attributes that end in an underscore. Sweeps that do not converge, or that
        end because the equations became singular, are warned of.

        Raises
        ------
        ValueError
            If the tensor has fewer than two axes, no floating point numbers, entries that are not
            finite or nothing but zeros, or factors of another shape.
        ImportError
            If tensorly is not installed.
        """
        tensorly, parafac = _tensorly()
        values = _checked(tensor, self.rank)
        sweeps = _Sweeps(values, self.tolerance, truth)
        with tensorly.backend_context("numpy"):
            start = self._start(values)
            try:
                parafac(
                    values,
                    int(self.rank),
                    init=start if isinstance(start, str) else (None, start),
                    random_state=int(self.seed),
                    n_iter_max=int(self.max_sweeps),
                    tol=0,
                    return_errors=True,
                    callback=sweeps,
                )
            except np.linalg.LinAlgError:
                sweeps.end = "singular equations"
        device = tensor.device if isinstance(tensor, torch.Tensor) else "cpu"
        self.factors_ = tuple(torch.as_tensor(each, device=device) for each in sweeps.factors)
        self.num_sweeps_ = len(sweeps.rows)
        self.converged_ = sweeps.end == "converged"
        self.trace_ = sweeps.trace()
        self.noise_variance_ = sweeps.noise_variance
        if not self.converged_:
            change = sweeps.rows[-1]["change"] if sweeps.rows else np.nan
            warnings.warn(
                f"least squares stopped after {self.num_sweeps_} sweeps ({sweeps.end}); the "
                f"factors last changed by {change:.2g} of their norm, tolerance={self.tolerance:g}",
                stacklevel=2,
            )
        return self

    def _start(self, values: np.ndarray) -> str | list[np.ndarray]:
        """Return what tensorly starts from: the name of its start, or factors."""
        if isinstance(self.start, str) and self.start == "random":
            return "random"
        if isinstance(self.start, str) and self.start == "svd":
            return [self._singular_vectors(values, axis) for axis in range(values.ndim)]
        given = self._prior_means(values) if isinstance(self.start, str) else self.start
        factors = [np.array(_numpy(each), dtype=values.dtype) for each in given]
        needed = [(side, self.rank) for side in values.shape]
        if [each.shape for each in factors] != needed:
            raise ValueError(
                f"start has factors of the shapes {[each.shape for each in factors]}; a tensor of "
                f"the shape {values.shape} needs {needed}"
            )
        if not all(np.isfinite(each).all() for each in factors):
            raise ValueError("start has entries that are not finite")
        factors[0] /= _scale(values.shape)
        return factors

    def _singular_vectors(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Return an unfolding's leading left singular vectors, then random numbers."""
        others = [each for each in range(values.ndim) if each != axis]
        _, vectors = np.linalg.eigh(np.tensordot(values, values, (others, others)))
        leading = vectors[:, ::-1][:, : self.rank]
        missing = self.rank - leading.shape[1]
        generator = np.random.default_rng((self.seed, axis))
        more = generator.random((len(leading), missing)) / len(leading) ** 0.5
        return np.concatenate([leading, more], axis=1).astype(values.dtype)

    def _prior_means(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the priors' means, the same in every row, with a little noise."""
        priors = self.priors if isinstance(self.priors, Sequence) else [self.priors] * values.ndim
        if len(priors) != values.ndim:
            raise ValueError(
                f"priors has {len(priors)} entries; a tensor of {values.ndim} axes needs one, or "
                "one for each"
            )
        generator = np.random.default_rng(self.seed)
        return [
            _numpy(prior.mean_of(self.rank))
            + self.start_noise * generator.standard_normal((side, self.rank))
            for prior, side in zip(priors, values.shape, strict=True)
        ]


class _Sweeps:
    """What tensorly calls after each sweep: keeps its numbers, ends it when nothing changes."""

    def __init__(self, values: np.ndarray, tolerance: float | int, truth: Factors | None) -> None:
        self.tolerance, self.truth = tolerance, truth
        self.scale = _scale(values.shape)
        self.mean_square = float(np.mean(np.square(values), dtype=np.float64))
        self.factors: list[np.ndarray] = []
        self.rows: list[dict[str, Any]] = []
        self.noise_variance = self.mean_square
        self.end = "max_sweeps reached"

    def __call__(self, decomposition: Any, residual: Any) -> bool:
        """Take weights and factors, and the norm of the residual over that of the tensor."""
        before, self.factors = self.factors, self._balanced(decomposition)
        if not before:  # the start
            return False
        self.noise_variance = float(residual) ** 2 * self.mean_square
        change = _norm([new - old for new, old in zip(self.factors, before, strict=True)])
        change /= max(_norm(self.factors), np.finfo(float).tiny)
        row: dict[str, Any] = {"change": change, "noise_variance": self.noise_variance}
        if self.truth is not None:
            row["tensor_error"] = self._tensor_error(self.truth)
        self.rows.append(row)
        if change < self.tolerance:
            self.end = "converged"
        return change < self.tolerance

    def _balanced(self, decomposition: Any) -> list[np.ndarray]:
        """Return factors of the model's scale, every component as large on one axis as on another.

        Nothing fixes the signs: the means of columns are positive on all axes but the last.
        """
        weights, factors = decomposition
        sizes = np.array([np.sqrt(np.mean(np.square(each), axis=0)) for each in factors])
        weights = np.ones(sizes.shape[1]) if weights is None else np.asarray(weights)
        total = self.scale * np.abs(weights) * sizes.prod(0)
        signs = np.array([np.where(each.mean(0) < 0, -1.0, 1.0) for each in factors])
        signs[-1] = signs[:-1].prod(0) * np.where(weights < 0, -1.0, 1.0)
        factor = signs * total ** (1 / len(factors)) / np.where(sizes > 0, sizes, 1)
        return [(each * by).astype(each.dtype) for each, by in zip(factors, factor, strict=True)]

    def _tensor_error(self, truth: Factors) -> float:
        """Return the squared error of the tensor, over the truth's squared norm."""
        own, planted = ([torch.from_numpy(_numpy(f)) for f in fs] for fs in (self.factors, truth))
        return tensor_error(own, planted)

    def trace(self) -> xr.Dataset:
        """Return the numbers of each sweep, labelled."""
        texts = {
            "change": "change of the factors, over their norm",
            "noise_variance": "mean square of what is left of the tensor",
            "tensor_error": "squared error of the tensor, over the truth's squared norm",
        }
        names = [name for name in texts if name != "tensor_error" or self.truth is not None]
        data = {
            name: labels.variable("sweep", [row[name] for row in self.rows], "1", texts[name])
            for name in names
        }
        sweep = labels.coordinate("sweep", np.arange(1, len(self.rows) + 1))
        about = labels.provenance(title="alternating least squares, sweep by sweep")
        return xr.Dataset(data, {"sweep": sweep}, about)


def _tensorly() -> tuple[Any, Any]:
    """Return tensorly and its `parafac`; an error that says how to install it where it is not."""
    try:
        import tensorly
        from tensorly.decomposition import parafac
    except ImportError as error:
        raise ImportError("least squares need tensorly: pip install 'neurofb[tensor]'") from error
    return tensorly, parafac


def _checked(tensor: Array, rank: int) -> np.ndarray:
    """Return the tensor's values in memory, after a look whether they can be decomposed."""
    values = _numpy(tensor)
    if values.ndim < 2:
        raise ValueError(f"tensor has the shape {values.shape}; at least 2 axes are needed")
    if values.dtype.kind != "f":
        raise ValueError(f"tensor has dtype {values.dtype}; floating point numbers are needed")
    num_bad = int(np.count_nonzero(~np.isfinite(values)))
    if num_bad:
        raise ValueError(f"tensor has {num_bad} entries that are not finite")
    if not values.any():
        raise ValueError("tensor is zero everywhere: least squares cannot divide by nothing")
    largest = values.size // max(values.shape)
    if rank > largest:
        raise ValueError(
            f"rank={rank} is above {largest}, the product of all sides of {values.shape} but the "
            "largest: a tensor has no more components"
        )
    return values


def _numpy(values: Array) -> np.ndarray:
    """Return numbers in the CPU's memory."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _scale(shape: Sequence[int]) -> float:
    """Return N^((p-1)/2), by which the model divides the product of factors."""
    return float(np.prod(np.array(shape, float)) ** ((len(shape) - 1) / (2 * len(shape))))


def _norm(factors: Sequence[np.ndarray]) -> float:
    """Return the norm of all factors together."""
    return float(np.sqrt(sum(np.sum(np.square(each, dtype=np.float64)) for each in factors)))
