"""What is refused, and the words: every message names the layer; the network stays as it was."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from neurofb import feedback as fb


class Net(nn.Module):
    """Two convolutions, attention, a linear head; one layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv_2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Linear(6, 6)
        self.readout = nn.Linear(6, 3)

    def forward(self, x):
        a = torch.relu(self.norm(self.conv_1(x)))
        tokens = torch.relu(self.conv_2(a)).flatten(2).mT
        tokens, _ = self.attention(tokens, tokens, tokens)
        return self.readout(self.drop(tokens.mean(1)))


X = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
LOW = fb.LowRank(rank=1)

REFUSED = {
    "unknown_name": ({"conv_3": LOW}, "layer name 'conv_3' matches no layer .*conv_1, conv_2"),
    "empty_pattern": ({"vvs_*": LOW}, r"pattern 'vvs_\*' matches no layer .*conv_1"),
    "twice": (
        {"conv_1": LOW, "conv_*": LOW},
        r"layer 'conv_1' is matched twice, the second time by 'conv_\*'",
    ),
    "unsupported": ({"norm": LOW}, "layer 'norm' is a BatchNorm2d; only a plain Linear or Conv2d"),
    "root": ({"": LOW}, "layer '' is a Net; only a plain"),
    "attention": ({"attention": LOW}, "layer 'attention' is a MultiheadAttention .*fused"),
    "out_proj": ({"attention.out_proj": LOW}, "layer 'attention.out_proj' is a .*fused"),
    "never_runs": ({"unused": LOW}, "layer 'unused' never runs in the forward pass"),
    "rank_linear": (
        {"readout": fb.LowRank(rank=4)},
        "layer 'readout': rank=4 is larger than the layer allows, 1 to 3",
    ),
    "rank_conv_q": ({"conv_2": fb.LowRank(rank=4)}, "layer 'conv_2': rank=4 .* 1 to 3"),
    "rank_conv_p": (
        {"conv_2": fb.LowRank(rank=3, spatial_factor="P")},
        "layer 'conv_2': rank=3 .* 1 to 2",
    ),
    "rank_direct": (
        {"conv_2": fb.Direct(source="readout", rank=4)},
        "layer 'conv_2': rank=4 .* 1 to 3",
    ),
    "source_unknown": (
        {"conv_2": fb.Direct(source="nowhere", rank=1)},
        "layer 'conv_2': source='nowhere' does not run .* modules that do: conv_1, norm, conv_2",
    ),
    "source_never_runs": (
        {"conv_2": fb.Direct(source="unused", rank=1)},
        "layer 'conv_2': source='unused' does not run",
    ),
    "source_upstream": (
        {"conv_2": fb.Direct(source="conv_1", rank=1)},
        "layer 'conv_2': source='conv_1' is not downstream",
    ),
    "source_itself": (
        {"conv_2": fb.Direct(source="conv_2", rank=1)},
        "layer 'conv_2': source='conv_2' is not downstream",
    ),
    "norm_cannot_carry": (
        {"norm": fb.LowRank(rank=1)},
        "layer 'norm' is a BatchNorm2d; only a plain",
    ),
    "density": (
        {"conv_1": fb.DirectRandom(source="readout"), "conv_?": fb.DirectRandom()},
        "layer 'conv_1' is matched twice",
    ),
    "map_size": (
        {"conv_1": fb.Direct(source="conv_2", rank=1)},
        r"layer 'conv_1': the map of source 'conv_2' is \(4, 4\) but must be \(8, 8\)",
    ),
    "good_then_bad": ({"conv_1": LOW, "readout": LOW, "x": LOW}, "layer name 'x'"),
}


def fingerprint(net: nn.Module) -> list[object]:
    """Everything that attach could have left behind."""
    return [
        (name, type(module), module.training, sorted(vars(module)), len(module._forward_hooks))
        for name, module in net.named_modules()
    ] + [(name, id(t), t.clone().tolist()) for name, t in net.state_dict(keep_vars=True).items()]


