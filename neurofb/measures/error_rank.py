"""How many dimensions errors, activities, gradients and updates use, layer by layer."""

import math
from collections.abc import Sequence
from typing import get_args

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurofb import labels as naming
from neurofb.measures.effective_rank import (
    RankKind,
    effective_rank,
    prepare,
    rank_tolerance,
    singular_values,
    spectrum_rank,
)
from neurofb.measures.error_matrix import ErrorView, error_matrix
from neurofb.measures.maps import is_convolution, is_map, weight_gradient
from neurofb.measures.overlap import compare
from neurofb.measures.two_passes import Call, TwoPasses
from neurofb.measures.updates import weight_updates

_ERROR = ("layer", "definition", "view")
_VARIABLES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "error_rank": (_ERROR, "1", "effective rank of the error at the layer's output"),
    "error_rank_normalised": (_ERROR, "1", "effective rank of the error, each row of norm 1"),
    "error_rank_ceiling": (("layer", "view"), "1", "largest rank the error could have"),
    "activity_rank": (_ERROR[:2], "1", "effective rank of the layer's centred input"),
    "gradient_rank": (_ERROR[:2], "1", "effective rank of the weight's gradient"),
    "update_rank": (_ERROR[:2], "1", "effective rank of the weight's update"),
    "gradient_angle": (("layer",), "degree", "angle of the gradient to backpropagation's"),
}


def error_rank(
    network: nn.Module,
    images: Float[Tensor, "image *shape"],
    labels: Int[Tensor, " image"],
    *,
    optimiser: torch.optim.Optimizer | None = None,
    kinds: RankKind | Sequence[RankKind] = ("entropy", "participation", "stable"),
    views: ErrorView | Sequence[ErrorView] = ("channel", "sample", "pooled"),
) -> xr.Dataset:
    """Measure the effective rank of a network's errors, activities, gradients and updates.

    After the diagnosis of Boeshertz, Pascanu & Clopath 2026 (arXiv:2606.11123): the errors of
    feedback alignment collapse to few dimensions while it trains. High rank is a diagnosis, no aim:
    late in training a few images carry nearly all of the error and its rank falls with the loss, so
    look at `error_rank_normalised` beside it, or compare at equal loss.

    As for `neurofb.measures.alignment`, the images go forwards and back through copies of the
    network in training mode, all at once and in the precision of its weights, also where training
    multiplies in bfloat16; network, optimiser and random state are left as they were.

    Parameters
    ----------
    network
        Maps images to logits; with pathways or without.
    images, labels
        Images, and their classes. No rank of a sample view is above the number of images: compare
        networks on equally many.
    optimiser
        Of the network. A copy of both makes one step with the gradient of these images
        (`neurofb.measures.updates`); None measures no updates. (Settings become an optimiser by
        ``Optimiser(…).build(network)``.)
    kinds
        Definitions (`neurofb.measures.effective_rank`), or one of them.
    views
        Layouts of the error (`neurofb.measures.error_matrix`), or one of them.

    Returns
    -------
    xr.Dataset
        Dim ``layer``, in the order of the forward pass: every linear layer and convolution that
        runs, and every other module that carries a pathway or is the source of one.

        - ``error_rank``, ``error_rank_normalised`` (layer, definition, view): of the error δ at the
          layer's output, as it is and with each row divided by its norm.
        - ``error_rank_ceiling`` (layer, view): the smaller of the number of rows and columns.
        - ``activity_rank`` (layer, definition): of the layer's *input* h, the mean of each unit
          removed; rows are images, pixels and tokens, columns channels or units. (So it is 1 for
          a first convolution on images of one channel.)
        - ``gradient_rank``, ``update_rank``: of Σ δ hᵀ, and of W' − W; a convolution's W has one
          row an output channel. A layer that keeps factors is looked at in W, too.
        - ``gradient_angle`` (layer), degree: of Σ δ hᵀ with pathways to that of exact
          backpropagation.

        NaN where no error arrives or its numbers are not finite; gradient and update also for what
        is no linear map, the update where nothing learns or there is no optimiser.

    Raises
    ------
    ValueError
        If there are no images, not a label for each, a label is no class of the network, `kinds` or
        `views` are empty or unknown, the network cannot be copied, or the optimiser is none or
        another network's.

    Examples
    --------
    >>> from neurofb.feedback import Random, attach
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> net = attach(net, {"2": Random()})
    >>> answer = error_rank(net, torch.randn(20, 6), torch.arange(20) % 3, kinds=["numerical"])
    >>> answer.error_rank.sel(view="channel", definition="numerical").values  # at most C - 1 = 2
    array([8., 2.])
    """
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    views = (views,) if isinstance(views, str) else views
    _check(images, labels, kinds, views, optimiser)
    device = next((p.device for p in network.parameters()), images.device)
    devices = [device] if device.type == "cuda" else []
    rows: dict[str, dict[str, object]] = {}
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        passes = TwoPasses.of(network)
        calls, exact = passes.run(images.detach().to(device), labels.clone().to(device))
        updates = {}
        if optimiser is not None:
            gradients = {name: p.grad for name, p in passes.learning.named_parameters()}
            updates = weight_updates(network, optimiser, gradients)
        for name in calls:
            module = passes.learning.get_submodule(name)
            gradient = _gradient(module, calls[name])
            rows[name] = {
                **_of_errors(module, calls[name], kinds, views),
                "activity_rank": _of_activity(module, calls[name], kinds),
                "gradient_rank": _ranks(gradient, kinds),
                "update_rank": _ranks(updates.get(name), kinds, rounded_to=_dtype(module)),
                "gradient_angle": _angle(gradient, _gradient(module, exact[name])),
            }
    variables = {
        key: naming.variable(dims, [row[key] for row in rows.values()], units, text)
        for key, (dims, units, text) in _VARIABLES.items()
    }
    names = {"layer": list(rows), "definition": list(kinds), "view": list(views)}
    return xr.Dataset(
        variables,
        coords={dim: naming.coordinate(dim, values) for dim, values in names.items()},
        attrs={"title": "effective rank of the error", "num_images": len(images)},
    )


