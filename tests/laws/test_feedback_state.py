"""What must survive: parameters, modes, precision, optimisers, copies, files, other layers."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neurofb import feedback as fb

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
}


class Net(nn.Module):
    """Convolution in the middle, so that all pathways fit."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Conv2d(2, 4, 3, padding=1)
        self.layer = nn.Conv2d(4, 6, 3, padding=1)
        self.readout = nn.Linear(6, 3)

    def forward(self, x):
        a = torch.relu(self.layer(torch.relu(self.below(x))))
        return self.readout(a.mean((2, 3)))


@pytest.fixture
def network(spec, attached):
    x = torch.randn(5, 2, 6, 6)
    return attached(Net(), spec, x, seed=3), x


def num_learned(spec) -> int:
    """How many matrices each rule teaches, said here a second time on purpose."""
    learning = getattr(spec, "learning", fb.Fixed())
    none, one = (fb.Fixed, fb.SvdRefresh), (fb.KolenPollack, fb.Subspace, fb.WeightMirror)
    return 0 if isinstance(learning, none) else 1 if isinstance(learning, one) else 2


def loss(network, x):
    return distance(network(x))


def distance(y):
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return (y - target).square().mean()


def test_matrices_are_parameters_exactly_if_they_learn(spec, network):
    net, x = network
    parameters = fb.pathway_parameters(net)
    assert len(parameters) == num_learned(spec)
    assert {id(p) for p in parameters} <= {id(p) for p in net.parameters()}
    assert all(not b.requires_grad for b in net.layer.pathway.buffers())
    loss(net, x).backward()
    for p in parameters:
        assert p.grad is not None
        assert p.grad.shape == p.shape
        assert p.grad.isfinite().all()
        assert p.grad.norm() > 0


def test_matrices_receive_their_gradients_through_autograd(spec, network):
    """Hooks on the parameters fire, which is what distributed training stands on."""
    net, x = network
    seen = []
    for p in fb.pathway_parameters(net):
        p.register_hook(lambda grad: seen.append("tensor"))
        p.register_post_accumulate_grad_hook(lambda p: seen.append("accumulated"))
    loss(net, x).backward()
    expected = ["accumulated", "tensor"] * num_learned(spec)
    assert sorted(seen) == sorted(expected)


def test_nothing_rebinds_a_parameter(spec, network):
    net, x = network
    before = {
        name: id(t) for name, t in net.state_dict(keep_vars=True).items() if "extra" not in name
    }
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        loss(net, x).backward()
        optimiser.step()
    net.eval()(x)
    after = {
        name: id(t) for name, t in net.state_dict(keep_vars=True).items() if "extra" not in name
    }
    assert after == before


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_any_optimiser_moves_weights_and_matrices(spec, optimiser, network):
    net, x = network
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    step = OPTIMISERS[optimiser](net.parameters())
    losses = []
    for _ in range(4):
        step.zero_grad()
        value = loss(net, x)
        value.backward()
        step.step()
        losses.append(float(value.detach()))
    assert losses[-1] < losses[0]
    for name, p in net.named_parameters():
        assert not torch.equal(p, before[name]), name


def test_one_optimiser_step_is_the_pseudo_gradient(spec, network):
    net, x = network
    before = [p.detach().clone() for p in fb.pathway_parameters(net)]
    loss(net, x).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    for p, old in zip(fb.pathway_parameters(net), before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * p.grad)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channels_last_and_float64_give_the_same_gradients(spec, memory_format, network):
    net, x = network
    other = copy.deepcopy(net).double().to(memory_format=memory_format)
    loss(net, x).backward()
    loss(other, x.double().contiguous(memory_format=memory_format)).backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert q.grad.dtype == torch.float64
        error = (p.grad - q.grad).norm() / (q.grad.norm() + 1e-12)
        assert error < 2e-4, name


def test_bfloat16_autocast(spec, network):
    net, x = network
    plain, expected = copy.deepcopy(net), copy.deepcopy(net)
    fb.detach(plain)
    with torch.autocast("cpu", torch.bfloat16):
        out, plain_out = net(x), plain(x)
        value = distance(out.float())
    assert out.dtype == plain_out.dtype == torch.bfloat16
    assert torch.equal(out, plain_out)
    value.backward()
    loss(expected, x).backward()
    for (name, p), q in zip(net.named_parameters(), expected.named_parameters(), strict=True):
        assert p.grad.dtype == torch.float32, name
        assert p.grad.isfinite().all(), name
        cosine = torch.cosine_similarity(p.grad.flatten(), q[1].grad.flatten(), 0)
        assert cosine > 0.95, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("autocast", [False, True], ids=["float64", "bfloat16"])
