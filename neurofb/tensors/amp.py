"""Low-rank decomposition of a noisy tensor by approximate message passing."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.tensors.amp_input import (
    as_tensor,
    check_fitted,
    check_rank_of_tensor,
    given_factors,
    mean_square,
    start_factors,
)
from neurofb.tensors.amp_labels import Trace, decomposition_dataset
from neurofb.tensors.amp_sweeps import Sweeps, SweepSettings
from neurofb.tensors.gaussian import GaussianPrior
from neurofb.tensors.problem import (
    check_number,
    check_priors,
    check_seed,
    priors_of_axes,
    signal_scale,
)
from neurofb.tensors.products import outer_sum
from neurofb.tensors.protocol import LEARNABLE, Prior

#: share of a factor's second moment below which its posterior mean is zero
_NOTHING = 1e-4
_STARTS = 2000  # streams of further starts, apart from those of a user's seeds


@dataclass
class TensorAMP:
    """Estimate factors ``x_a`` of ``Y = N^(-(p-1)/2) Σ x₁∘…∘x_p + √Δ noise`` under their priors.

    Approximate message passing for low-rank tensors of any order and shape, with a prior per axis
    (arXiv:1810.10065; the equations are our derivation, as the paper's were not at hand): each axis
    in turn takes the posterior mean of its rows under a Gaussian field made of the data and the
    other axes, less the Onsager term, which takes off what an estimate sees of itself.

    Parameters
    ----------
    rank
        Number of components.
    priors
        One for all axes, or one per axis: `GaussianPrior`, `RademacherPrior`,
        `BernoulliGaussPrior`, `DenoiserPrior` or any other `Prior`.
    noise_variance
        Δ. None takes the mean of the squared entries, of which a large tensor's signal is a
        vanishing part; add ``"noise_variance"`` to `learn` where it is not.
    schedule
        ``"sequential"``: axes in turn, each from the newest of the others. ``"parallel"``: all at
        once, as in the textbook; for three axes and more it oscillates unless damped above
        (p - 2)/p.
    damping
        Share of the old estimate that is kept, from 0 to below 1.
    settle_scales
        Move scales between axes to where further sweeps would bring them, once nothing else
        changes; without, they settle slowly at little noise (2 to 100 times as many sweeps; the
        fixed points are the same). Not done where means or covariances are learnt, which leave
        scales free.
    learn
        What expectation maximisation learns in each sweep: ``"noise_variance"`` (at most the mean
        of the squared entries), and of the priors that know them ``"mean"``, ``"covariance"``,
        ``"density"`` (of `BernoulliGaussPrior`).
        Scale can move between axes that both learn it.
    max_sweeps
        Sweeps over all axes, at most.
    tolerance
        Stop when no axis changes by more: root mean square over rows, relative to the prior's.
        (In float32, changes below about 1e-6 are rounding; it is then raised to 2e-6.)
    start
        ``"prior"``: the prior means, plus noise of `start_noise` times the prior's standard
        deviation; or factors, one (row, component) per axis.
    start_noise
        See `start`; 1 starts from something like a draw of the prior. Priors of mean 0 on two axes
        or more need it above 0.
    num_starts
        Starts from noise of their own, of which the one with the smallest residual is kept.
    seed
        Of the noise of the starts.

    Attributes
    ----------
    factors_
        Posterior means, one (row, component) per axis, with dtype and device of the tensor.
    covariances_
        Posterior covariances: (component, component) if all rows of an axis share it, else (row,
        component, component).
    noise_variance_
        Δ as it was given, estimated or learnt.
    residual_variance_
        Posterior mean of the squared residual of an entry, rows of different axes taken as
        independent.
    priors_
        Per axis, as given or learnt.
    num_sweeps_, converged_
        Sweeps that were made; whether the last changed no more than `tolerance`.
    trace_
        Dataset over ``sweep``: change, noise_variance, residual_variance; with the truth also
        tensor_error and overlap (sweep, axis, component).

    Raises
    ------
    ValueError
        If a setting is out of its range; from `fit` if the tensor is not finite, has less than two
        axes, or the rank is above what a prior or the shape allow.

    Examples
    --------
    >>> from neurofb.tensors import TensorProblem, tensor_error
    >>> prior = GaussianPrior(mean=0.5)
    >>> tensor, factors, _ = TensorProblem((60, 50, 40), prior, noise_variance=0.05).sample(seed=0)
    >>> found = TensorAMP(priors=prior, noise_variance=0.05).fit(tensor, truth=factors)
    >>> found.converged_, tensor_error(found.factors_, factors) < 0.2
    (True, True)
    """

    rank: int = 1
    priors: Prior | Sequence[Prior] = GaussianPrior()
    noise_variance: float | int | None = None
    schedule: Literal["sequential", "parallel"] = "sequential"
    damping: float | int = 0.0
    settle_scales: bool = True
    learn: Sequence[str] = ()
    max_sweeps: int = 200
    tolerance: float | int = 1e-6
    start: str | Sequence[Tensor | np.ndarray] = "prior"
    start_noise: float | int = 0.01
    num_starts: int = 1
    seed: int = 0

    factors_: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)
    covariances_: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)
    noise_variance_: float = field(init=False, repr=False, compare=False)
    residual_variance_: float = field(init=False, repr=False, compare=False)
    priors_: tuple[Prior, ...] = field(init=False, repr=False, compare=False)
    num_sweeps_: int = field(init=False, repr=False, compare=False)
    converged_: bool = field(init=False, repr=False, compare=False)
    trace_: xr.Dataset = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("rank", "max_sweeps", "num_starts"):
            value = getattr(self, name)
            if not (isinstance(value, int | np.integer) and value >= 1):
                raise ValueError(f"{name}={value!r} must be at least 1, and whole")
        if self.noise_variance is not None:
            check_number("noise_variance", self.noise_variance, positive=True)
        check_number("damping", self.damping, below=1.0)
        for name in ("tolerance", "start_noise"):
            check_number(name, getattr(self, name))
        check_priors(self.priors)
        check_seed(self.seed)
        check_choice("schedule", self.schedule, ("sequential", "parallel"))
        if isinstance(self.start, str):
            check_choice("start", self.start, ("prior", "factors, one per axis"))
        if isinstance(self.learn, str):
            raise ValueError(f"learn={self.learn!r} must be a list of names")
        for name in self.learn:
            check_choice("learn", name, ("noise_variance", *LEARNABLE))

    @torch.no_grad()
    def fit(
        self,
        tensor: Tensor | np.ndarray | xr.DataArray,
        truth: Sequence[Tensor | np.ndarray] | None = None,
    ) -> "TensorAMP":
        """Decompose a tensor; the attributes that end in _ are then there.

        Parameters
        ----------
        tensor
            Of any order from 2; float32 is worked on in float32, on the device it lies on. It is
            not copied, unless its memory is not contiguous. A DataArray gives `to_dataset` its
            dims and coordinates.
        truth
            The planted factors, which the trace then compares with.

        Warns
        -----
        RuntimeWarning
            If it did not converge, with the last changes; or if it converged to factors of zero,
            the means of the priors, and so found nothing.
        """
        self.__post_init__()  # settings may have been changed since
        self._like = tensor if isinstance(tensor, xr.DataArray) else None
        data = as_tensor(tensor)
        check_rank_of_tensor(data.shape, self.rank)
        priors = priors_of_axes(self.priors, data.ndim, self.rank)
        self._check_learnable(priors)
        square = mean_square(data)
        rounding = 2e-6 if data.dtype == torch.float32 else 1e-14
        settings = SweepSettings(
            sequential=self.schedule == "sequential",
            damping=float(self.damping),
            settle_scales=self.settle_scales,
            learn=frozenset(self.learn),
            max_sweeps=int(self.max_sweeps),
            tolerance=max(float(self.tolerance), rounding),
        )
        true_factors = None if truth is None else [torch.as_tensor(each).to(data) for each in truth]
        num_starts = self.num_starts if isinstance(self.start, str) else 1
        noise_variance = square if self.noise_variance is None else float(self.noise_variance)
        best: tuple[Sweeps, Trace] | None = None
        for number in range(num_starts):
            factors = self._start(data, priors, number)
            trace = Trace(true_factors)
            sweeps = Sweeps(data, square, factors, list(priors), noise_variance, settings)
            sweeps.run(trace.add)
            if best is None or _rank_of(sweeps) < _rank_of(best[0]):
                best = sweeps, trace
        assert best is not None
        self._keep(*best)
        return self

    def reconstruction(self) -> Tensor:
        """Return the posterior mean of the signal, as a tensor: what is left of Y without noise.

        Raises
        ------
        ValueError
            If nothing was fitted yet.
        """
        check_fitted(self)
        shape = [len(factor) for factor in self.factors_]
        return outer_sum(self.factors_, scale=signal_scale(shape))

    def to_dataset(self, dims: Sequence[str] | None = None) -> xr.Dataset:
        """Return factors and their posterior variances as a labelled dataset.

        Parameters
        ----------
        dims
            Name of each axis; None takes those of the DataArray that was fitted, or ``axis_0`` and
            so on.

        Returns
        -------
        xr.Dataset
            Per axis ``<dim>_factor`` and ``<dim>_variance`` (dim, component); ``noise_variance``,
            ``residual_variance``, ``num_sweeps``, ``converged``, ``change``; and ``scale``: the
            signal is ``scale`` times the sum over components of the factors' outer products.
        """
        check_fitted(self)
        settings = {
            name: getattr(self, name)
            for name in ("rank", "schedule", "damping", "max_sweeps", "tolerance", "start_noise")
        } | {"learn": list(self.learn), "priors": [repr(prior) for prior in self.priors_]}
        return decomposition_dataset(
            self.factors_,
            self.covariances_,
            {
                "noise_variance": self.noise_variance_,
                "residual_variance": self.residual_variance_,
                "num_sweeps": self.num_sweeps_,
                "converged": self.converged_,
                "change": float(self.trace_["change"][-1]),
            },
            dims=dims,
            like=self._like,
            config=json.dumps(settings, default=repr),
            seed=self.seed,
        )

    def _start(self, tensor: Tensor, priors: Sequence[Prior], number: int) -> list[Tensor]:
        """Return where a start begins."""
        if not isinstance(self.start, str):
            return given_factors(self.start, tensor, self.rank)
        seed = self.seed if number == 0 else self.seed + _STARTS * number
        return start_factors(
            tensor.shape,
            priors,
            self.rank,
            noise=self.start_noise,
            seed=seed,
            dtype=tensor.dtype,
            device=tensor.device,
        )

    def _check_learnable(self, priors: Sequence[Prior]) -> None:
        """Refuse to learn what no prior knows."""
        known = {"noise_variance"}.union(*(getattr(prior, "learnable", ()) for prior in priors))
        unknown = [name for name in self.learn if name not in known]
        if unknown:
            raise ValueError(
                f"learn: no prior has {', '.join(unknown)}; these can be learnt here: "
                f"{', '.join(sorted(known))}"
            )

    def _warn_of_nothing(self, sweeps: Sweeps) -> None:
        """Say that the factors are zero, and what may be done."""
        expected = sweeps.scale * prod(
            float(prior.second_moment_of(self.rank).trace() / self.rank) ** 0.5
            for prior in sweeps.priors
        )
        warnings.warn(
            f"message passing converged to the priors' means of zero after {self.num_sweeps_} "
            "sweeps and found nothing: noise hides the signal, or the start is too near zero "
            f"(start_noise={self.start_noise:g}; try 1, with num_starts of 3 or more), the priors "
            "are not those of the data (give them a mean, or learn=('noise_variance', 'mean', "
            "'covariance')), or the tensor has another scale than they have (root mean square "
            f"{sweeps.mean_square**0.5:.3g}; a component drawn from the priors has {expected:.3g})",
            RuntimeWarning,
            stacklevel=5,  # past torch's decorator
        )

    def _keep(self, sweeps: Sweeps, trace: Trace) -> None:
        """Set the attributes, and say so if there is no convergence."""
        self.factors_, self.covariances_ = tuple(sweeps.factors), tuple(sweeps.covariances)
        self.noise_variance_, self.priors_ = sweeps.noise_variance, tuple(sweeps.priors)
        self.residual_variance_, self.converged_ = sweeps.residual, sweeps.converged
        self.num_sweeps_, self.trace_ = len(sweeps.change), trace.to_dataset(sweeps.change)
        if sweeps.converged:
            if _found_nothing(sweeps):
                self._warn_of_nothing(sweeps)
            return
        last = ", ".join(f"{change:.3g}" for change in sweeps.change[-3:])
        what = "diverged" if sweeps.diverged else "has not converged"
        order, advice = sweeps.tensor.ndim, "raise max_sweeps or damping"
        if not sweeps.settings.sequential and order > 2:
            advice = (
                f"the parallel schedule of a tensor of order {order} needs damping above "
                f"{(order - 2) / order:.2f}, the sequential one none"
            )
        warnings.warn(
            f"message passing {what} after {self.num_sweeps_} sweeps: the last changes are {last}, "
            f"tolerance={sweeps.settings.tolerance:.3g}; {advice}",
            RuntimeWarning,
            stacklevel=4,  # past torch's decorator
        )


def _found_nothing(sweeps: Sweeps) -> bool:
    """Return whether every component has an axis whose mean is zero beside its posterior spread."""
    informed = torch.ones(sweeps.factors[0].shape[1], dtype=torch.bool)
    for factor, covariance in zip(sweeps.factors, sweeps.covariances, strict=True):
        spread = covariance.diagonal(dim1=-2, dim2=-1).double()
        square = factor.double().square().mean(0)
        known = square > _NOTHING * (square + (spread if spread.ndim == 1 else spread.mean(0)))
        informed &= known.cpu()
    return not bool(informed.any())


def _rank_of(sweeps: Sweeps) -> tuple[bool, float]:
    """Return what orders starts: those that diverged last, then by their residual."""
    return sweeps.diverged, sweeps.residual if isfinite(sweeps.residual) else np.inf
