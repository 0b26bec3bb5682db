"""The rank-controlled update: its identities, and momentum SGD where nothing is controlled."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurofb.measures import effective_rank
from neurofb.networks import MLPConfig
from neurofb.training import (
    Optimiser,
    RankControlled,
    TrainingConfig,
    control_rank,
    polar_factor,
    why_not_stacked,
)
from neurofb.training.rank_control import check_mode

SHAPES = [(7, 7), (5, 11), (11, 5), (3, 6, 4)]
MODES: list[dict[str, Any]] = [
    {"mode": "none"},
    {"mode": "truncate", "rank": 2},
    {"mode": "flat", "share": 0.5},
    {"mode": "interpolate", "amount": 0.3},
    {"mode": "polar"},
]


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference(s: np.ndarray, mode: str, match_norm: bool, **numbers: float) -> np.ndarray:
    """Return S' by the equations, for singular values that are all above zero."""
    k = len(s)
    new = {
        "none": lambda: s,
        "truncate": lambda: np.where(np.arange(k) < numbers["rank"], s, 0),
        "flat": lambda: (np.arange(k) < math.ceil(numbers["share"] * k)).astype(float),
        "interpolate": lambda: np.sqrt(
            (1 - numbers["amount"]) * s**2 + numbers["amount"] * np.mean(s**2)
        ),
        "polar": lambda: np.ones(k),
    }[mode]()
    return new * np.linalg.norm(s) / np.linalg.norm(new) if match_norm else new


