"""The table that says which rule acts on what."""

import pytest
import torch
from torch import nn

from neurofb import feedback as fb


@pytest.fixture
def net():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.Linear(5, 2))
    pathways = {
        "0": fb.LowRank(rank=2, learning=fb.Normative()),
        "2": fb.Direct(source="3", rank=1),
        "3": fb.Random(),
    }
    return fb.attach(net, pathways, example_input=torch.ones(2, 4))


def rows(description):
    return {row.parameter: row for row in description.rows}


def test_rows(net):
    found = rows(fb.describe(net))
    tensors = {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "2.weight",
        "2.bias",
        "3.weight",
        "3.bias",
    }
    matrices = {f"{n}.pathway.{m}" for n, m in (("0", "Q"), ("0", "P"), ("2", "Q"), ("2", "P"))}
    assert found.keys() == tensors | matrices | {"3.pathway.B"}
    assert found["0.weight"].error_leaves_by == "low_rank r=2 [normative]"
    assert found["0.weight"].transport == found["1.weight"].transport == "yes"
    assert found["1.weight"].error_leaves_by == "autograd (BP)"
    assert found["2.weight"].error_leaves_by == "direct r=1 [oja]"
    assert found["2.weight"].source == "3"
    assert found["2.weight"].transport == found["3.weight"].transport == "no"
    assert found["3.weight"].error_leaves_by == "random (FA)"
    assert found["3.pathway.B"].group == "constant"
    assert found["2.pathway.Q"].group == "pathways"
    assert found["2.pathway.Q"].shape == "6×1"
    assert found["2.weight"].group == "weights"
    assert sum(float(row.share.rstrip("%")) for row in found.values()) == pytest.approx(100, abs=1)
    total = 4 * 6 + 6 + 12 + 6 * 5 + 5 + 10 + 2 + (4 * 2 + 2 * 6) + (6 + 2) + 10
    assert found["2.weight"].share == f"{30 / total:.1%}"


def test_counts(net):
    net(torch.ones(3, 4)).sum().backward()
    net(torch.ones(3, 4)).sum().backward()
    found = rows(fb.describe(net))
    assert found["0.weight"].fired == "0"  # nothing asks for the error at the images
    assert found["2.weight"].fired == found["3.pathway.B"].fired == "2"
    assert found["1.weight"].fired == "-"


def test_groups_of_an_optimiser(net):
    matrices = fb.pathway_parameters(net)
    weights = [net[2].weight, net[3].weight]
    net[0].weight.requires_grad_(False)
    groups = [{"params": weights}, {"params": matrices, "name": "feedback"}]
    found = rows(fb.describe(net, torch.optim.SGD(groups, lr=0.1)))
    assert found["2.weight"].group == "0"
    assert found["2.pathway.P"].group == "feedback"
    assert found["2.bias"].group == found["0.weight"].group == found["3.pathway.B"].group == "none"
    assert rows(fb.describe(net))["0.weight"].group == "constant"


def test_a_plain_network_and_the_printed_table():
    plain = fb.describe(nn.Linear(3, 1))
    assert {row.error_leaves_by for row in plain.rows} == {"autograd (BP)"}
    lines = str(plain).splitlines()
    assert (
        lines[0].split()
        == "parameter shape share error leaves by source transport group fired".split()
    )
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split() == [
        "weight",
        "1×3",
        "75.0%",
        "autograd",
        "(BP)",
        "-",
        "yes",
        "weights",
        "-",
    ]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("spec", "transport"),
    [
        (fb.Exact(), "yes"),
        (fb.Random(), "no"),
        (fb.LowRank(rank=1), "no"),
        (fb.LowRank(rank=1, learning=fb.Fixed()), "no"),
        (fb.LowRank(rank=1, learning=fb.FactoredKolenPollack()), "no"),
        (fb.LowRank(rank=1, learning=fb.Normative()), "yes"),
        (fb.LowRank(rank=1, learning=fb.SvdRefresh()), "yes"),
    ],
)
def test_transport_is_said_truly(spec, transport):
    """The rule that says no gives the same errors and gradients whatever the forward weight is."""
    found = []
    for scale in (1.0, -3.0):
        torch.manual_seed(0)
        layer = fb.attach(nn.Linear(4, 3), {"": spec})
        layer.weight.data.mul_(scale)
        h = torch.ones(2, 4, requires_grad=True)
        layer(h).backward(torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]))
        found.append([h.grad, *(p.grad for p in fb.pathway_parameters(layer))])
    same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert same == (transport == "no")
    assert rows(fb.describe(layer))["weight"].transport == transport