def _check(
    images: Tensor, labels: Tensor, kinds: Sequence[str], views: Sequence[str], optimiser: object
) -> None:
    """Refuse what cannot be measured."""
    if not isinstance(optimiser, torch.optim.Optimizer | None):
        raise ValueError(
            f"optimiser={type(optimiser).__name__} must be a torch.optim.Optimizer or None; "
            "settings become one by .build(network)"
        )
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"images and labels must be equally many and at least one, not {len(images)} images "
            f"and {len(labels)} labels"
        )
    for name, asked, allowed in (
        ("kinds", kinds, get_args(RankKind)),
        ("views", views, get_args(ErrorView)),
    ):
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(allowed):
            raise ValueError(f"{name}={tuple(asked)} must be some of {', '.join(allowed)}")


def _of_errors(
    module: nn.Module, calls: list[Call], kinds: Sequence[RankKind], views: Sequence[ErrorView]
) -> dict[str, object]:
    """Return the ranks of the errors of one layer, and their ceilings."""
    deltas = [_batched(module, call.delta) for call in calls if call.delta is not None]
    found: dict[str, tuple[list[float], list[float], float]] = {}
    for view in views:
        same = next((v for v in found if all(delta.ndim == 2 for delta in deltas)), None)
        found[view] = found[same] if same else _of_matrix(_joined(deltas, view), kinds)
    raw, normalised, ceilings = zip(*found.values(), strict=True)
    return {
        "error_rank": list(zip(*raw, strict=True)),
        "error_rank_normalised": list(zip(*normalised, strict=True)),
        "error_rank_ceiling": ceilings,
    }


def _of_matrix(
    errors: Tensor | None, kinds: Sequence[RankKind]
) -> tuple[list[float], list[float], float]:
    """Return the ranks of raw and of normalised rows, and the ceiling of both."""
    ceiling = math.nan if errors is None else float(min(errors.shape))
    return _ranks(errors, kinds), _ranks(errors, kinds, row_normalise=True), ceiling


def _of_activity(module: nn.Module, calls: list[Call], kinds: Sequence[RankKind]) -> list[float]:
    """Return the ranks of the centred input of one layer."""
    inputs = [_batched(module, call.h) for call in calls if call.h is not None]
    return _ranks(_joined(inputs, "channel"), kinds, center=True)


def _batched(module: nn.Module, x: Tensor) -> Tensor:
    """Return x with a dim of images, and a linear layer's pixels as tokens."""
    if is_convolution(module):
        return x[None] if x.ndim == 3 else x
    if not is_map(module) or x.ndim in (2, 3):
        return x
    return x[None] if x.ndim == 1 else x.flatten(1, -2)


def _joined(parts: list[Tensor], view: ErrorView) -> Tensor | None:
    """Return the rows of all calls, None if there are none or they do not fit one matrix."""
    if not parts or any(part.ndim not in (2, 3, 4) or not part.numel() for part in parts):
        return None
    matrices = [error_matrix(part, view) for part in parts]
    fits = len({matrix.shape[1] for matrix in matrices}) == 1
    return torch.cat(matrices) if fits else None


def _ranks(
    matrix: Tensor | None,
    kinds: Sequence[RankKind],
    *,
    center: bool = False,
    row_normalise: bool = False,
    rounded_to: torch.dtype | None = None,
) -> list[float]:
    """Return the ranks of a matrix by all definitions, from one SVD.

    `rounded_to` is the precision of what the matrix was computed from, if that is less than its
    own: singular values that are rounding do not count in the numerical rank.
    """
    if matrix is None or not bool(torch.isfinite(matrix).all()):
        return [math.nan] * len(kinds)
    if set(kinds) == {"participation"}:
        options = {"center": center, "row_normalise": row_normalise}
        return [effective_rank(matrix, "participation", **options).item()]
    s = singular_values(prepare(matrix, center=center, row_normalise=row_normalise))
    tolerance = rank_tolerance(matrix if rounded_to is None else matrix.to(rounded_to))
    return [spectrum_rank(s, kind, tolerance=tolerance).item() for kind in kinds]


def _dtype(module: nn.Module) -> torch.dtype | None:
    """Return the dtype of a module's weights, and so of their gradients."""
    return next((parameter.dtype for parameter in module.parameters()), None)


def _gradient(module: nn.Module, calls: list[Call]) -> Tensor | None:
    """Return the gradient with respect to W, if the module is a map that an error reaches."""
    pairs = [(c.h, c.delta) for c in calls if c.h is not None and c.delta is not None]
    return weight_gradient(module, pairs) if pairs and is_map(module) else None


def _angle(one: Tensor | None, other: Tensor | None) -> float:
    """Return the angle of two gradients in degrees."""
    return math.nan if one is None or other is None else compare(one, other).angle