def test_cuda_gives_the_gradients_of_the_cpu(spec, autocast, network):
    net, x = network
    net, x = net.double(), x.double()
    twin = copy.deepcopy(net).cuda()
    if autocast:
        twin.float()
    images = x.to(next(twin.parameters()))
    drawn_anew = getattr(spec, "magnitude", "") == "batch_random" or isinstance(
        getattr(spec, "learning", None), fb.WeightMirror
    )
    fb.present_targets(net, torch.arange(5) % 3)
    fb.present_targets(twin, torch.arange(5, device="cuda") % 3)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        out = twin(images)
    distance(out.to(images.dtype).cpu()).backward()
    loss(net, x).backward()
    assert fb.fired(twin) == fb.fired(net)
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert q.grad.is_cuda
        assert q.grad.isfinite().all()
        if drawn_anew and ("pathway" in name or name.startswith("below")):
            continue  # the same seed gives other numbers on another kind of device
        cosine = torch.cosine_similarity(p.grad.flatten(), q.grad.cpu().double().flatten(), 0)
        assert cosine > (0.95 if autocast else 1 - 1e-6), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_state_goes_from_a_cuda_device_to_the_cpu_and_back(spec, network, attached):
    net, x = network
    twin = copy.deepcopy(net).cuda()
    fb.present_targets(twin, torch.arange(5, device="cuda") % 3)
    distance(twin(x.cuda()).cpu()).backward()
    file = io.BytesIO()
    torch.save(twin.state_dict(), file)
    file.seek(0)
    other = attached(Net(), spec, x, seed=99)
    other.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    assert fb.fired(other) == fb.fired(twin)
    for p, q in zip(other.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q.cpu())


def test_deepcopy_is_independent_and_equal(spec, network):
    net, x = network
    loss(net, x).backward()
    twin = copy.deepcopy(net)
    net.zero_grad()
    twin.zero_grad()
    assert fb.fired(twin) == fb.fired(net)
    loss(net, x).backward()
    assert fb.fired(net)["layer"] == fb.fired(twin)["layer"] + 1
    loss(twin, x).backward()
    assert fb.fired(twin) == fb.fired(net)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert p is not q
        assert torch.equal(p.grad, q.grad)


def test_state_dict_round_trip_through_a_safe_file(spec, network, attached):
    net, x = network
    for _ in range(3):
        loss(net, x).backward()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = attached(Net(), spec, x, seed=99)
    other.load_state_dict(state)
    assert fb.fired(other)["layer"] == 3
    net.zero_grad()
    loss(net, x).backward()
    loss(other, x).backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert torch.equal(p.grad, q.grad), name
    for p, q in zip(net.buffers(), other.buffers(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_is_right_or_refused(spec, reentrant, network):
    net, x = network
    twin = copy.deepcopy(net)

    def forward(net, x):
        a = checkpoint(
            lambda x: torch.relu(net.layer(torch.relu(net.below(x)))), x, use_reentrant=reentrant
        )
        return net.readout(a.mean((2, 3)))

    x = x.requires_grad_()
    if isinstance(spec, fb.Direct | fb.DirectRandom) and reentrant:
        with pytest.raises(ValueError, match="layer 'layer'"):
            distance(forward(net, x)).backward()
        return
    distance(forward(net, x)).backward()
    loss(twin, x).backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    assert fb.fired(net) == fb.fired(twin)


def test_gradients_accumulate(spec, network):
    net, x = network
    if isinstance(spec, fb.LowRank) and isinstance(spec.learning, fb.SvdRefresh):
        net.layer.pathway.fired = 1  # refresh in the second pass, of the same weight
    halves = [copy.deepcopy(net), copy.deepcopy(net)]
    halves[1].layer.pathway.fired += 1  # for rules that draw at every pass
    for part, twin in zip((x[:2], x[2:]), halves, strict=True):
        loss(net, part).backward()
        loss(twin, part).backward()
    if isinstance(spec, fb.LowRank) and isinstance(spec.learning, fb.SvdRefresh):
        assert fb.fired(net)["layer"] == 3
        return
    for p, a, b in zip(net.parameters(), *(h.parameters() for h in halves), strict=True):
        torch.testing.assert_close(p.grad, a.grad + b.grad)


def test_detach_gives_the_plain_network_back(spec, network):
    net, x = network
    weights = [net.layer.weight, net.layer.bias]
    loss(net, x).backward()
    net.zero_grad()
    assert fb.detach(net) is net
    assert type(net.layer) is nn.Conv2d
    assert type(net.readout) is nn.Linear
    assert net.layer.weight is weights[0]
    assert net.layer.bias is weights[1]
    plain = Net()
    plain.load_state_dict(net.state_dict())
    assert vars(net.layer).keys() == vars(plain.layer).keys()
    for n in (net, plain):
        loss(n, x).backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert fb.feedback_layers(net) == []


def test_matrices_depend_on_seed_and_name_only(spec, attached):
    x = torch.randn(2, 2, 6, 6)

    def state(seed, also=None):
        torch.manual_seed(0)
        net = Net()
        torch.manual_seed(seed + 17)  # the global generator has no say
        if also is not None:
            fb.attach(net, also, seed=5)
        attached(net, spec, x, seed=seed)
        return {k: v for k, v in net.layer.pathway.state_dict().items() if "extra" not in k}

    first, again, beside = state(1), state(1), state(1, {"below": fb.LowRank(rank=1)})
    assert first.keys() == again.keys()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert all(torch.equal(first[k], beside[k]) for k in first)
    matrices = [k for k in "BQM" if k in first and first[k].dim() > 0]
    if matrices and getattr(spec, "start", "random") == "random":
        matrix = matrices[0]
        assert not torch.equal(first[matrix], state(2)[matrix])


def test_attach_leaves_the_global_random_state_alone(spec, attached):
    net, x = Net(), torch.randn(2, 2, 6, 6)
    before = torch.get_rng_state()
    attached(net, spec, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_of_equal_shape_get_different_matrices():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    fb.attach(net, {"*": fb.Random()})
    first, second = (layer.pathway.B.flatten() for layer in net)
    assert torch.cosine_similarity(first, second, 0).abs() < 0.9  # not the same up to its scale
