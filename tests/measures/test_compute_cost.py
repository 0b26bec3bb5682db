"""Counted and analytic cost of a step: by hand, against each other, and nothing is disturbed."""

import copy

import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.measures import analytic_cost, compute_cost
from neurofb.networks import SVDConv2d, ViTConfig, factored_layers, factorise

BATCH, IN, HIDDEN, OUT = 12, 8, 10, 6


def mlp():
    return nn.Sequential(
        nn.Linear(IN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, OUT),
    )


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, OUT),
    )


#: rules whose code runs the products of their equations in the cheapest order, and no others
SAME_ORDER = {
    "exact": fb.Exact(),
    "fa": fb.Random(),
    "full kolen_pollack": fb.Random(learning=fb.KolenPollack()),
    "weight_mirror": fb.Random(learning=fb.WeightMirror(num_samples=7, every=2)),
    "usf": fb.SignSymmetric(),
    "fixed": fb.LowRank(rank=2, learning=fb.Fixed()),
    "kolen_pollack": fb.LowRank(rank=2, learning=fb.KolenPollack()),
    "factored": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack()),
    "normative": fb.LowRank(rank=2, learning=fb.Normative()),
    "svd_refresh": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=4)),
    "kernel in p": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack(), spatial_factor="P"),
    "energy": fb.LowRank(rank=2, learning=fb.Fixed(), match_energy=True),
}
DIRECT = {
    "dfa": lambda source: fb.DirectRandom(source=source),
    "dkp": lambda source: fb.DirectRandom(source=source, learning=fb.KolenPollack()),
    "drtp": lambda source: fb.DirectRandom(source=source, signal="target"),
    "dldfa": lambda source: fb.Direct(source=source, rank=2, learning=fb.Fixed()),
    "dldfa kp": lambda source: fb.Direct(source=source, rank=2, learning=fb.KolenPollack()),
}


def batch(network):
    shape = (BATCH, 2, 6, 6) if isinstance(network[0], nn.Conv2d | SVDConv2d) else (BATCH, IN)
    return torch.randn(shape), torch.randint(OUT, (BATCH,))


def products(network, images, labels):
    """Return the FLOPs of products by phase, counted and analytic."""
    counted = compute_cost(network, images, labels).flops.sel(kind="product")
    analytic = analytic_cost(network, images).flops.sum("layer")
    return counted.to_series().to_dict(), analytic.to_series().to_dict()


def test_two_layers_by_hand():
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    images, labels = torch.randn(7, 3), torch.zeros(7, dtype=torch.int64)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    cost = compute_cost(network, images, labels, optimiser)
    assert cost.flops.dims == cost.bytes.dims == ("phase", "kind")
    both_layers = 2 * 7 * (3 * 5 + 5 * 2)
    product = cost.flops.sel(kind="product").to_series().to_dict()
    assert product == {
        "forward": both_layers,
        "error": 2 * 7 * 5 * 2,
        "weight_gradient": both_layers,
        "pathway_learning": 0,
        "svd_refresh": 0,
        "optimiser": 0,
    }
    # Weight gradients: δᵀ h of both layers, 4 bytes a number.
    moved = cost.bytes.sel(phase="weight_gradient", kind="product")
    assert moved == 4 * (7 * 5 + 7 * 3 + 5 * 3 + 7 * 2 + 7 * 5 + 2 * 5)
    # SGD: w += -η g, one FLOP for each of 32 parameters (in two lists of tensors or one by one).
    elementwise = cost.flops.sel(kind="elementwise")
    assert elementwise.sel(phase="optimiser") == 15 + 5 + 10 + 2
    assert cost.bytes.sel(phase="optimiser", kind="elementwise") == 4 * 32 * 3
    # The biases' gradients are sums of δ; the rectifier belongs to the error.
    assert elementwise.sel(phase="weight_gradient") == 7 * 5 + 7 * 2
    assert elementwise.sel(phase="error") >= 7 * 5


