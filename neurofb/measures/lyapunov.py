"""The largest Lyapunov exponent of a map, for many runs at once, with its standard error."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

import neurofb.labels as naming


def lyapunov_exponent(
    step: Callable[[Tensor], Tensor],
    state: Float[Tensor, "*shape"],
    *,
    num_steps: int,
    burn_in: int = 0,
    time_per_step: float | int = 1.0,
    tangent_step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    num_blocks: int = 8,
    renormalise_every: int = 1,
    discard: float | int = 0.2,
    seed: int = 0,
) -> xr.Dataset:
    """Return the largest Lyapunov exponent: the mean rate at which a small difference grows.

    A tangent follows the map's derivative along the path; the log of its growth is added up and its
    norm set back to 1 (Benettin et al. 1980, Meccanica, doi:10.1007/BF02128236). The first part of
    the tangent's run is dropped: the tangent turns to the fastest direction there. The standard
    error comes from blocks of consecutive steps, which must be long against the correlation time.

    Positive beyond its error: chaos, if the path has not settled. Zero is what order looks like
    where solutions form a manifold, since differences along it neither grow nor shrink. Long
    transients give small positive values: look at the blocks, and burn in longer.

    Parameters
    ----------
    step
        The map: states (run, parameter) after one step, each run from its own row alone. It must be
        the same at every step (all data, or one fixed order of batches).
    state
        Where the runs start (run, parameter).
    num_steps
        Steps with the tangent.
    burn_in
        Steps before them, without.
    time_per_step
        Time that a step stands for, such as the learning rate: the exponent is per unit of time.
    tangent_step
        (state, tangent) → both after one step; None differentiates `step` by `torch.func.jvp`.
    num_blocks
        Blocks of the standard error, at least 2.
    renormalise_every
        Steps between two renormalisations of the tangent.
    discard
        Fraction of `num_steps` to drop at the start of the tangent's run.
    seed
        Of the tangent at the start (the same for every run).

    Returns
    -------
    Dataset
        ``exponent`` (run) and ``standard_error`` (run), per unit of time, and
        ``local_exponent`` (run, block). NaN for a run that left the finite numbers; −∞ where the
        tangent vanished.

    Raises
    ------
    ValueError
        If a number is out of range, the state is not (run, parameter), too few steps are left for
        the blocks, or at the first step `step` returns another shape or dtype, carries no
        derivatives (a constant, ``.detach()``) or mixes runs.

    Examples
    --------
    >>> def logistic(x):
    ...     return 4 * x * (1 - x)
    >>> start = torch.tensor([[0.3]], dtype=torch.float64)
    >>> found = lyapunov_exponent(logistic, start, num_steps=500)
    >>> round(found.exponent.item(), 1), dict(found.local_exponent.sizes)  # log 2 = 0.69...
    (0.7, {'run': 1, 'block': 8})
    """
    _check(state, num_steps, burn_in, time_per_step, num_blocks, renormalise_every, discard)
    num_growths = num_steps // renormalise_every
    per_block = int(num_growths * (1 - discard)) // num_blocks
    if per_block < 1:
        raise ValueError(
            f"num_steps={num_steps} must leave each of num_blocks={num_blocks} at least one of "
            f"{num_growths} renormalisations, after discard={discard}"
        )
    advance = tangent_step or _by_jvp(step)
    with torch.no_grad():
        _check_map(step, advance, state, differentiated=tangent_step is None)
        for _ in range(burn_in):
            state = step(state)
        tangent = torch.randn(
            state.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        tangent = (tangent / torch.linalg.vector_norm(tangent)).to(state).expand_as(state)
        growths = torch.empty(num_growths, len(state), dtype=state.dtype, device=state.device)
        for growth in growths:
            for _ in range(renormalise_every):
                state, tangent = advance(state, tangent)
            norm = torch.linalg.vector_norm(tangent, dim=1, keepdim=True)
            growth.copy_(norm[:, 0])
            tangent = tangent / torch.where(norm > 0, norm, 1.0)
    kept = growths[num_growths - num_blocks * per_block :].double().log()
    left = ~state.isfinite().all(dim=1)  # the tangent need not show it
    kept = torch.where(kept.isposinf() | left, torch.nan, kept)
    local = kept.view(num_blocks, per_block, -1).mean(1) / (renormalise_every * time_per_step)
    return _labelled(local.T.cpu().numpy())


def _by_jvp(step: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the step of state and tangent by forward differentiation."""
    with warnings.catch_warnings():  # torch's own, when it first differentiates forward
        warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))

    def advance(state: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        moved = torch.func.jvp(step, (state,), (tangent,))
        return moved[0], moved[1]

    return advance


def _check_map(
    step: Callable[[Tensor], Tensor],
    advance: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    state: Tensor,
    *,
    differentiated: bool,
) -> None:
    """Refuse a map that returns something unlike the state, has no derivative or mixes runs."""
    moved = step(state)
    if not isinstance(moved, Tensor) or (moved.shape, moved.dtype) != (state.shape, state.dtype):
        found = f"shape {tuple(moved.shape)}, {moved.dtype}" if isinstance(moved, Tensor) else moved
        raise ValueError(
            f"step returns {found}, but must return the state's "
            f"shape {tuple(state.shape)}, {state.dtype}"
        )
    if differentiated:
        try:
            torch.func.jvp(step, (state,), (torch.ones_like(state),), strict=True)
        except RuntimeError as error:
            if "independent of the inputs" not in str(error):
                raise
            raise ValueError(
                "step carries no derivatives (a constant, .detach(), torch.tensor or .item() "
                "inside?); tangent_step can give them"
            ) from error
    if len(state) > 1:  # how the first run moves the others, and they the first
        first = torch.zeros_like(state)
        first[0] = torch.linspace(1, 2, state.shape[1]).to(state)
        others = torch.linspace(1, 2, state.numel()).to(state).view_as(state)
        others[0] = 0
        after = [advance(state, part)[1].nan_to_num(0, 0, 0).abs() for part in (first, others)]
        across = max(float(after[0][1:].max()), float(after[1][:1].max()))
        largest = max(float(part.max()) for part in after)
        if across > torch.finfo(state.dtype).eps ** 0.5 * largest:
            raise ValueError(
                "step mixes runs: each must follow from its own row of the state alone, but a "
                "change of the first run's state moves other runs, or one of theirs moves it"
            )


def _labelled(local: np.ndarray) -> xr.Dataset:
    """Return mean, standard error and blocks (run, block) with labels."""
    with np.errstate(invalid="ignore"):  # of −∞: NaN
        error = local.std(1, ddof=1) / np.sqrt(local.shape[1])
    units = "1 / time"
    return xr.Dataset(
        {
            "exponent": naming.variable("run", local.mean(1), units, "largest Lyapunov exponent"),
            "standard_error": naming.variable(
                "run", error, units, "standard error of the exponent, from blocks"
            ),
            "local_exponent": naming.variable(
                ("run", "block"), local, units, "exponent within a block of steps"
            ),
        }
    )


def _check(
    state: Tensor,
    num_steps: float | int,
    burn_in: int,
    time_per_step: float | int,
    num_blocks: int,
    renormalise_every: int,
    discard: float | int,
) -> None:
    """Refuse arguments out of range."""
    if state.ndim != 2 or 0 in state.shape or not state.is_floating_point():
        raise ValueError(
            f"state of shape {tuple(state.shape)} and {state.dtype} must be (run, parameter), "
            "floating point, with at least one of each"
        )
    least = {"num_steps": 1, "burn_in": 0, "num_blocks": 2, "renormalise_every": 1}
    values = (num_steps, burn_in, num_blocks, renormalise_every)
    for (name, low), value in zip(least.items(), values, strict=True):
        if not isinstance(value, int | np.integer) or value < low:
            raise ValueError(f"{name}={value} must be at least {low}, and whole")
    if not 0 < time_per_step < float("inf"):
        raise ValueError(f"time_per_step={time_per_step} must be above 0 and finite")
    if not 0 <= discard < 1:
        raise ValueError(f"discard={discard} must lie from 0 to below 1")
