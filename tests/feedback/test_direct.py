"""Direct feedback: sources, passes that overlap or break off, losses that go another way."""

import pytest
import torch
from torch import nn

from neurofb import feedback as fb


class Net(nn.Module):
    """Retina-like: two maps of equal size, a penultimate layer, a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.target = nn.Conv2d(4, 3, 3, padding=1)
        self.vvs = nn.Conv2d(3, 5, 3, padding=1)
        self.hidden = nn.Linear(5 * 16, 6)
        self.readout = nn.Linear(6, 2)

    def forward(self, x):
        self.h = torch.relu(self.first(x))
        a = torch.relu(self.target(self.h))
        self.map = self.vvs(a)
        self.penultimate = self.hidden(torch.relu(self.map).flatten(1))
        self.out = self.readout(torch.relu(self.penultimate))
        return self.out


@pytest.fixture
def x():
    return torch.randn(3, 1, 4, 4, dtype=torch.float64)


def direct(source="readout", x=None, **settings) -> Net:
    settings = {"rank": 2, "learning": fb.Fixed(), **settings}
    spec = fb.Direct(source=source, **settings)
    return fb.attach(Net().double(), {"target": spec}, example_input=x)


def formula(net: Net, e: torch.Tensor) -> torch.Tensor:
    """Q P e, reshaped to the layer's input."""
    q, p = net.target.pathway.Q.detach(), net.target.pathway.P.detach()
    if q.dim() == 2:
        return (e.flatten(1) @ (q @ p).T).reshape(net.h.shape)
    kernel = torch.einsum("orab,rixy->oiaxby", p, q).flatten(2, 3).flatten(3)
    assert kernel.shape[2:] == (3, 3)
    return torch.nn.functional.conv_transpose2d(e, kernel, padding=1)


@pytest.mark.parametrize(
    ("source", "attribute"), [("readout", "out"), ("hidden", "penultimate"), ("vvs", "map")]
)
@pytest.mark.parametrize("side", ["Q", "P"])
def test_formula(source, attribute, side, x):
    net = direct(source, x, spatial_factor=side)
    loss = net(x).square().sum()
    g, e = torch.autograd.grad(loss, [net.h, getattr(net, attribute)])
    assert e.norm() > 0
    torch.testing.assert_close(g, formula(net, e))


def test_full_rank_of_the_source_is_a_dense_map(x):
    """DFA: at rank n_source, Q P is of rank n_source and P loses nothing of e."""
    net = direct("readout", x, rank=2)
    q, p = net.target.pathway.Q, net.target.pathway.P
    assert torch.linalg.matrix_rank(q @ p) == 2
    torch.testing.assert_close(p.T @ p, torch.eye(2, dtype=torch.float64))
    g = torch.autograd.grad(net(x).square().sum(), net.h)[0]
    assert torch.linalg.matrix_rank(g.flatten(1)) == 2


def gradient(net, x):
    net.zero_grad()
    net(x).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def test_two_forward_passes_then_two_backward_passes_in_any_order(x):
    net = direct("readout", x, learning=fb.Oja())
    other = torch.randn_like(x)
    expected = [gradient(net, x), gradient(net, other)]
    for order in ((0, 1), (1, 0)):
        losses = [net(x).square().sum(), net(other).square().sum()]
        for i in order:
            net.zero_grad()
            losses[i].backward()
            for p, g in zip(net.parameters(), expected[i], strict=True):
                assert torch.equal(p.grad, g)