@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("name", SAME_ORDER)
def test_counted_is_analytic(make, name):
    network = make()
    images, labels = batch(network)
    later = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][1:]
    spec = SAME_ORDER[name]
    fb.attach(network, dict.fromkeys(later, spec))
    counted, analytic = products(network, images, labels)
    assert counted == analytic
    learns = name in ("weight_mirror", "kolen_pollack", "factored", "normative", "kernel in p")
    assert (counted["pathway_learning"] > 0) == learns
    assert (counted["svd_refresh"] > 0) == (name == "svd_refresh")


@pytest.mark.parametrize("name", DIRECT)
def test_counted_is_analytic_for_direct_pathways(name):
    network = mlp()
    images, labels = batch(network)
    backpropagation, _ = products(network, images, labels)
    fb.attach(network, {"2": DIRECT[name]("4")}, example_input=images)
    counted, analytic = products(network, images, labels)
    assert counted == analytic
    # Past the layer nothing is propagated; the readout's own error still reaches it.
    own = 2 * BATCH * (2 * (OUT + HIDDEN) if "dldfa" in name else OUT * HIDDEN)
    assert counted["error"] == 2 * BATCH * OUT * HIDDEN + own
    for phase in ("forward", "weight_gradient"):
        assert counted[phase] == backpropagation[phase]


def test_a_block_behind_a_direct_pathway_costs_no_more_than_its_inside():
    network = ViTConfig(image_size=8, dim=8, depth=2, heads=2, dropout=0.0, drop_path=0.0).build(0)
    images, labels = torch.randn(3, 3, 8, 8), torch.randint(10, (3,))
    plain = compute_cost(network, images, labels).flops.sel(kind="product")
    fb.attach(network, {"blocks.1": DIRECT["dfa"]("readout")}, example_input=images)
    direct = compute_cost(network, images, labels).flops.sel(kind="product")
    assert direct.sel(phase="weight_gradient") == plain.sel(phase="weight_gradient")
    tokens = 5 * 8
    assert direct.sel(phase="error") == plain.sel(phase="error") + 2 * 3 * 10 * tokens
    # Attention: two products forwards, and counted backwards, inside no layer.
    layers = analytic_cost(network, images).flops.sum("layer")
    attention = 2 * 2 * (2 * 3 * 2 * 5 * 5 * 4)
    assert direct.sel(phase="forward") == layers.sel(phase="forward") + attention


def test_oja_without_normalisation_is_analytic_for_many_units():
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 70))
    fb.attach(network, {"2": fb.LowRank(rank=2, learning=fb.Oja(normalise=False))})
    counted, analytic = products(network, torch.randn(80, 4), torch.randint(70, (80,)))
    assert counted == analytic


def test_refresh_is_divided_by_its_interval():
    costs = {}
    for every in (1, 5):
        network = mlp()
        fb.attach(network, {"2": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=every))})
        cost = compute_cost(network, *batch(network)).sel(phase="svd_refresh")
        costs[every] = cost.flops.sel(kind="product").item()
        assert costs[every] * every == 26 * HIDDEN**3
    assert costs[1] == 5 * costs[5]


def test_weight_gradients_of_plain_layers_of_any_place_are_told_apart():
    """Layers without bias, in a row, of 3-D input, frozen below, as the source of a pathway."""
    network = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.Linear(5, 6, bias=False), nn.Linear(6, 3)
    )

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x).mean(1)

    images, labels = torch.randn(2, 7, 4), torch.tensor([0, 2])
    counted, analytic = products(Mean(), images, labels)
    assert counted == analytic
    assert counted["weight_gradient"] == 2 * 14 * (20 + 30 + 18)
    network[0].weight.requires_grad_(False)
    counted, analytic = products(Mean(), images, labels)
    assert counted == analytic
    assert counted["weight_gradient"] == 2 * 14 * (30 + 18)
    assert counted["error"] == 2 * 14 * 18