@pytest.mark.parametrize(("pathways", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name_and_the_network_is_unchanged(pathways, message):
    net = Net().train()
    net.norm.eval()
    before = fingerprint(net)
    with pytest.raises(ValueError, match=message):
        fb.attach(net, pathways, example_input=X)
    assert fingerprint(net) == before
    fb.attach(net, {"conv_*": LOW}, example_input=X)  # and it can still be attached


def test_success_leaves_modes_and_running_statistics(monkeypatch):
    net = Net().train()
    net.drop.eval()
    state = copy.deepcopy(net.state_dict())
    fb.attach(net, {"conv_2": LOW}, example_input=X)
    assert net.training
    assert not net.drop.training
    for name, value in state.items():
        assert torch.equal(net.state_dict()[name], value)


@pytest.mark.parametrize("make", [fb.LowRank, lambda **k: fb.Direct(source="readout", **k)])
@pytest.mark.parametrize("rank", [0, -3])
def test_rank_below_one(make, rank):
    with pytest.raises(ValueError, match=f"rank={rank} must be at least 1"):
        make(rank=rank)


def test_rank_is_clipped_only_if_asked():
    net = Net()
    fb.attach(net, {"readout": fb.LowRank(rank=50, clip_rank=True)})
    assert net.readout.pathway.Q.shape == (6, 3)
    wide = fb.Direct(source="readout", rank=50, clip_rank=True)
    fb.attach(net, {"conv_2": wide}, example_input=X)
    assert net.conv_2.pathway.P.shape == (3, 3)


@pytest.mark.parametrize(("setting", "message"), [(0, "every=0"), (-1, "every=-1")])
def test_refresh_interval(setting, message):
    with pytest.raises(ValueError, match=message):
        fb.SvdRefresh(every=setting)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_norm_limit(limit):
    with pytest.raises(ValueError, match="norm_limit="):
        fb.FactoredKolenPollack(norm_limit=limit)


def test_direct_needs_an_example():
    with pytest.raises(ValueError, match="layer 'conv_2': a direct pathway needs example_input="):
        fb.attach(Net(), {"conv_2": fb.Direct(source="readout", rank=1)})


def test_example_that_does_not_run():
    net = Net()
    before = fingerprint(net)
    with pytest.raises(ValueError, match=r"example_input of shape \(2, 3, 8, 8\) does not run"):
        fb.attach(net, {"conv_1": LOW}, example_input=torch.zeros(2, 3, 8, 8))
    assert fingerprint(net) == before


def test_attached_already():
    net = fb.attach(Net(), {"conv_1": LOW})
    with pytest.raises(ValueError, match="layer 'conv_1' carries a pathway already; detach"):
        fb.attach(net, {"conv_1": LOW})


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own
@pytest.mark.parametrize(
    "padding", [{"padding": 1, "padding_mode": "reflect"}, {"padding": "same"}]
)
def test_direct_from_a_map_needs_plain_padding(padding):
    kernel = 3 if "padding_mode" in padding else 2
    net = nn.Sequential(nn.Conv2d(1, 2, kernel, **padding), nn.Conv2d(2, 3, 1))
    with pytest.raises(ValueError, match=r"layer '0': .* needs samples and padding with zeros"):
        fb.attach(net, {"0": fb.Direct(source="1", rank=1)}, example_input=X)
    flat = nn.Sequential(net[0], nn.Flatten(), nn.LazyLinear(3))
    flat(X)
    fb.attach(flat, {"0": fb.Direct(source="2", rank=1)}, example_input=X)  # units: no matter


def test_direct_needs_a_batch_dimension():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    direct = {"0": fb.Direct(source="1", rank=1)}
    with pytest.raises(ValueError, match=r"its input \(3,\) and .* equally many samples"):
        fb.attach(net, direct, example_input=torch.zeros(3))


def test_direct_needs_equally_many_samples():
    net = nn.Sequential(nn.Linear(3, 4), nn.Flatten(0, 1), nn.Linear(4, 2))
    direct = {"0": fb.Direct(source="2", rank=1)}
    with pytest.raises(ValueError, match=r"layer '0': .*equally many samples"):
        fb.attach(net, direct, example_input=torch.zeros(2, 5, 3))


def test_direct_refuses_other_sizes_than_it_was_attached_for():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    fb.attach(net, {"0": fb.Direct(source="3", rank=1)}, example_input=X)
    larger = torch.zeros(2, 1, 9, 9, requires_grad=True)
    with pytest.raises(ValueError, match=r"layer '0': 81 inputs and 2 units .* for 64 and 2"):
        net(larger).sum().backward()


PARAMETRIZED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("norm", PARAMETRIZED)
def test_parametrized_weights_are_refused(norm):
    net = nn.Sequential(PARAMETRIZED[norm](nn.Linear(3, 3)), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="layer '0' is a ParametrizedLinear; only a plain"):
        fb.attach(net, {"0": LOW})
    with pytest.raises(ValueError, match=r"layer name '0.weight' matches no layer"):
        fb.attach(net, {"0.weight": LOW})
    fb.attach(net, {"1": LOW})
    net(torch.ones(2, 3)).sum().backward()
    assert fb.fired(net) == {"1": 1}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_computed_by_hooks_are_refused(norm):
    net = nn.Sequential(norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="layer '0': its weight is not a parameter"):
        fb.attach(net, {"0": LOW})


def test_subclasses_are_refused():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="layer '0' is a Scaled; only a plain"):
        fb.attach(nn.Sequential(Scaled(3, 2)), {"0": LOW})


def test_lazy_layers_are_refused_until_they_have_a_shape():
    net = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match=re.escape("layer '0' is a LazyLinear; only a plain")):
        fb.attach(net, {"0": LOW})
    x = torch.ones(2, 5)
    fb.attach(net, {"0": LOW}, example_input=x)
    assert net[0].pathway.Q.shape == (5, 1)


@pytest.mark.parametrize(
    "spec", [fb.Random(), fb.SignSymmetric(), fb.LowRank(rank=1, start="svd")], ids=str
)
def test_feedback_of_the_size_of_a_weight_of_zeros_is_refused(spec):
    """It would stay zero for good, and nothing below would ever learn."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.zeros_(net[1].weight)
    with pytest.raises(ValueError, match="layer '1': its weight is zero everywhere"):
        fb.attach(net, {"1": spec})
    fb.attach(net, {"1": fb.LowRank(rank=1)})  # has a size of its own
