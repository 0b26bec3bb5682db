"""Receptive fields are those of one backward pass per unit, on any network."""

import copy
import runpy
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from neurofb.feedback import LowRank, Random, attach
from neurofb.measures import gaussian_probes, receptive_field

RETINA = runpy.run_path(str(Path(__file__).with_name("retina.py")))
IMAGE = RETINA["IMAGE"]
Retina = RETINA["Retina"]
naive = RETINA["naive"]
centre = RETINA["centre"]
close = RETINA["close"]


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize(("layer", "size"), [("retina_1", 5), ("retina_2", 9), ("vvs_1", 13)])
def test_same_maps_as_one_backward_per_unit_on_full_images(channels, layer, size):
    network = Retina(channels)
    rf = receptive_field(
        network, layer, input_shape=(channels, IMAGE, IMAGE), num_probes=20, batch_size=8, seed=3
    )
    probes = torch.cat(list(gaussian_probes(20, (channels, size, size), 0.3, 3, 20)))
    images = torch.randn(20, channels, IMAGE, IMAGE)
    centre(images, size).copy_(probes)
    assert rf.attrs["canvas"] == f"{size} x {size}"
    for unit in rf.unit.values:
        full = naive(network, layer, images, unit).sum(0)
        close(rf.receptive_field.sel(unit=unit), centre(full, size))
        assert full.abs().sum() == pytest.approx(float(centre(full, size).abs().sum()))


def test_two_linear_convolutions_are_the_convolution_of_their_kernels():
    network = nn.Sequential(nn.Conv2d(1, 3, 5, padding=2), nn.Conv2d(3, 2, 7, padding=3))
    rf = receptive_field(network, "1", input_shape=(1, 16, 16), num_probes=2)
    first, second = (conv.weight.detach().numpy() for conv in network)
    for unit in (0, 1):
        expected = sum(convolve2d(second[unit, c], first[c, 0]) for c in range(3))
        close(rf.receptive_field[unit, 0], expected)
    assert rf.y.values.tolist() == list(range(-5, 6))


@pytest.mark.parametrize("layer", ["retina_2", "vvs_1", "hidden", "readout"])
def test_a_map_does_not_depend_on_the_other_units(layer):
    network = Retina()
    together = receptive_field(network, layer, num_probes=6)
    alone = receptive_field(network, layer, num_probes=6, units=[2, 0])
    np.testing.assert_array_equal(
        together.receptive_field.values[[2, 0]], alone.receptive_field.values
    )
    assert alone.unit.values.tolist() == [2, 0]


def test_chunks_do_not_matter_and_the_seed_does():
    network = Retina()
    maps = [
        receptive_field(network, "vvs_1", num_probes=10, batch_size=size, seed=seed)
        for size, seed in ((10, 0), (3, 0), (10, 1))
    ]
    close(maps[0].receptive_field, maps[1].receptive_field, 1e-6)
    assert np.abs(maps[0].receptive_field - maps[2].receptive_field).max() > 1e-4


def test_linear_layer_sees_the_whole_image():
    network = Retina()
    rf = receptive_field(network, "hidden", num_probes=5)
    probes = torch.cat(list(gaussian_probes(5, (1, IMAGE, IMAGE), 0.3, 0, 5)))
    for unit in (0, 6):
        close(rf.receptive_field[unit], naive(network, "hidden", probes, unit).sum(0))
    assert rf.y.values[[0, -1]].tolist() == [-11.5, 11.5]


def test_module_that_is_not_affine_and_a_skip_connection():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(1, 1, 3, padding=1), nn.Softplus()
            self.out = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, image):
            return self.act(self.out(torch.tanh(self.conv(image)) + image**2))

    network = Skip()
    for layer in ("act", "out"):
        rf = receptive_field(network, layer, input_shape=(1, 11, 11), num_probes=4)
        probes = torch.cat(list(gaussian_probes(4, (1, 5, 5), 0.3, 0, 4)))
        images = torch.zeros(4, 1, 11, 11)
        centre(images, 5, 11).copy_(probes)
        for unit in (0, 1):
            full = naive(network, layer, images, unit).sum(0)
            close(rf.receptive_field[unit], centre(full, 5, 11))


def test_shared_first_layer_is_not_taken_for_a_stem():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, image):
            return self.out(torch.tanh(self.conv(torch.tanh(self.conv(image)))))

    network = Twice()
    rf = receptive_field(network, "out", input_shape=(1, 13, 13), num_probes=3)
    probes = torch.cat(list(gaussian_probes(3, (1, 7, 7), 0.3, 0, 3)))
    images = torch.zeros(3, 1, 13, 13)
    centre(images, 7, 13).copy_(probes)
    close(rf.receptive_field[0], centre(naive(network, "out", images, 0).sum(0), 7, 13))


