import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from neurofb.networks import GaussianNoise, RetinaVVS, RetinaVVSConfig, hanut2025, lindsey2019

TINY = RetinaVVSConfig(
    image_size=8, kernel_size=3, retina_width=4, bottleneck=2, vvs_width=4, hidden=5, num_classes=3
)


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def paper() -> RetinaVVS:
    return lindsey2019(bottleneck=4, vvs_layers=3).build(seed=0)


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        ("retina_1", 2_624),
        ("retina_2", 2_592 * 4 + 4),
        ("vvs_1", 2_592 * 4 + 32),
        ("vvs_2", 82_976),
        ("vvs_3", 82_976),
        ("hidden", 33_555_456),
        ("readout", 10_250),
    ],
)
def test_parameter_counts_of_lindsey2019(paper: RetinaVVS, layer: str, count: int):
    assert num_parameters(paper.get_submodule(layer)) == count


@pytest.mark.parametrize("bottleneck", [1, 2])
def test_parameter_counts_without_vvs(bottleneck: int):
    with torch.device("meta"):
        network = RetinaVVS(lindsey2019(bottleneck=bottleneck, vvs_layers=0))
    assert num_parameters(network.hidden) == 1_048_576 * bottleneck + 1024
    assert network.vvs_names == []


def test_hanut2025_adds_a_vvs_layer_dropout_and_torchs_initialisation():
    config = hanut2025(bottleneck=4)
    differing = {
        field.name
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(lindsey2019(bottleneck=4), field.name)
    }
    assert differing == {"vvs_layers", "dropout", "init"}
    assert (config.vvs_layers, config.dropout, config.init) == (3, 0.5, "torch")


@pytest.mark.parametrize("retina_layers", [1, 2, 3])
@pytest.mark.parametrize("vvs_layers", [0, 1, 3])
@pytest.mark.parametrize(("hidden", "pool"), [(0, 1), (5, 2), (5, 4)])
def test_any_number_of_layers(retina_layers: int, vvs_layers: int, hidden: int, pool: int):
    config = dataclasses.replace(
        TINY, retina_layers=retina_layers, vvs_layers=vvs_layers, hidden=hidden, pool=pool
    )
    network = config.build(seed=0)
    bottleneck = network.get_submodule(f"retina_{retina_layers}")
    assert isinstance(bottleneck, nn.Conv2d)
    assert bottleneck.out_channels == 2
    assert hasattr(network, "hidden") == bool(hidden)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert network.features(torch.zeros(1, 1, 11, 13)).shape[-2:] == (11, 13)


def test_forward_is_the_written_out_network():
    network = dataclasses.replace(TINY, in_channels=3).build(seed=1).eval()
    images = torch.randn(2, 3, 8, 8)
    h = images
    for layer in (network.retina_1, network.retina_2, network.vvs_1, network.vvs_2):
        h = functional.conv2d(h, layer.weight, layer.bias, padding=1).clamp(min=0)
    h = h.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).permute(0, 2, 3, 1).flatten(1)
    h = (h @ network.hidden.weight.T + network.hidden.bias).clamp(min=0)
    expected = h @ network.readout.weight.T + network.readout.bias
    torch.testing.assert_close(network(images), expected)


def test_build_follows_from_the_seed_alone():
    state = torch.get_rng_state()
    one, other, third = TINY.build(seed=3), TINY.build(seed=3), TINY.build(seed=4)
    assert torch.equal(state, torch.get_rng_state())
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert not torch.equal(one.retina_1.weight, third.retina_1.weight)


def test_init_scale_acts_on_retina_weights_only():
    full = dataclasses.replace(TINY, init_scale=1.0).build(seed=0).state_dict()
    half = dataclasses.replace(TINY, init_scale=0.5).build(seed=0).state_dict()
    for name, value in full.items():
        factor = 0.5 if name in ("retina_1.weight", "retina_2.weight") else 1.0
        assert torch.equal(half[name], factor * value)


def test_initial_weights_have_the_stated_spread():
    config = dataclasses.replace(TINY, retina_width=64, init_scale=1.0)
    glorot = config.build(seed=0).retina_2
    bound = (6 / (64 * 9 + 2 * 9)) ** 0.5
    assert glorot.weight.abs().max() <= bound
    assert glorot.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not glorot.bias.any()
    default = dataclasses.replace(config, init="torch").build(seed=0).retina_2
    bound = (64 * 9) ** -0.5
    assert default.weight.abs().max() <= bound
    assert default.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert default.bias.abs().min() > 0


def test_noise_acts_in_training_mode_only():
    noise = GaussianNoise(std=0.3)
    h = torch.zeros(100_000)
    assert noise(h).std().item() == pytest.approx(0.3, rel=0.02)
    torch.manual_seed(5)
    first = noise(h)
    torch.manual_seed(5)
    assert torch.equal(noise(h), first)
    assert noise.eval()(h) is h
    assert GaussianNoise(std=0.0)(h) is h
    with pytest.raises(ValueError, match=r"std=-1.0 must be a finite number >= 0"):
        GaussianNoise(std=-1.0)


def test_noise_after_the_bottleneck_is_not_rectified_away():
    config = dataclasses.replace(TINY, input_noise=0.0, bottleneck_noise=0.5, vvs_layers=0)
    network = config.build(seed=0)
    images = torch.randn(1, 1, 8, 8)
    assert (network.features(images) < 0).any()
    assert (network.eval().features(images) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, r"kernel_size=4 must be odd"),
        ({"kernel_size": 0}, r"kernel_size=0 must be an integer >= 1"),
        ({"retina_layers": 0}, r"retina_layers=0 must be an integer >= 1"),
        ({"vvs_layers": -1}, r"vvs_layers=-1 must be an integer >= 0"),
        ({"bottleneck": 0}, r"bottleneck=0 must be an integer >= 1"),
        ({"pool": 3}, r"pool=3 must divide image_size=8"),
        ({"input_noise": -0.1}, r"input_noise=-0.1 must be a finite number >= 0"),
        ({"bottleneck_noise": float("nan")}, r"bottleneck_noise=nan must be a finite number"),
        ({"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
        ({"init_scale": 0.0}, r"init_scale=0.0 must be a finite number > 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **settings)


RANGES = {
    "image_size": st.integers(0, 7),
    "in_channels": st.integers(0, 3),
    "num_classes": st.integers(0, 3),
    "kernel_size": st.integers(-1, 5),
    "retina_width": st.integers(0, 3),
    "retina_layers": st.integers(0, 3),
    "bottleneck": st.integers(0, 3),
    "vvs_layers": st.integers(-1, 2),
    "vvs_width": st.integers(0, 3),
    "input_noise": st.floats(),
    "pool": st.integers(0, 4),
    "hidden": st.integers(-1, 3),
    "dropout": st.floats(-0.5, 1.5),
    "init": st.sampled_from(["glorot", "torch"]),
    "init_scale": st.floats(-1, 2),
}


@settings(max_examples=80)
@given(drawn=st.fixed_dictionaries(RANGES), few=st.sets(st.sampled_from([*RANGES]), max_size=4))
def test_settings_are_refused_or_make_a_network_that_works(drawn: dict, few: set[str]):
    chosen = {name: value for name, value in drawn.items() if name in few}
    try:
        config = dataclasses.replace(TINY, **chosen)
    except ValueError as error:
        problem = str(error)
    else:
        problem = ""
        network = config.build(seed=0)
        images = torch.zeros(1, config.in_channels, config.image_size, config.image_size)
        assert network(images).shape == (1, config.num_classes)
    assert not problem or any(problem.startswith(f"{name}=") for name in [*chosen, "pool"])