@pytest.mark.parametrize("match_norm", [False, True])
@pytest.mark.parametrize("settings", MODES, ids=lambda settings: settings["mode"])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_changes_singular_values_alone(
    shape: tuple[int, int], settings: dict[str, Any], match_norm: bool
):
    matrix = gaussian(*shape)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    result = control_rank(matrix, **settings, match_norm=match_norm)
    expected = reference(s.numpy(), match_norm=match_norm, **settings)
    np.testing.assert_allclose(u.mT @ result @ vt.mT, np.diag(expected), atol=1e-12)
    np.testing.assert_allclose(result, u @ torch.diag(torch.tensor(expected)) @ vt, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_identities(shape: tuple[int, ...]):
    matrix = gaussian(*shape)
    k = min(shape[-2:])

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    same(control_rank(matrix, "interpolate", amount=0.0), matrix)
    same(control_rank(matrix, "truncate", rank=k), matrix)
    same(control_rank(matrix, "truncate", rank=k + 3), matrix)
    polar = control_rank(matrix, "polar")
    same(control_rank(matrix, "interpolate", amount=1.0), polar)
    same(control_rank(matrix, "interpolate", amount=1.0, match_norm=False), polar)
    same(control_rank(matrix, "flat", share=1.0), polar)
    same(control_rank(matrix, "polar", match_norm=False), polar_factor(matrix))
    for share in (0.1, 1 / 3, 0.5, 0.99, 1.0):
        flat = control_rank(matrix, "flat", share=share)
        rank = math.ceil(share * k - 1e-12)
        assert set(torch.linalg.matrix_rank(flat).flatten().tolist()) == {rank}
        assert np.allclose(effective_rank(flat), rank)
    norm = torch.linalg.matrix_norm(matrix)
    for settings in MODES:
        controlled = control_rank(matrix, **settings)
        same(torch.linalg.matrix_norm(controlled), norm)
        same(control_rank(2 * matrix, **settings), 2 * controlled)
        same(control_rank(matrix.mT, **settings), controlled.mT)


def test_effective_rank_rises_with_the_amount_and_falls_with_the_cut():
    matrix = gaussian(12, 30)
    amounts = [
        float(effective_rank(control_rank(matrix, "interpolate", amount=t)))
        for t in (0.0, 0.25, 0.5, 1.0)
    ]
    assert amounts == sorted(set(amounts))
    cuts = [
        float(effective_rank(control_rank(matrix, "truncate", rank=r))) for r in (1, 2, 5, 10, 12)
    ]
    assert cuts == sorted(set(cuts))
    assert cuts[-1] == pytest.approx(amounts[0])


@pytest.mark.parametrize("match_norm", [False, True])
def test_interpolation_of_a_matrix_of_low_rank_stays_among_its_directions(match_norm: bool):
    matrix = gaussian(9, 3) @ gaussian(3, 12, seed=1)
    s = np.linalg.svd(matrix, compute_uv=False)[:3]
    for t in (0.0, 0.4, 1.0):
        result = control_rank(matrix, "interpolate", amount=t, match_norm=match_norm)
        expected = np.sqrt((1 - t) * s**2 + t * np.mean(s**2))  # of the three that there are
        found = np.linalg.svd(result, compute_uv=False)
        np.testing.assert_allclose(found, [*expected, *[0] * 6], atol=1e-12)


def test_a_share_that_rounding_puts_above_a_whole_number():
    assert math.ceil(0.07 * 100) == 8
    assert int(torch.linalg.matrix_rank(control_rank(gaussian(100, 100), "flat", share=0.07))) == 7
    assert int(torch.linalg.matrix_rank(control_rank(gaussian(128, 150), "flat", share=0.25))) == 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("settings", MODES[1:], ids=lambda settings: settings["mode"])
def test_makes_no_directions(dtype: torch.dtype, settings: dict[str, Any]):
    matrix = torch.zeros(6, 8, dtype=dtype)
    matrix[2, 1], matrix[3, 4] = 2.0, 1.0
    result = control_rank(matrix, **settings)
    assert result.dtype == dtype
    assert bool(((matrix != 0) == (result.abs() > 1e-6)).all())
    zero = torch.zeros(2, 3, 5, dtype=dtype)
    for match_norm in (False, True):
        assert torch.equal(control_rank(zero, **settings, match_norm=match_norm), zero)


def test_what_is_not_finite_stays_so():
    bad = torch.ones(2, 3, 3)
    bad[0, 0, 0] = torch.nan
    for settings in MODES:
        result = control_rank(bad, **settings)
        assert bool(result[0].isnan().any())
        assert bool(result[1].isfinite().all())


def run(optimiser: torch.optim.Optimizer, own: list[nn.Parameter]) -> list[Tensor]:
    for step in range(4):
        for number, parameter in enumerate(own):
            gradient = gaussian(*parameter.shape, seed=10 * step + number, dtype=parameter.dtype)
            parameter.grad = gradient
        optimiser.step()
    return [parameter.detach() for parameter in own]


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(gaussian(*shape, dtype=torch.float32)) for shape in shapes]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_nothing_controlled_is_sgd(momentum: float, weight_decay: float):
    shapes = (4, 6), (6, 2, 3, 3), (5,)
    ours, vectors, theirs = parameters(*shapes[:2]), parameters(shapes[2]), parameters(*shapes)
    settings = {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay}
    others = {"params": vectors, "matrix": False}
    optimiser = RankControlled([{"params": ours}, others], **settings)
    result = run(optimiser, [*ours, *vectors])
    for a, b in zip(result, run(torch.optim.SGD(theirs, **settings), theirs), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("settings", MODES[1:], ids=lambda settings: settings["mode"])
def test_a_step_is_the_controlled_momentum(settings: dict[str, Any]):
    own = parameters((6, 2, 3, 3), (5, 7))
    vector = parameters((4,))
    others = {"params": vector, "matrix": False}
    optimiser = RankControlled([{"params": own}, others], lr=0.1, momentum=0.5, **settings)
    momentum = [torch.zeros_like(p) for p in (*own, *vector)]
    expected = [p.detach().clone() for p in (*own, *vector)]
    for step in range(4):
        for number, buffer in enumerate(momentum):
            seed = 10 * step + number
            buffer.mul_(0.5).add_(gaussian(*buffer.shape, seed=seed, dtype=torch.float32))
            change = buffer
            if buffer.dim() > 1:
                change = control_rank(buffer.flatten(1), **settings).reshape(buffer.shape)
            expected[number] -= 0.1 * change
    for a, b in zip(run(optimiser, [*own, *vector]), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "cut"}, r"mode='cut' must be one of none, truncate, flat, interpolate, polar"),
        ({"mode": "truncate"}, r"rank=None must be an integer >= 1 for mode='truncate'"),
        ({"mode": "truncate", "rank": 0}, r"rank=0 must be an integer >= 1"),
        ({"mode": "flat", "share": 0.0}, r"share=0.0 must be a number in \(0, 1\]"),
        ({"mode": "interpolate", "amount": 1.5}, r"amount=1.5 must be a number in \[0, 1\]"),
        ({"mode": "flat", "share": 0.5, "rank": 2}, r"rank=2 must be None for mode='flat'"),
        ({"mode": "none", "amount": 0.5}, r"amount=0.5 must be None for mode='none'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        control_rank(torch.eye(2), **settings)
    with pytest.raises(ValueError, match=message):
        RankControlled([nn.Linear(2, 2).weight], **settings)
    with pytest.raises(ValueError, match=f"RankControlled with options=.*: {message}"):
        Optimiser(name="RankControlled", options=settings).build(nn.Linear(2, 2))


def test_half_a_rank_is_refused():
    with pytest.raises(ValueError, match=r"rank=1.5 must be an integer >= 1"):
        inspect.unwrap(check_mode)("truncate", rank=1.5, share=None, amount=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lr": -1.0}, "lr=-1.0 must be"), ({"momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)")],
)
def test_rates_out_of_range_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RankControlled([nn.Linear(2, 2).weight], **settings)


def test_vectors_among_matrices_are_listed():
    with pytest.raises(ValueError, match=r"RankControlled acts on real matrices .*bias \(2,\)"):
        RankControlled(nn.Linear(3, 2).named_parameters())


def test_is_refused_in_a_stack_by_name():
    network = MLPConfig(image_size=4, in_channels=1, num_classes=3, hidden=(5,)).build(0)
    for name in ("RankControlled", "Muon"):
        config = TrainingConfig(optimiser=Optimiser(name=name))
        reason = why_not_stacked(network, config, torch.ones(2, 1, 4, 4))
        assert reason.startswith(f"optimiser.name={name!r} does not treat each number by itself")
