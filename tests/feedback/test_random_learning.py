"""Matrices of full rank that learn: Kolen-Pollack and the weight mirror."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb

KP, MIRROR = fb.KolenPollack(), fb.WeightMirror(num_samples=100)

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (3, 6)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, (2, 1), (1, 2), (1, 2), groups=2), (2, 4, 7, 8)),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[request.param]
    return make().double(), torch.randn(shape, dtype=torch.float64, requires_grad=True)


def angle(a: Tensor, b: Tensor) -> float:
    cosine = torch.cosine_similarity(a.detach().flatten(), b.detach().flatten(), 0)
    return float(torch.rad2deg(torch.acos(cosine)))


def test_kolen_pollack_learns_by_the_weights_own_gradient_in_memory_of_its_own(layer_and_input):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=KP)})
    for _ in range(2):
        layer(h).square().sum().backward()
        assert torch.equal(layer.pathway.B.grad, layer.weight.grad)
        storages = [t.grad.untyped_storage().data_ptr() for t in (layer.pathway.B, layer.weight)]
        assert storages[0] != storages[1]
    layer.weight.grad.zero_()
    assert layer.pathway.B.grad.norm() > 0


def test_kolen_pollack_learns_where_the_weight_does_not(layer_and_input):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=KP)})
    frozen = copy.deepcopy(layer)
    frozen.weight.requires_grad_(False)
    for net in (layer, frozen):
        net(h).square().sum().backward()
    assert frozen.weight.grad is None
    torch.testing.assert_close(frozen.pathway.B.grad, layer.weight.grad, rtol=1e-12, atol=1e-12)


def mirror_gradients(layer: nn.Module, h: Tensor, passes: int) -> Tensor:
    """Return B's pseudo-gradient in each pass."""
    found = []
    for _ in range(passes):
        layer.pathway.B.grad = None
        layer(h).sum().backward()
        found.append(layer.pathway.B.grad)
    return torch.stack(found)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_mirror_expects_the_weight(layer_and_input, decay):
    """The mean over passes is λ B − W, within its standard error at every tap of every group."""
    layer, h = layer_and_input
    spec = fb.Random(learning=fb.WeightMirror(num_samples=100, decay=decay))
    fb.attach(layer, {"": spec}, seed=5)
    gradients = mirror_gradients(layer, h, 100)
    expected = decay * layer.pathway.B.detach() - layer.weight.detach()
    error = gradients.std(0) / 100**0.5
    z = (gradients.mean(0) - expected) / error
    assert z.abs().max() < 5
    assert (expected / error).abs().max() > 20  # the test can see W


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mirror_turns_b_to_a_weight_at_rest(layer_and_input, seed):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=MIRROR)}, seed=seed)
    before = angle(layer.pathway.B, layer.weight)
    for _ in range(200):
        gradient = mirror_gradients(layer, h, 1)[0]
        layer.pathway.B.data.sub_(0.05 * gradient)
    assert before > 45
    assert angle(layer.pathway.B, layer.weight) < 10
    ratio = float((layer.pathway.B.norm() / layer.weight.norm()).detach())
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_mirror_follows_a_weight_that_learns(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    fb.attach(net, {"2": fb.Random(learning=MIRROR)}, seed=seed)
    weight, b = net[2].weight, net[2].pathway.B
    start, first = angle(b, weight), weight.detach().clone()
    others = [p for p in net.parameters() if p is not b]
    optimiser = torch.optim.SGD([{"params": others, "lr": 0.2}, {"params": [b], "lr": 0.05}])
    x, target = torch.randn(20, 4), torch.randn(20, 6)
    for _ in range(200):
        optimiser.zero_grad()
        (net(x) - target).square().mean().backward()
        optimiser.step()
    assert angle(first, weight) > 10
    assert angle(b, weight) < 10 < 45 < start


def test_mirror_phases_come_every_n_passes_and_zeros_between(layer_and_input):
    layer, h = layer_and_input
    spec = fb.Random(learning=fb.WeightMirror(num_samples=3, every=3))
    fb.attach(layer, {"": spec})
    gradients = mirror_gradients(layer, h, 7)
    assert [bool(g.norm() > 0) for g in gradients] == [True, False, False, True, False, False, True]
    assert not torch.equal(gradients[0], gradients[3])


def test_mirror_goes_on_after_a_restart_bit_for_bit(layer_and_input):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=MIRROR)}, seed=1)
    mirror_gradients(layer, h, 2)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    going_on = mirror_gradients(layer, h, 3)
    file.seek(0)
    other = copy.deepcopy(layer)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.manual_seed(99)
    assert torch.equal(mirror_gradients(other, h, 3), going_on)


def test_mirror_leaves_bias_input_and_the_global_random_state_out(layer_and_input):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=MIRROR)})
    twin = copy.deepcopy(layer)
    twin.bias.data.add_(10)
    state = torch.get_rng_state()
    a = mirror_gradients(layer, h, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a, mirror_gradients(twin, 3 * h.detach().requires_grad_(), 1))


def test_a_checkpoint_without_a_seed_still_loads():
    layer = fb.attach(nn.Linear(3, 2), {"": fb.Random()}, seed=4)
    seed = layer.pathway.seed
    layer.pathway.set_extra_state({"fired": 7})
    assert (layer.pathway.fired, layer.pathway.seed) == (7, seed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fb.WeightMirror(num_samples=0), "num_samples=0 must be at least 1"),
        (lambda: fb.WeightMirror(every=0), "every=0 must be at least 1"),
        (lambda: fb.WeightMirror(decay=-0.1), "decay=-0.1 must be at least 0"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("spec", "learning", "message"),
    [
        (fb.Random(), fb.Oja(), r"learning=Oja\(...\) .*: Fixed, KolenPollack, WeightMirror"),
        (fb.LowRank(rank=1), MIRROR, r"learning=WeightMirror\(...\) .* Subspace"),
    ],
)
def test_a_rule_for_other_matrices_is_refused(spec, learning, message):
    wrong = copy.copy(spec)
    object.__setattr__(wrong, "learning", learning)  # past the type checks of the test session
    with pytest.raises(ValueError, match=message):
        wrong.__post_init__()


def test_kolen_pollack_never_reads_the_weight(layer_and_input):
    layer, h = layer_and_input
    fb.attach(layer, {"": fb.Random(learning=KP)})
    other = copy.deepcopy(layer)
    other.weight.data.normal_()
    found = []
    for net in (layer, other):
        out = net(h)
        h.grad = None
        out.backward(torch.ones_like(out))
        found.append((h.grad, net.pathway.B.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
