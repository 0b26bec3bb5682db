import math

import pytest
import torch

from neurofb.networks import SVDLinear
from neurofb.training import RankSchedule
from neurofb.training.rank_cut import cut_layer, strengths
from neurofb.training.rank_schedule import energy_rank, next_rank, strongest

GEOMETRIC = torch.tensor([2.0**-i for i in range(12)])


def ranks(schedule: RankSchedule, strength: torch.Tensor, cuts: int = 8) -> list[int]:
    start, found = len(strength), [len(strength)]
    for cut in range(1, cuts + 1):
        found.append(next_rank(schedule, strength[: found[-1]], start, cut))
    return found


@pytest.mark.parametrize("kind", ["geometric", "linear"])
@pytest.mark.parametrize("energy", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("minimum", [1, 3, 40])
def test_ranks_never_grow_and_stop_at_the_minimum(kind, energy: float, minimum: int):
    schedule = RankSchedule(factor=0.7, minimum=minimum, energy=energy, kind=kind)
    found = ranks(schedule, GEOMETRIC)
    assert found == sorted(found, reverse=True)
    assert min(found) >= min(minimum, 12)
    if minimum == 40:
        assert set(found) == {12}  # a layer below the minimum is left alone


def test_ranks_of_a_schedule_without_veto():
    flat = torch.ones(256)
    assert ranks(RankSchedule(factor=0.6, minimum=32, energy=0.0), flat, 5) == [
        256, 153, 92, 55, 33, 32,
    ]  # fmt: skip
    linear = RankSchedule(factor=0.9, minimum=1, energy=0.0, kind="linear")
    assert ranks(linear, torch.ones(10), 9) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_energy_holds_a_veto():
    # Equal values: a share of 0.9 of the energy needs 0.9 of what is there, at every cut.
    schedule = RankSchedule(factor=0.1, minimum=1, energy=0.9)
    assert ranks(schedule, torch.ones(100), 3) == [100, 90, 81, 73]
    # Σ_{i≤j} 4^-i holds 15/16 with two components.
    assert next_rank(schedule, GEOMETRIC, 12, 5) == 2
    assert energy_rank(GEOMETRIC.flip(0), 0.9) == 2


def test_nothing_is_cut_with_all_the_energy_or_a_factor_of_one():
    assert ranks(RankSchedule(factor=0.5, minimum=1, energy=1.0), GEOMETRIC) == [12] * 9
    with_zeros = torch.cat([GEOMETRIC, torch.zeros(4)])
    assert ranks(RankSchedule(factor=0.1, minimum=1, energy=1.0), with_zeros, 2) == [16, 12, 12]
    assert ranks(RankSchedule(factor=1.0, minimum=1, energy=0.0), GEOMETRIC) == [12] * 9


def test_cuts_come_at_ends_of_epochs_until_a_share_of_the_steps():
    schedule = RankSchedule(until=0.5, every=2)
    due = {s: schedule.num_cuts(s, num_steps=80, steps_per_epoch=10) for s in range(1, 81)}
    assert {s: k for s, k in due.items() if k} == {20: 1, 40: 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 0.0}, r"factor=0.0 must be in \(0, 1\]"),
        ({"energy": 1.5}, r"energy=1.5 must be in \[0, 1\]"),
        ({"until": -0.1}, r"until=-0.1 must be in"),
        ({"minimum": 0}, "minimum=0 must be at least 1"),
        ({"every": 0}, "every=0 must be at least 1"),
    ],
)
def test_what_is_out_of_range_is_named(settings, message: str):
    with pytest.raises(ValueError, match=message):
        RankSchedule(**settings)


def test_the_strongest_stay_in_their_order():
    assert strongest(torch.tensor([1.0, 5.0, 2.0, 5.0]), 3).tolist() == [1, 2, 3]
    assert strongest(torch.ones(5), 2).tolist() == [0, 1]


