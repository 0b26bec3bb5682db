"""Least squares by turns (ALS), tensorly's `parafac`: what message passing is compared with."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.tensors.als_sweeps import LeastSquaresSweeps
from neurofb.tensors.amp_input import (
    START_STREAM,
    as_tensor,
    check_fitted,
    check_rank_of_tensor,
    given_factors,
    mean_square,
    start_factors,
)
from neurofb.tensors.problem import check_number, check_priors, signal_scale
from neurofb.tensors.products import outer_sum
from neurofb.tensors.protocol import Prior

Start = Literal["random", "svd", "prior"]
Array = Tensor | np.ndarray


@dataclass
class TensorALS:
    """Rank-r decomposition of a tensor by alternating least squares, through tensorly's `parafac`.

    Attributes and normalisation are those of `TensorAMP` (Y = N^{-(p-1)/2} Σ x₁∘…∘x_p + noise, N
    the geometric mean of the sides), without what least squares does not know: there is no prior,
    and no posterior variance. tensorly runs with numpy, on the CPU, in the tensor's precision.

    Parameters
    ----------
    rank
        Number of components.
    start
        ``"random"`` (tensorly's: uniform from 0 to 1), ``"svd"`` (leading left singular vectors of
        each unfolding, from their Gram matrix), ``"prior"`` (means of `priors` and a little noise:
        the same numbers that `TensorAMP` of this seed starts from), or factors, one
        (row, component) per axis.
    priors
        Of ``start="prior"``: one for all axes, or one per axis.
    start_noise
        Of ``start="prior"``, over the prior's standard deviation; without it components of one mean
        never part.
    max_sweeps
        Sweeps over all axes, at most.
    tolerance
        Stop when the factors, each component's scale spread evenly over the axes, change by less
        than this, relative to their norm. (tensorly's own criterion, the decrease of the residual,
        hardly moves where noise is most of it.) In float32 it is raised to 2e-6.
    seed
        Of whatever is random: every start, and what tensorly draws.

    Attributes
    ----------
    factors_
        One (row, component) per axis, with dtype and device of the tensor. Least squares fixes no
        scales and signs of single axes: a component is as large on every axis, and its means are
        positive on all axes but the last.
    noise_variance_
        Mean square of what is left of the tensor.
    num_sweeps_, converged_
        Sweeps that were made; whether the last changed no more than `tolerance`.
    trace_
        Dataset over ``sweep``: change, noise_variance; with the truth also tensor_error and overlap
        (sweep, axis, component).

    Raises
    ------
    ValueError
        If a setting is out of its range, or ``start="prior"`` has no priors; from `fit` if the
        tensor is not finite, has less than two axes, or the rank is above what the shape allows.

    Examples
    --------
    >>> planted = [torch.tensor([[1.0], [2.0], [3.0]]) for _ in range(3)]
    >>> fitted = TensorALS(rank=1, start="svd").fit(outer_sum(planted, scale=1 / 3), truth=planted)
    >>> fitted.converged_, bool(fitted.trace_["tensor_error"][-1] < 1e-10)
    (True, True)
    """

    rank: int = 1
    start: str | Sequence[Array] = "random"
    priors: Prior | Sequence[Prior] | None = None
    start_noise: float | int = 0.01
    max_sweeps: int = 200
    tolerance: float | int = 1e-6
    seed: int = 0

    factors_: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)
    noise_variance_: float = field(init=False, repr=False, compare=False)
    num_sweeps_: int = field(init=False, repr=False, compare=False)
    converged_: bool = field(init=False, repr=False, compare=False)
    trace_: xr.Dataset = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("rank", "max_sweeps"):
            size = getattr(self, name)
            if not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name}={size!r} must be at least 1, and whole")
        for name in ("start_noise", "tolerance"):
            check_number(name, getattr(self, name))
        if not (isinstance(self.seed, int | np.integer) and 0 <= self.seed < 2**32):
            raise ValueError(f"seed={self.seed!r} must be a whole number from 0 to 2**32 - 1")
        if isinstance(self.start, str):
            check_choice("start", self.start, Start)
            if self.start == "prior" and self.priors is None:
                raise ValueError("start='prior' needs priors: one, or one for each axis")
        if self.priors is not None:
            check_priors(self.priors)

    @torch.no_grad()
    def fit(
        self, tensor: Array | xr.DataArray, truth: Sequence[Array] | None = None
    ) -> "TensorALS":
        """Decompose a tensor; the attributes that end in _ are then there.

        Parameters
        ----------
        tensor
            Of any order from 2.
        truth
            The planted factors, which the trace then compares with.

        Raises
        ------
        ImportError
            If tensorly is not installed.

        Warns
        -----
        RuntimeWarning
            If it did not converge, or the equations became singular.
        """
        tensorly, parafac = _tensorly()
        self._like = tensor if isinstance(tensor, xr.DataArray) else None
        data = as_tensor(tensor)
        check_rank_of_tensor(data.shape, self.rank)
        true_factors = None if truth is None else [torch.as_tensor(each).to(data) for each in truth]
        rounding = 2e-6 if data.dtype == torch.float32 else 0.0
        tolerance = max(float(self.tolerance), rounding)
        sweeps = LeastSquaresSweeps(data, mean_square(data), tolerance, true_factors)
        start = self._start(data)
        with tensorly.backend_context("numpy"):
            try:
                parafac(
                    data.cpu().numpy(),
                    int(self.rank),
                    init="random" if start is None else (None, start),
                    random_state=int(self.seed),
                    n_iter_max=int(self.max_sweeps),
                    tol=0,
                    return_errors=True,
                    callback=sweeps,
                )
            except np.linalg.LinAlgError:
                sweeps.end = "the equations became singular"
        self.factors_, self.num_sweeps_ = tuple(sweeps.factors), len(sweeps.change)
        self.noise_variance_, self.trace_ = sweeps.noise_variance, sweeps.trace()
        self.converged_ = sweeps.end == "converged"
        if not self.converged_:
            last = ", ".join(f"{change:.3g}" for change in sweeps.change[-3:])
            warnings.warn(
                f"least squares have not converged after {self.num_sweeps_} sweeps ({sweeps.end}): "
                f"the last changes are {last or 'none'}, tolerance={tolerance:.3g}",
                RuntimeWarning,
                stacklevel=3,  # past torch's decorator
            )
        return self

    def reconstruction(self) -> Tensor:
        """Return the tensor of the factors: what is left of Y without noise.

        Raises
        ------
        ValueError
            If nothing was fitted yet.
        """
        check_fitted(self)
        scale = signal_scale([len(factor) for factor in self.factors_])
        return outer_sum(self.factors_, scale=scale)

    def to_dataset(self, dims: Sequence[str] | None = None) -> xr.Dataset:
        """Return factors as a labelled dataset, named as those of `TensorAMP`.

        Parameters
        ----------
        dims
            Name of each axis; None takes those of the DataArray that was fitted, or ``axis_0`` and
            so on.

        Returns
        -------
        xr.Dataset
            Per axis ``<dim>_factor`` (dim, component); ``noise_variance``, ``num_sweeps``,
            ``converged``; and ``scale``: the signal is ``scale`` times the sum over components of
            the factors' outer products.
        """
        check_fitted(self)
        names = [f"axis_{axis}" for axis in range(len(self.factors_))]
        if dims is None and self._like is not None:
            names = [str(dim) for dim in self._like.dims]
        names = names if dims is None else list(dims)
        if len(names) != len(self.factors_) or len({*names, "component"}) != len(names) + 1:
            raise ValueError(
                f"dims={tuple(names)} must be {len(self.factors_)} different names, none "
                "'component'"
            )
        scale = signal_scale([len(factor) for factor in self.factors_])
        numbers = {
            "scale": (scale, "factor of the sum of outer products"),
            "noise_variance": (self.noise_variance_, "mean square of what is left of an entry"),
            "num_sweeps": (self.num_sweeps_, "sweeps over all axes that were made"),
            "converged": (self.converged_, "whether the last sweep changed less than tolerance"),
        }
        variables = {n: labels.variable((), v, "1", text) for n, (v, text) in numbers.items()}
        for dim, factor in zip(names, self.factors_, strict=True):
            variables[f"{dim}_factor"] = labels.variable(
                (dim, "component"), factor, "1", f"factor of {dim}"
            )
        coords = {"component": labels.coordinate("component", np.arange(self.rank))}
        if self._like is not None and list(self._like.dims) == names:
            coords |= {d: self._like.coords[d].variable for d in names if d in self._like.coords}
        about = labels.provenance(title="tensor by alternating least squares", seed=int(self.seed))
        return xr.Dataset(variables, coords, about)

    def _start(self, data: Tensor) -> list[np.ndarray] | None:
        """Return factors to start from, in tensorly's scale; None leaves them to tensorly."""
        if not isinstance(self.start, str):
            factors = given_factors(self.start, data, self.rank)
        elif self.start == "svd":
            factors = [self._singular_vectors(data, axis) for axis in range(data.ndim)]
        elif self.start == "prior" and self.priors is not None:
            factors = start_factors(
                data.shape,
                self.priors,
                self.rank,
                noise=self.start_noise,
                seed=int(self.seed),
                dtype=data.dtype,
            )
        else:
            return None
        factors[0] = factors[0] * signal_scale(data.shape)
        return [factor.cpu().numpy() for factor in factors]

    def _singular_vectors(self, data: Tensor, axis: int) -> Tensor:
        """Return an unfolding's leading left singular vectors, then random numbers."""
        unfolding = data.movedim(axis, 0).reshape(data.shape[axis], -1)
        _, vectors = torch.linalg.eigh(unfolding @ unfolding.T)
        leading = vectors.flip(1)[:, : self.rank]
        generator = np.random.default_rng((self.seed, START_STREAM, axis))
        more = generator.random((len(leading), self.rank - leading.shape[1]))
        return torch.cat([leading, torch.from_numpy(more / len(leading) ** 0.5).to(data)], dim=1)


def _tensorly() -> tuple[Any, Any]:
    """Return tensorly and its `parafac`; an error that says how to install it where it is not."""
    try:
        import tensorly
        from tensorly.decomposition import parafac
    except ImportError as error:
        raise ImportError("least squares need tensorly: pip install 'neurofb[tensor]'") from error
    return tensorly, parafac