def test_nothing_is_disturbed():
    network = nn.Sequential(mlp(), nn.BatchNorm1d(OUT), nn.Dropout(0.5))
    fb.attach(network, {"0.2": fb.LowRank(rank=2)})
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    images, labels = torch.randn(BATCH, IN), torch.randint(OUT, (BATCH,))
    nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()
    before = copy.deepcopy((network.state_dict(), optimiser.state_dict()))
    gradients = copy.deepcopy([p.grad for p in network.parameters()])
    random = torch.get_rng_state()
    first = compute_cost(network, images, labels, optimiser)
    analytic_cost(network, images)
    assert torch.equal(torch.get_rng_state(), random)
    for old, new in zip(before, (network.state_dict(), optimiser.state_dict()), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)
    for old, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, old, rtol=0, atol=0)
    assert fb.fired(network) == {"0.2": 1}
    assert first.identical(compute_cost(network, images, labels, optimiser))


def test_total_is_the_sum_over_phases_of_what_torch_itself_counts():
    from torch.utils.flop_counter import FlopCounterMode

    network = conv()
    network[3] = nn.Conv2d(4, 6, 3, stride=2)  # torch's own formula is wrong for groups
    images, labels = batch(network)
    cost = compute_cost(network, images, labels)
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network(images), labels).backward()
    assert cost.flops.sel(kind="product").sum() == counter.get_total_flops()


def test_wrong_arguments():
    network = mlp()
    with pytest.raises(ValueError, match=r"labels of shape \(2,\) must be one for each of 3"):
        compute_cost(network, torch.randn(3, IN), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one"):
        compute_cost(network, torch.randn(0, IN), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"no nn\.Linear or nn\.Conv2d layer ran"):
        analytic_cost(nn.ReLU(), torch.randn(3, IN))


@pytest.mark.parametrize("unfolding", ["separable", "channel"])
@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("method", ["SVD-BP", "SSA-FA", "SSA-DFA"])
def test_products_of_factored_layers_by_hand(make, method, unfolding):
    """δ U, and the gradients of U and V from it; the error through U and V, or by feedback."""
    network = make()
    if make is conv:
        network[3] = nn.Conv2d(4, 6, 3, stride=2)  # without groups
    factorise(network, 0.5, unfolding=unfolding)
    images, labels = batch(network)
    layers = factored_layers(network)
    names = list(layers)
    specs = {"SSA-FA": fb.SVDSpace(), "SSA-DFA": fb.SVDSpaceDirect(source=names[-1])}
    if method in specs:
        fb.attach(network, dict.fromkeys(names[1:], specs[method]), example_input=images)
    pathways = {name: layer.pathway for name, layer in fb.feedback_layers(network)}
    expected = dict.fromkeys(("forward", "error", "weight_gradient"), 0)
    h = images
    for name, module in network.named_children():
        out = module(h)
        if name in names:
            layer, pathway = layers[name], pathways.get(name)
            (m, n), r = layer.matrix_shape, layer.rank
            rows, middle = BATCH, BATCH
            if isinstance(layer, SVDConv2d):
                rows = out.numel() // out.shape[1]
                middle = layer.geometry.middle(h.shape, r).numel() // r
            by_u, by_v = 2 * rows * r * m, 2 * middle * r * n
            first = name == names[0]
            expected["forward"] += by_u + by_v
            expected["weight_gradient"] += by_u + by_v + by_u * (first or method != "SVD-BP")
            if method == "SSA-DFA":
                q = 0 if pathway is None else len(pathway.get_buffer("B_S"))
                expected["error"] += 2 * BATCH * q * (OUT + h[0].numel())
            else:
                expected["error"] += 0 if first else by_u + by_v
        h = out.detach()
    cost = compute_cost(network, images, labels).flops
    found = cost.sel(kind="product").to_series().to_dict()
    assert {phase: found[phase] for phase in expected} == expected
    assert sum(found.values()) == sum(expected.values())
    assert (cost >= 0).all()
