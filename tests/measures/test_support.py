import pytest
import torch
from torch import nn
from torch.nn import functional

from neurofb.measures.support import Support, SupportTracker


def support_of(network, size=41):
    image = torch.zeros(1, 1, size, size)
    with torch.no_grad(), SupportTracker(image) as tracker:
        output = network(image)
    return tracker.of(output)


def measured_support(network, size=41):
    """Extent of the gradient of the centre position, all weights positive."""
    image = torch.rand(1, 1, size, size, requires_grad=True)
    output = network(image)
    y, x = output.shape[2] // 2, output.shape[3] // 2
    grad = torch.autograd.grad(output[0, 0, y, x], image)[0][0, 0].nonzero()
    return (y, x), grad.amin(0).tolist(), grad.amax(0).tolist()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, image):
        first = functional.leaky_relu(self.one(image), inplace=True)
        return first + self.two(image) * 0.5


NETWORKS = {
    "padding": nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.ReLU(), nn.Conv2d(1, 1, 5)),
    "stride": nn.Sequential(nn.Conv2d(1, 1, 4, stride=2, padding=1), nn.Conv2d(1, 1, (3, 2))),
    "dilation": nn.Sequential(nn.Conv2d(1, 1, 3, dilation=(2, 3)), nn.AvgPool2d(2)),
    "pool": nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d(2)),
    "same": nn.Sequential(nn.Conv2d(1, 1, 4, padding="same"), nn.GELU()),
    "residual": Residual(),
    "norm": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Identity()),
    "pad": nn.Sequential(nn.ZeroPad2d((1, 2, 3, 4)), nn.Conv2d(1, 1, 7)),
    "reflect": nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", NETWORKS)
def test_support_is_that_of_the_gradient(name):
    network = NETWORKS[name].eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    support = support_of(network)
    position, low, high = measured_support(network)
    for axis in (0, 1):
        first = support.start[axis] + position[axis] * support.jump[axis]
        assert (first, first + support.size[axis] - 1) == (low[axis], high[axis])
    assert support.size_free


def test_max_pool():
    network = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(3, 1, 1))
    assert support_of(network) == Support(start=(-4, -4), size=(10, 10), jump=(2, 2))


def test_retina_and_ventral_stream():
    convs = [nn.Conv2d(1, 1, 9, padding=4) for _ in range(4)]
    sizes = [support_of(nn.Sequential(*convs[: i + 1])).size for i in range(4)]
    assert sizes == [(9, 9), (17, 17), (25, 25), (33, 33)]


class WholeImage(nn.Module):
    def forward(self, image):
        return image - image.mean((2, 3), keepdim=True)


class FixedSize(nn.Module):
    def forward(self, image):
        return image * torch.linspace(0, 1, image.shape[-1])


@pytest.mark.parametrize(
    "network", [nn.GroupNorm(1, 1), nn.Flatten(), nn.AdaptiveAvgPool2d(3), WholeImage()]
)
def test_what_is_not_followed_counts_as_the_whole_image(network):
    assert support_of(network) is None


class PartWritten(nn.Module):
    """Writes into a view: the first rows no longer depend on the image."""

    def forward(self, image):
        image = image * 1
        image[:, :, :3] = 0
        return image * 2


class Buffered(nn.Module):
    """Writes the image into a tensor that is not followed."""

    def forward(self, image):
        buffer = torch.zeros_like(image)
        buffer[:, :, 2:] = image[:, :, :-2]
        return image + buffer


@pytest.mark.parametrize("network", [PartWritten(), Buffered()])
def test_writing_into_parts_is_not_followed(network):
    assert support_of(network) is None


def test_writing_in_place_is_followed():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(inplace=True), nn.Hardswish(inplace=True))
    assert support_of(network).size == (3, 3)


def test_a_map_of_fixed_size_is_not_size_free():
    support = support_of(nn.Sequential(FixedSize(), nn.Conv2d(1, 1, 3)))
    assert support.size == (3, 3)
    assert not support.size_free


def test_per_channel_factors_are_size_free():
    assert support_of(nn.Sequential(nn.Conv2d(1, 2, 1), nn.PReLU(2))).size_free
