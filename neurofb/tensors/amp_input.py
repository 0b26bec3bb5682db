"""What message passing starts with: the tensor in memory, and factors to start from."""

from collections.abc import Sequence
from math import isfinite, prod

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurofb.tensors.gaussian import root_of
from neurofb.tensors.problem import priors_of_axes
from neurofb.tensors.protocol import Prior

_SLAB_ENTRIES = 2**20
#: stream of the starts: not those of a planted problem of the same seed
START_STREAM = 3000


def as_tensor(tensor: Tensor | np.ndarray | xr.DataArray) -> Tensor:
    """Return a contiguous floating tensor; no copy is made of one that is that already.

    Whole numbers (counts of spikes) become float64; half precision becomes float32.

    Raises
    ------
    ValueError
        If it is no array, has less than two axes, an empty one, or entries that are complex, truth
        values or masked.

    Examples
    --------
    >>> as_tensor(np.ones((2, 3), dtype=int)).dtype
    torch.float64
    """
    if isinstance(tensor, xr.DataArray):
        tensor = tensor.values
    if isinstance(tensor, np.ma.MaskedArray):
        if np.ma.is_masked(tensor):
            raise ValueError(
                f"tensor: {np.ma.count_masked(tensor)} of {tensor.size} entries are masked; "
                "missing entries are not supported"
            )
        tensor = tensor.data
    if isinstance(tensor, np.ndarray):
        if not (tensor.dtype.kind in "fiu" and tensor.dtype.itemsize <= 8):
            raise ValueError(
                f"tensor: dtype {tensor.dtype} must be real numbers, of 64 bits at most"
            )
        tensor = torch.from_numpy(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("=")))
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"tensor: a {type(tensor).__name__} must be a torch tensor, numpy array or DataArray"
        )
    if tensor.ndim < 2 or not tensor.numel():
        raise ValueError(
            f"tensor: shape {tuple(tensor.shape)} must have two axes or more, none empty"
        )
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"tensor: dtype {tensor.dtype} must be real numbers")
    if not tensor.is_floating_point():
        tensor = tensor.double()
    elif tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.detach().contiguous()


def check_fitted(decomposition: object) -> None:
    """Refuse a decomposition that has no factors yet.

    Raises
    ------
    ValueError
        That says what to call first.

    Examples
    --------
    >>> from neurofb.tensors import TensorAMP
    >>> check_fitted(TensorAMP())
    Traceback (most recent call last):
    ValueError: TensorAMP has no factors yet; call fit(tensor) first
    """
    if not hasattr(decomposition, "factors_"):
        name = type(decomposition).__name__
        raise ValueError(f"{name} has no factors yet; call fit(tensor) first")


def mean_square(tensor: Tensor) -> float:
    """Return the mean of squared entries, summed in float64.

    Raises
    ------
    ValueError
        If an entry is not finite, with how many are not, or if all are zero.

    Examples
    --------
    >>> mean_square(torch.tensor([[1.0, 3.0]]))
    5.0
    """
    slabs = tensor.view(-1).split(_SLAB_ENTRIES)
    total = float(torch.stack([slab.double().square().sum() for slab in slabs]).sum())
    if not isfinite(total):
        num_bad = sum(int((~torch.isfinite(slab)).sum()) for slab in slabs)
        raise ValueError(
            f"tensor: {num_bad} of {tensor.numel()} entries are not finite (or too large to "
            "square); missing entries are not supported"
        )
    if total == 0:
        raise ValueError("tensor: all entries are zero; there is nothing to decompose")
    return total / tensor.numel()


def check_rank_of_tensor(shape: Sequence[int], rank: int) -> None:
    """Refuse a rank above the rank that every tensor of a shape can be written with.

    Raises
    ------
    ValueError
        With the limit: the least product of all sides but one.

    Examples
    --------
    >>> check_rank_of_tensor((2, 3, 4), 7)
    Traceback (most recent call last):
    ValueError: rank=7 is above 6, enough for every tensor of shape (2, 3, 4)
    """
    limit = prod(shape) // max(shape)
    if rank > limit:
        raise ValueError(
            f"rank={rank} is above {limit}, enough for every tensor of shape {(*shape,)}"
        )


def start_factors(
    shape: Sequence[int],
    priors: Prior | Sequence[Prior],
    rank: int = 1,
    *,
    noise: float | int = 0.01,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> list[Tensor]:
    """Return the prior means with a little noise: where message passing starts.

    A least-squares fit started here has the same side information. (The tensor of these factors is
    in the units of `TensorProblem`: `N^(-(p-1)/2)` times the sum of outer products.)

    Parameters
    ----------
    shape
        Of the tensor.
    priors
        One for all axes, or one per axis.
    rank
        Number of components.
    noise
        Standard deviation of the noise over that of the prior. Without noise, components of equal
        priors stay equal for ever, and those of mean 0 stay 0.
    seed
        Of the noise.
    dtype, device
        Of what is returned.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> start_factors((2, 3), GaussianPrior(mean=0.5), noise=0)[0].T
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    factors = []
    for axis, prior in enumerate(priors_of_axes(priors, len(shape), rank)):
        mean = prior.mean_of(rank).cpu().numpy()
        root = root_of(prior.second_moment_of(rank).cpu().numpy() - np.outer(mean, mean))
        generator = np.random.default_rng((seed, START_STREAM, axis))
        normal = generator.standard_normal((shape[axis], rank))
        factors.append(torch.from_numpy(mean + noise * normal @ root.T).to(device, dtype))
    return factors


def given_factors(
    factors: Sequence[Tensor | np.ndarray], tensor: Tensor, rank: int
) -> list[Tensor]:
    """Return factors to start from, as copies beside the tensor.

    Raises
    ------
    ValueError
        If shapes do not fit tensor and rank, or a number is not finite.

    Examples
    --------
    >>> given_factors([np.ones((2, 1)), np.ones((3, 1))], torch.ones(2, 3), rank=1)[1].shape
    torch.Size([3, 1])
    """
    wanted = [(side, rank) for side in tensor.shape]
    found = [tuple(np.shape(factor)) for factor in factors]
    if found != wanted:
        raise ValueError(f"start: factors of shapes {found} are given; {wanted} are needed")
    copies = [torch.as_tensor(factor).detach().to(tensor, copy=True) for factor in factors]
    if not all(bool(torch.isfinite(factor).all()) for factor in copies):
        raise ValueError("start: a factor has entries that are not finite")
    return copies