def test_stride_and_even_support():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1)
    )
    rf = receptive_field(network, "2", input_shape=(1, 20, 20), num_probes=6, seed=1)
    assert rf.sizes["y"] == 8
    assert rf.y.values[[0, -1]].tolist() == [-3.5, 3.5]
    # the canvas starts at a multiple of the stride, one pixel before the support
    assert rf.attrs["canvas"] == "9 x 9"
    probes = torch.cat(list(gaussian_probes(6, (1, 9, 9), 0.3, 1, 6)))
    images = torch.zeros(6, 1, 20, 20)
    images[:, :, 6:15, 6:15] = probes
    full = naive(network, "2", images, 1).sum(0)
    close(rf.receptive_field[1], full[:, 7:15, 7:15])


@pytest.mark.parametrize("method", ["probe", "sta"])
def test_a_support_larger_than_the_image_is_mapped_whole_on_a_larger_canvas(method):
    network = nn.Sequential(nn.Conv2d(1, 2, 9, padding=4), nn.Conv2d(2, 1, 9, padding=4))
    rf = receptive_field(network, "1", input_shape=(1, 12, 12), method=method, num_probes=400)
    assert rf.attrs["canvas"] == "17 x 17"
    assert rf.attrs["image_size"] == "12 x 12"
    assert rf.sizes["y"] == 17
    assert rf.status.values.tolist() == ["ok"]


def test_a_support_larger_than_data_images_is_truncated():
    network = nn.Sequential(nn.Conv2d(1, 2, 9, padding=4), nn.Conv2d(2, 1, 9, padding=4))
    data = torch.rand(3, 1, 12, 12)
    rf = receptive_field(network, "1", input_shape=(1, 12, 12), method="data", data=data)
    assert rf.status.values.tolist() == ["truncated"]
    # the unit at (6, 6) reaches rows -2 … 14; rows 0 … 11 are there
    assert rf.y.values.tolist() == list(range(-6, 6))
    close(rf.receptive_field[0], naive(network, "1", data, 0).sum(0))


def test_a_network_of_fixed_size_is_mapped_on_full_images():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.rand(1, 1, 15, 15))
            self.conv, self.out = nn.Conv2d(1, 2, 5, padding=2), nn.Conv2d(2, 1, 5, padding=2)

        def forward(self, image):
            return self.out(torch.relu(self.conv(image * self.place)))

    network = Positions()
    rf = receptive_field(network, "out", input_shape=(1, 15, 15), num_probes=4)
    assert rf.attrs["canvas"] == "15 x 15"
    assert rf.sizes["y"] == 9
    probes = torch.cat(list(gaussian_probes(4, (1, 15, 15), 0.3, 0, 4)))
    full = naive(network, "out", probes, 0).sum(0)
    close(rf.receptive_field[0], full[:, 3:12, 3:12])


def test_dead_units_are_kept():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    network[2].weight.data[1] = 0
    rf = receptive_field(network, "2", input_shape=(1, 9, 9), num_probes=3)
    assert rf.status.values.tolist() == ["ok", "dead"]
    assert rf.attrs["num_dead"] == 1


def test_a_layer_behind_only_dead_units_is_dead():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3), nn.Flatten())
    network[0].bias.data.fill_(-100.0)
    rf = receptive_field(network, "2", input_shape=(1, 9, 9), num_probes=3)
    assert rf.status.values.tolist() == ["dead"]


def test_the_network_is_left_as_it_was():
    network = Retina()
    network.norm.eval()
    network(torch.rand(4, 1, IMAGE, IMAGE)).sum().backward()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    grads = [parameter.grad.clone() for parameter in network.parameters()]
    hooks = [len(module._forward_hooks) for module in network.modules()]
    padding = [conv.padding for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    state = torch.get_rng_state()
    for method in ("probe", "data", "sta", "lindsey2019"):
        data = torch.linspace(0, 1, 200 * IMAGE**2).reshape(200, 1, IMAGE, IMAGE).cos()
        receptive_field(network, "retina_2", method=method, data=data, num_probes=3, ridge=0.1)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in network.modules()]
    assert hooks == [len(module._forward_hooks) for module in network.modules()]
    assert padding == [m.padding for m in network.modules() if isinstance(m, nn.Conv2d)]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        assert torch.equal(parameter.grad, grad)


@pytest.mark.parametrize(("layer", "size"), [("vvs_1", 9), ("retina_1", 1)])
def test_borders_are_not_computed_where_a_chain_allows_it(layer, size):
    network, sizes = Retina(), []
    network.retina_1.register_forward_hook(lambda _, args, output: sizes.append(output.shape[-1]))
    receptive_field(network, layer, num_probes=2)
    # 13 pixels behind vvs_1, less the 4 of the first kernel
    assert min(sizes) == size