def trained(name: str, **options: float) -> tuple[SVDLinear, torch.optim.Optimizer, torch.Tensor]:
    torch.manual_seed(0)
    layer = SVDLinear(8, 6, rank=5)
    optimiser = getattr(torch.optim, name)(layer.parameters(), lr=0.01, **options)
    x = torch.randn(10, 8)
    for _ in range(3):
        optimiser.zero_grad()
        layer(x).square().mean().backward()
        optimiser.step()
    return layer, optimiser, x


OPTIMISERS = {
    "AdamW": {"amsgrad": True},
    "SGD": {"momentum": 0.9},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "NAdam": {},
}


@pytest.mark.parametrize(("name", "options"), OPTIMISERS.items())
def test_a_cut_keeps_the_optimisers_memory_of_what_stays(name: str, options):
    layer, optimiser, x = trained(name, **options)
    keep = torch.tensor([1, 4])
    before = {
        (i, key): value.clone()
        for i, p in enumerate(layer.parameters())
        for key, value in optimiser.state[p].items()
    }
    objects = [id(p) for p in layer.parameters()]
    factors = {id(layer.U), id(layer.s), id(layer.V)}
    cut_layer(layer, keep, optimiser)
    assert [id(p) for p in layer.parameters()] == objects
    assert layer.rank == 2
    checked = 0
    for i, p in enumerate(layer.parameters()):
        for key, value in optimiser.state[p].items():
            old = before[i, key]
            if id(p) in factors and old.ndim:
                old, checked = old[..., keep], checked + 1
            assert torch.equal(value, old), key
    assert checked >= 3
    optimiser.zero_grad()
    layer(x).square().mean().backward()
    optimiser.step()  # the next step runs
    assert all(torch.isfinite(p).all() for p in layer.parameters())


def test_what_is_cut_away_had_no_part_in_the_steps_of_what_stays():
    """Two factors with the same gradients afterwards move alike, cut or never there."""
    layer, optimiser, _ = trained("AdamW")
    keep = torch.tensor([0, 3])
    other = SVDLinear(8, 6, rank=2)
    twin = torch.optim.AdamW(other.parameters(), lr=0.01)
    for own, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        cut = own.shape != theirs.shape
        with torch.no_grad():
            theirs.copy_(own[..., keep] if cut else own)
        twin.state[theirs] = {
            key: value[..., keep] if cut and value.ndim else value.clone()
            for key, value in optimiser.state[own].items()
        }
    cut_layer(layer, keep, optimiser)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    for net, opt in ((layer, optimiser), (other, twin)):
        opt.zero_grad()
        net(x).square().mean().backward()
        opt.step()
    for own, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        assert torch.equal(own, theirs)


def test_a_cut_changes_the_output_by_what_it_takes_away():
    layer, optimiser, x = trained("SGD")
    with torch.no_grad():  # orthonormal again, as under retraction
        layer.U.copy_(torch.linalg.qr(layer.U).Q)
        layer.V.copy_(torch.linalg.qr(layer.V).Q)
    weight, out = layer.dense_weight().detach(), layer(x).detach()
    strength = strengths(layer)
    cut_layer(layer, strongest(strength, 3), optimiser)
    lost = strength.sort().values[:2].norm()
    gap = (weight - layer.dense_weight().detach()).norm()
    assert gap.item() == pytest.approx(lost.item(), rel=1e-4)  # Eckart and Young
    assert (layer(x) - out).norm() <= gap * torch.linalg.matrix_norm(x, 2) * (1 + 1e-5)
    assert math.isclose(strengths(layer).norm() ** 2 + lost**2, strength.norm() ** 2, rel_tol=1e-5)


def test_an_optimiser_whose_memory_cannot_be_cut_is_named():
    layer, optimiser, _ = trained("Adafactor")
    with pytest.raises(ValueError, match="optimiser Adafactor keeps 'row_var'"):
        cut_layer(layer, torch.tensor([0]), optimiser)
    assert layer.rank == 5
