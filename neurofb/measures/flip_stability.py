"""Whether flipped synapses make a solution unstable, and if so which of them."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from neurofb import labels
from neurofb.measures.signed_ntk import output_jacobian, sign_diagonal
from neurofb.training import FlipSpec, flipped_neurons

_REFERENCES = "arXiv:2510.02765"


def flip_stability(
    network: nn.Module, inputs: Float[Tensor, "image *shape"], flips: Sequence[FlipSpec]
) -> xr.Dataset:
    """Tell if learning with these flips would keep the function that a network computes now.

    The targets are taken to be the network's own outputs: what it has learned, or a teacher. A
    small error of each kind then grows or decays at a rate of its own, an eigenvalue of -K_D on the
    range of the Jacobian J of the outputs (`signed_ntk`); all are real. The solution is stable if
    all decay. For that at least rank(J) parameters must keep a positive sign: flips need a
    degenerate solution, #flipped ≤ p - rank(J). (At a strict minimum, rank(J) = p, every flipped
    parameter makes one direction unstable.) It is a statement about the neighbourhood: from afar
    learning may fail although a solution is stable, or find another solution that is.

    Parameters
    ----------
    network
        Maps inputs to outputs; see `signed_ntk`.
    inputs
        P inputs, of the loss ½‖y - y*‖² averaged over inputs and summed over outputs.
    flips
        Which synapses learn with the wrong sign.

    Returns
    -------
    xr.Dataset
        Dim ``eigenvalue``, one a direction of the range of J, fastest growth first; dim ``unit``,
        one a flipped neuron, with coordinates ``layer`` and ``side``.

        - ``growth_rate``: per time (steps times learning rate); positive is unstable.
        - ``flipped_share``: share of the direction in the space of parameters (of its squared norm)
          that lies on flipped parameters, 0 to 1.
        - ``unit_share``: share of the fastest-growing direction on the synapses of each flipped
          neuron: why it is unstable.
        - ``stable``, ``possible`` (whether stability is possible by the count of signs),
          ``num_unstable``, ``num_parameters``, ``num_flipped`` (D at most 0), ``jacobian_rank``.

        The attribute ``verdict`` says it in a sentence.

    Raises
    ------
    ValueError
        As `signed_ntk`, or if the outputs do not depend on the parameters or are not finite.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(2, 8, bias=False), nn.Linear(8, 1, bias=False))
    >>> inputs = torch.randn(20, 2)
    >>> answer = flip_stability(network, inputs, [FlipSpec(layer="1", count=2)])
    >>> answer.sizes["eigenvalue"], answer.sizes["unit"], bool(answer.stable)
    (2, 2, True)
    """
    jacobian, diagonal = output_jacobian(network, inputs, flips)
    modes = _modes(jacobian, diagonal, len(inputs))
    neurons = flipped_neurons(network, flips)
    # D of one neuron's flip alone is negative just on its synapses
    alone = [sign_diagonal(network, [dataclasses.replace(n, strength=1.0)]) < 0 for n in neurons]
    shares = [float(modes.directions[0, synapses].sum()) for synapses in alone]
    num_unstable = int((modes.rates > 0).sum())
    num_flipped = int((diagonal <= 0).sum())
    rank, num_parameters = len(modes.rates), len(diagonal)
    scalars = {
        "stable": (bool((modes.rates < 0).all()), "whether all errors decay"),
        "possible": (
            num_parameters - num_flipped >= rank,
            "whether enough parameters keep a positive sign for stability",
        ),
        "num_unstable": (num_unstable, "number of growing directions"),
        "num_parameters": (num_parameters, "number of parameters that learn"),
        "num_flipped": (num_flipped, "number of parameters of which D is at most 0"),
        "jacobian_rank": (rank, "rank of the Jacobian of the outputs"),
    }
    about_unit = "share of the fastest-growing direction on the synapses of the neuron"
    return xr.Dataset(
        {
            "growth_rate": labels.variable(
                "eigenvalue", modes.rates, "1", "growth rate of an error, per step and rate"
            ),
            "flipped_share": labels.variable(
                "eigenvalue",
                modes.directions[:, diagonal <= 0].sum(1),
                "1",
                "share of the direction on flipped parameters",
            ),
            "unit_share": labels.variable("unit", shares, "1", about_unit),
            **{name: labels.variable((), v, "1", text) for name, (v, text) in scalars.items()},
        },
        coords={
            "eigenvalue": labels.coordinate("eigenvalue", range(rank)),
            "unit": labels.variable(
                "unit", [(n.indices or (0,))[0] for n in neurons], "1", "flipped neuron"
            ),
            "layer": labels.variable("unit", [n.layer for n in neurons], "1", "layer name"),
            "side": labels.variable("unit", [n.side for n in neurons], "1", "side of the layer"),
        },
        attrs={
            **labels.provenance(title="stability of a solution with flips", references=_REFERENCES),
            "verdict": _verdict(modes, num_unstable, neurons, shares),
        },
    )


class _Modes(NamedTuple):
    """Rates, fastest growth first, and where each direction lies: shares (mode, parameter)."""

    rates: Float[Tensor, " mode"]
    directions: Float[Tensor, "mode parameter"]


def _modes(jacobian: Tensor, diagonal: Tensor, num_inputs: int) -> _Modes:
    """Return the eigenvalues of -K_D on the range of J, and their eigenvectors D Jᵀ e."""
    if not bool(jacobian.isfinite().all()):
        raise ValueError("network: the derivatives of its outputs hold NaN or infinity")
    _, values, right = torch.linalg.svd(jacobian, full_matrices=False)
    kept = values > max(jacobian.shape) * torch.finfo(values.dtype).eps * values[0]
    if not bool(kept.any()):
        raise ValueError("network: the outputs do not depend on the parameters")
    scaled = values[kept, None] * right[kept]
    kernel = (scaled * diagonal) @ scaled.mT / num_inputs
    rates, vectors = torch.linalg.eigh(-kernel)
    rounding = len(rates) * torch.finfo(rates.dtype).eps * rates.abs().max()
    rates = torch.where(rates.abs() <= rounding, 0.0, rates)
    directions = (vectors.mT @ scaled * diagonal).square().flip(0)
    total = directions.sum(1, keepdim=True)
    return _Modes(rates.flip(0), directions / torch.where(total > 0, total, 1.0))


def _verdict(
    modes: _Modes, num_unstable: int, neurons: Sequence[FlipSpec], shares: Sequence[float]
) -> str:
    """Say in a sentence whether the solution is stable, and if not why."""
    rank, fastest = len(modes.rates), float(modes.rates[0])
    if fastest < 0:
        return f"stable: all {rank} errors decay, the slowest at rate {-fastest:.3g}"
    if num_unstable == 0:
        still = int((modes.rates == 0).sum())
        return f"not stable: {still} of {rank} errors neither grow nor decay"
    text = f"unstable: {num_unstable} of {rank} errors grow, the fastest at rate {fastest:.3g}"
    if not neurons:
        return text
    share, neuron = max(zip(shares, neurons, strict=True), key=lambda pair: pair[0])
    return (
        f"{text}; {share:.0%} of it lies on the synapses of {neuron.side} neuron {_index(neuron)} "
        f"of layer {neuron.layer!r}"
    )


def _index(neuron: FlipSpec) -> int:
    """Return which neuron the flip of a single one flips."""
    assert neuron.indices is not None
    return neuron.indices[0]