def test_modes_and_hooks_are_restored_after_an_error():
    network = Retina()
    with pytest.raises(ValueError, match="layer='nothing' is not in the network"):
        receptive_field(network, "nothing")
    with pytest.raises(ValueError, match="does not fit the network"):
        receptive_field(network, "retina_2", input_shape=(3, 24, 24))
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_attached_pathways_do_not_change_a_receptive_field():
    network = Retina()
    plain = receptive_field(network, "vvs_1", num_probes=4)
    attach(network, {"retina_2": LowRank(rank=1), "retina_1": Random(), "vvs_1": Random()})
    attached = receptive_field(network, "vvs_1", num_probes=4)
    np.testing.assert_array_equal(plain.receptive_field, attached.receptive_field)


class LiveBytes(TorchDispatchMode):
    """Peak of the bytes held by the tensors made under the mode."""

    def __init__(self):
        super().__init__()
        self.sizes, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        for value in answer if isinstance(answer, tuple | list) else [answer]:
            if isinstance(value, torch.Tensor) and not value._is_view():
                key = id(value)
                self.sizes[key] = value.numel() * value.element_size()
                weakref.finalize(value, self.sizes.pop, key, None)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return answer


@pytest.mark.parametrize("method", ["probe", "sta"])
def test_memory_is_flat_over_probes(method):
    network, peaks = Retina(), []
    for num_probes in (100, 1000):
        with LiveBytes() as live:
            receptive_field(
                network, "retina_2", method=method, num_probes=num_probes, batch_size=16
            )
        peaks.append(live.peak)
    assert peaks[0] > 16 * 6 * 81 * 4  # the counter counts
    assert peaks[1] <= 1.05 * peaks[0]


def test_a_network_without_parameters():
    rf = receptive_field(
        nn.Sequential(nn.AvgPool2d(2), nn.ReLU()), "0", input_shape=(1, 8, 8), num_probes=2
    )
    np.testing.assert_allclose(rf.receptive_field, np.full((1, 1, 2, 2), 0.25))


def test_double_precision_is_kept():
    network = Retina().double()
    assert receptive_field(network, "retina_2", num_probes=2).receptive_field.dtype == np.float64


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.once, self.twice, self.never = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, image):
        image = self.twice(self.twice(self.once(image)))
        return self.attention(*[image.flatten(2)[..., :4]] * 3)[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("never", "layer='never' is not reached in forward, must be once; layers that fired: once"),
        ("twice", "layer='twice' is called 2 times in forward, .*: once, twice"),
        ("no", "layer='no' is not in the network; layers: once, twice, never"),
        ("", "layer='' is not in the network"),
        ("attention", "layer='attention' returns tuple, not one tensor"),
    ],
)
def test_layer_errors(layer, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(Odd(), layer, input_shape=(1, 6, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"units=\[\] must name at least one unit"),
        ({"units": [1, 1]}, r"units=\[1, 1\] must name at least one unit, each once"),
        ({"units": [4]}, r"units=\[4\] must lie in 0 … 3"),
        ({"units": [-1]}, r"units=\[-1\] must lie in 0 … 3"),
        ({"input_shape": (24, 24)}, r"input_shape=\(24, 24\) must be three positive numbers"),
        ({"input_shape": (1, 0, 24)}, r"input_shape=\(1, 0, 24\) must be"),
        ({"num_probes": 0}, "num_probes=0 must be at least 1"),
        ({"probe_std": 0.0}, "probe_std=0.0 must be positive"),
        ({"probe_std": float("nan")}, "probe_std=nan must be positive"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"ridge": -1.0}, "ridge=-1.0 must be at least 0"),
        ({"method": "data"}, "method='data' needs data"),
        ({"method": "data", "data": torch.rand(2, 1, 5, 5)}, r"data of shape \(2, 1, 5, 5\)"),
        ({"method": "data", "data": torch.rand(0, 1, 24, 24)}, r"data of shape \(0, 1, 24, 24\)"),
        ({"method": "sta", "data": torch.rand(9, 1, 24, 24)}, "9 images are too few for 81 pixels"),
        ({"method": "sta", "data": torch.ones(99, 1, 24, 24)}, "do not span all pixels"),
    ],
)
def test_argument_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(Retina(), "retina_2", **arguments)


def test_fields_that_are_not_finite_are_refused():
    network = Retina()
    network.retina_1.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="layer='retina_2' has receptive fields that are not fini"):
        receptive_field(network, "retina_2")