def test_a_sum_of_two_passes_and_a_retained_graph(x):
    net = direct("readout", x, learning=fb.Oja())
    other = torch.randn_like(x)
    expected = [a + b for a, b in zip(gradient(net, x), gradient(net, other), strict=True)]
    net.zero_grad()
    (net(x).square().sum() + net(other).square().sum()).backward()
    for p, g in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g)
    net.zero_grad()
    loss = net(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    twice = [p.grad.clone() for p in net.parameters()]
    for found, g in zip(twice, gradient(net, x), strict=True):
        torch.testing.assert_close(found, 2 * g)


def test_passes_without_gradient_or_exact_in_between(x):
    net = direct("readout", x)
    expected = gradient(net, x)
    net.zero_grad()
    loss = net(x).square().sum()
    with torch.no_grad():
        net(x)
    with torch.inference_mode():
        net(x)
    with fb.exact_backward(net):
        net(x).sum().backward()
    net.zero_grad()
    loss.backward()
    for p, g in zip(net.parameters(), expected, strict=True):
        assert torch.equal(p.grad, g)


@pytest.mark.parametrize("graph_is_kept", [False, True])
def test_a_pass_that_broke_off_does_no_harm(graph_is_kept, x):
    net = direct("readout", x)
    expected = gradient(net, x)
    kept = []

    def stop(module, inputs):
        if graph_is_kept:
            kept.append(inputs)  # as the traceback that a notebook keeps
        raise KeyboardInterrupt

    for _ in range(3):
        handle = net.vvs.register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            net(x)
        handle.remove()
    for found, g in zip(gradient(net, x), expected, strict=True):
        assert torch.equal(found, g)


def test_nothing_is_kept_after_a_pass(x):
    net = direct("readout", x)
    for _ in range(5):
        net(x).sum().backward()
    assert net.target.pathway.waiting == []


def test_a_loss_that_goes_past_the_source_teaches_nothing_below(x):
    net = direct("readout", x)
    net(x)
    net.penultimate.sum().backward()
    assert net.first.weight.grad is None
    assert net.target.weight.grad.norm() > 0
    assert fb.fired(net) == {"target": 0}


def test_a_loss_on_both_uses_the_sources_error_only(x):
    net = direct("readout", x)
    out = net(x)
    loss = out.square().sum() + net.penultimate.sum()
    g, e = torch.autograd.grad(loss, [net.h, net.out])
    torch.testing.assert_close(g, formula(net, e))


def test_several_receivers_share_a_source_and_a_source_may_have_a_pathway(x):
    net = Net().double()
    pathways = {
        "target": fb.Direct(source="readout", rank=2, learning=fb.Fixed()),
        "vvs": fb.Direct(source="readout", rank=1, learning=fb.Fixed()),
        "readout": fb.LowRank(rank=1, start="svd", learning=fb.Fixed()),
    }
    fb.attach(net, pathways, example_input=x)
    loss = net(x).square().sum()
    net.h.retain_grad()
    net.out.retain_grad()
    loss.backward()
    torch.testing.assert_close(net.h.grad, formula(net, net.out.grad))
    assert fb.fired(net) == {"target": 1, "vvs": 1, "readout": 1}


def test_a_source_attached_before_or_again(x):
    net = fb.attach(Net().double(), {"readout": fb.Random()})
    fb.attach(net, {"target": fb.Direct(source="readout", rank=1)}, example_input=x)
    assert [layer.pathway.rule for _, layer in fb.feedback_layers(net)] == [
        "direct r=1 [oja]",
        "random (FA)",
    ]
    net(x).sum().backward()
    assert fb.fired(net) == {"target": 1, "readout": 1}


def test_a_source_needs_no_pathway_and_detach_gives_it_back(x):
    net = direct("hidden", x)
    assert [name for name, _ in fb.feedback_layers(net)] == ["target"]
    fb.attach(net, {"hidden": fb.Random()})  # a source may get a pathway later, and stays one
    net.zero_grad()
    loss = net(x).square().sum()
    net.h.retain_grad()
    net.penultimate.retain_grad()
    loss.backward()
    torch.testing.assert_close(net.h.grad, formula(net, net.penultimate.grad))
    assert fb.fired(net) == {"target": 1, "hidden": 1}
    fb.detach(net)
    assert type(net.hidden) is nn.Linear
    assert type(net.target) is nn.Conv2d
    assert vars(net.hidden).keys() == vars(Net().hidden).keys()


SIGNALS = {
    "error": lambda e, labels: e,
    "sign": lambda e, labels: e.sign() / len(e),
    "target": lambda e, labels: nn.functional.one_hot(labels, 2).to(e) / len(e),
}


@pytest.mark.parametrize("density", [1.0, 0.5])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_dense_formula_and_direct_kolen_pollack(signal, learns, density, x):
    learning = fb.KolenPollack() if learns else fb.Fixed()
    spec = fb.DirectRandom(signal=signal, density=density, learning=learning)
    net = fb.attach(Net().double(), {"target": spec}, example_input=x)
    labels = torch.tensor([1, 0, 1])
    fb.present_targets(net, labels)
    loss = nn.functional.cross_entropy(net(x), labels)
    net.h.retain_grad()
    net.out.retain_grad()
    loss.backward()
    matrix = net.target.pathway.B
    sent = SIGNALS[signal](net.out.grad, labels)
    torch.testing.assert_close(net.h.grad.flatten(1), sent @ matrix.detach())
    assert (matrix.detach() == 0).any() == (density < 1)
    if learns:
        expected = sent.T @ net.h.detach().flatten(1)
        if density < 1:
            expected = expected * (matrix.detach() != 0)
        torch.testing.assert_close(matrix.grad, expected)
    else:
        assert not matrix.requires_grad


def test_from_a_map_the_dense_kernel_is_a_convolutions(x):
    spec = fb.DirectRandom(source="vvs", learning=fb.KolenPollack())
    net = fb.attach(Net().double(), {"target": spec}, example_input=x)
    loss = net(x).square().sum()
    net.h.retain_grad()
    net.map.retain_grad()
    loss.backward()
    kernel = net.target.pathway.B
    assert kernel.shape == (5, 4, 3, 3)
    expected = nn.functional.conv_transpose2d(net.map.grad, kernel.detach(), padding=1)
    torch.testing.assert_close(net.h.grad, expected)


def test_classes_must_be_presented_and_fit(x):
    net = fb.attach(Net().double(), {"target": fb.DirectRandom(signal="target")}, example_input=x)
    with pytest.raises(ValueError, match=r"layer 'target': .*call\s.*present_targets"):
        net(x).sum().backward()
    fb.present_targets(net, torch.tensor([0, 1, 1]))
    net(x).sum().backward()
    with pytest.raises(ValueError, match="its pathway needs the classes"):
        net(x).sum().backward()  # once presented, once used
    fb.present_targets(net, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"classes of shape \(2,\) were presented for"):
        net(x).sum().backward()
    with pytest.raises(ValueError, match="must be one integer a sample"):
        fb.present_targets(net, torch.tensor([0.5, 1.0]))


@pytest.mark.parametrize("density", [0.0, 1.5])
def test_density_is_checked(density):
    with pytest.raises(ValueError, match=r"density=.* must be above 0 and at most 1"):
        fb.DirectRandom(density=density)


def test_training_with_an_error_from_below_the_targets_precision(x):
    """Autocast: source and layer run in bfloat16, matrices stay float32."""
    net = Net()
    fb.attach(net, {"target": fb.Direct(source="hidden", rank=2)}, example_input=x.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(x.float()).float().square().sum()
    loss.backward()
    assert net.first.weight.grad.norm() > 0
    assert net.target.pathway.Q.dtype == net.target.pathway.Q.grad.dtype == torch.float32
