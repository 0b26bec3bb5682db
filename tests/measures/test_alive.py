import numpy as np
import pytest
import torch
from torch import nn

from neurofb.measures import response_to_images


def network():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 25, 2))
    net[0].weight.data = torch.tensor([1.0, 1.0, -1.0]).reshape(3, 1, 1, 1)
    net[0].bias.data = torch.tensor([0.0, -1.5, -5.0])
    return net


def test_fractions_at_the_centre_and_anywhere():
    images = torch.zeros(4, 1, 5, 5)
    images[0, 0, 2, 2] = 1.0
    images[1, 0, 2, 2] = 2.0
    images[2, 0, 0, 4] = 2.0
    answer = response_to_images(network(), "0", images, batch_size=3)
    assert answer.active_fraction.values.tolist() == [0.5, 0.25, 0.0]
    assert answer.active_anywhere.values.tolist() == [0.75, 0.5, 0.0]
    assert answer.alive.values.tolist() == [True, True, False]
    np.testing.assert_allclose(answer.mean_activity, [0.75, 0.125, 0])


def test_alive_means_that_the_rectified_unit_has_a_gradient():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    net[2].bias.data = torch.linspace(-0.6, 0.6, 12)
    images = torch.rand(6, 1, 7, 7, requires_grad=True)
    answer = response_to_images(net, "2", images.detach())
    centre = net(images)[:, :, 1, 1].relu()
    for unit in range(12):
        grad = torch.autograd.grad(centre[:, unit].sum(), images, retain_graph=True)[0]
        assert bool(answer.alive[unit]) == bool(grad.any())
    assert 0 < int(answer.alive.sum()) < 12


def test_linear_layer_and_choice_of_units():
    answer = response_to_images(network(), "3", torch.rand(5, 1, 5, 5), units=[1])
    assert answer.unit.values.tolist() == [1]
    np.testing.assert_array_equal(answer.active_fraction, answer.active_anywhere)


def test_errors():
    with pytest.raises(ValueError, match=r"images of shape \(0, 1, 5, 5\) must be"):
        response_to_images(network(), "0", torch.zeros(0, 1, 5, 5))
    with pytest.raises(ValueError, match="batch_size=0"):
        response_to_images(network(), "0", torch.zeros(1, 1, 5, 5), batch_size=0)
    with pytest.raises(ValueError, match="layer='9' is not in the network"):
        response_to_images(network(), "9", torch.zeros(1, 1, 5, 5))
