"""Alignment: the network is left as it was, and every pathway and layer has its row."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.measures import alignment
from neurofb.networks.noise import GaussianNoise

PATHWAYS = {
    "exact": fb.Exact(),
    "random": fb.Random(),
    "kolen_pollack": fb.Random(learning=fb.KolenPollack()),
    "weight_mirror": fb.Random(learning=fb.WeightMirror(num_samples=8)),
    "uniform_sign": fb.SignSymmetric(),
    "batch_random_sign": fb.SignSymmetric(magnitude="batch_random"),
    "oja": fb.LowRank(rank=2),
    "svd_refresh": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=2)),
    "factored": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack()),
    "kernel_in_p": fb.LowRank(rank=2, spatial_factor="P"),
    "direct": fb.Direct(source="readout", rank=2),
    "dfa": fb.DirectRandom(source="readout"),
    "drtp": fb.DirectRandom(source="readout", signal="target"),
}
OF_MATRIX = ("weight_angle", "matrix_norm_ratio", "relative_distance")
OF_PATHWAY = ("delta_angle", "error_norm_ratio", *OF_MATRIX)
OF_FACTORS = ("captured_energy", "orthonormality_drift")

every_pathway = pytest.mark.parametrize("spec", PATHWAYS.values(), ids=PATHWAYS)


class OwnNoise(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, h):
        return h + 0.1 * torch.randn(h.shape, generator=self.generator)


class Net(nn.Module):
    """Everything that a pass changes or draws: running statistics, masks, noise, u of W/σ."""

    def __init__(self):
        super().__init__()
        self.readout = nn.Linear(8, 4)
        self.never_runs = nn.Linear(2, 2)
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.noise = nn.Sequential(GaussianNoise(0.2), nn.Dropout(0.4), OwnNoise())
        self.hidden = nn.Linear(6 * 16, 8)
        self.scaled = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))

    def forward(self, x):
        h = functional.relu(self.norm(self.stem(x)), inplace=True)
        h = self.noise(torch.relu(self.middle(h))).flatten(1)
        return self.readout(torch.tanh(self.scaled(torch.relu(self.hidden(h)))))


@pytest.fixture
def images():
    return torch.randn(12, 2, 4, 4)


@pytest.fixture
def classes():
    return torch.arange(12) % 4


def attached(spec, images):
    torch.manual_seed(1)
    return fb.attach(Net(), {"middle": spec, "hidden": spec}, example_input=images)


def everything(network):
    """The state, counts, modes, and gradients, by value."""
    state = {name: copy.deepcopy(value) for name, value in network.state_dict().items()}
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}
    own = network.noise[2].generator.get_state()
    return {
        **state,
        **{f"{name}.grad": grad for name, grad in grads.items()},
        **{f"{name}.training": module.training for name, module in network.named_modules()},
        "generator": own,
        "random": torch.get_rng_state(),
    }


def assert_identical(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name


def train(network, images, classes, steps, look_before=None):
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(steps):
        if step == look_before:
            alignment(network, images[:7], classes[:7])
        optimiser.zero_grad()
        fb.present_targets(network, classes)
        functional.cross_entropy(network(images), classes).backward()
        optimiser.step()
    return network


@every_pathway
def test_the_network_is_left_as_it_was(spec, images, classes):
    network = train(attached(spec, images), images, classes, 1)
    network.norm.eval()
    before = everything(network)
    alignment(network, images, classes, batch_size=5)
    assert_identical(everything(network), before)
    assert any(value is not None for name, value in before.items() if name.endswith(".grad"))


@every_pathway
def test_training_goes_on_as_if_nothing_had_been_measured(spec, images, classes):
    ends = []
    for look_before in (None, 2):
        torch.manual_seed(7)
        ends.append(everything(train(attached(spec, images), images, classes, 4, look_before)))
    assert_identical(*ends)


def test_same_numbers_without_grad_mode_and_in_any_mode(images, classes):
    network = attached(fb.Random(), images)
    expected = alignment(network, images, classes)
    with torch.no_grad():
        assert alignment(network.eval(), images, classes).identical(expected)
    with torch.inference_mode():
        assert alignment(network, images.clone(), classes).identical(expected)
    assert not network.training


def test_rows_are_the_maps_that_run_in_the_order_of_the_pass(images, classes):
    answer = alignment(Net(), images, classes)
    names = ["stem", "middle", "hidden", "scaled", "readout"]
    assert answer["layer"].values.tolist() == names
    for name, variable in answer.variables.items():
        assert {"units", "long_name"} <= set(variable.attrs), name
        assert variable.dims == ("layer",)


def test_without_pathways_gradients_are_exact_and_the_rest_is_nan(images, classes):
    answer = alignment(Net(), images, classes).drop_sel(layer="scaled")
    assert (answer.gradient_cosine > 1 - 1e-12).all()
    assert (answer.gradient_norm_ratio == 1).all()
    assert (answer.effective_rank >= 1).all()
    for name in (*OF_PATHWAY, *OF_FACTORS):
        assert answer[name].isnull().all(), name


def test_masks_and_noise_are_the_same_in_both_passes(images, classes):
    answer = alignment(attached(fb.Exact(), images), images, classes, batch_size=4)
    answer = answer.drop_sel(layer="scaled")
    np.testing.assert_allclose(answer.gradient_cosine, 1, rtol=1e-9)
    pathways = answer.sel(layer=["middle", "hidden"])
    np.testing.assert_allclose(pathways.delta_angle, 0, atol=1e-3)
    np.testing.assert_allclose(pathways.error_norm_ratio, 1, rtol=1e-6)
    assert (pathways.weight_angle < 1e-5).all()
    assert (pathways.relative_distance == 0).all()


@every_pathway
def test_what_is_known_of_every_pathway(spec, images, classes):
    answer = alignment(attached(spec, images), images, classes)
    carriers = answer.sel(layer=["middle", "hidden"])
    assert answer.gradient_cosine.sel(layer="readout") == pytest.approx(1)
    assert np.isfinite(carriers[["delta_angle", "error_norm_ratio"]].to_dataarray()).all()
    direct = isinstance(spec, fb.Direct | fb.DirectRandom)
    for name in OF_MATRIX:
        assert carriers[name].isnull().all() == direct, name
    low_rank = isinstance(spec, fb.Direct | fb.LowRank)
    for name in OF_FACTORS:
        assert carriers[name].notnull().all() == low_rank, name
    bare = answer.sel(layer=["stem", "scaled", "readout"])
    assert bare[[*OF_PATHWAY, *OF_FACTORS]].to_dataarray().isnull().all()
    if not isinstance(spec, fb.Exact):
        assert answer.gradient_cosine.sel(layer="stem") < 0.999


def test_autocast_of_the_caller_is_used(images, classes):
    network = attached(fb.Random(), images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = alignment(network, images, classes)
    fine = alignment(network, images, classes)
    angles = [answer.delta_angle.sel(layer="hidden") for answer in (rough, fine)]
    assert angles[0] == pytest.approx(float(angles[1]), abs=3)
    assert angles[0] != float(angles[1])


def test_what_is_refused(images, classes):
    network, unchecked = Net(), getattr(alignment, "__wrapped__", alignment)
    with pytest.raises(ValueError, match="not 12 images and 11 labels"):
        unchecked(network, images, classes[:11])
    with pytest.raises(ValueError, match="not 0 images and 0 labels"):
        alignment(network, images[:0], classes[:0])
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        alignment(network, images, classes, batch_size=0)
    network.kept = network.stem(images)
    with pytest.raises(ValueError, match="network of class Net cannot be copied"):
        alignment(network, images, classes)
