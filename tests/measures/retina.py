"""A small retina, and receptive fields the slow way."""

import numpy as np
import torch
from torch import nn

IMAGE = 24


class Retina(nn.Module):
    """Small retina and ventral stream with functional activations and a noisy input."""

    def __init__(self, channels=1, size=5):
        super().__init__()
        pad = size // 2
        self.noise = nn.Dropout(0.5)
        self.retina_1 = nn.Conv2d(channels, 6, size, padding=pad)
        self.norm = nn.BatchNorm2d(6)
        self.retina_2 = nn.Conv2d(6, 4, size, padding=pad)
        self.vvs_1 = nn.Conv2d(4, 5, size, padding=pad)
        self.hidden = nn.Linear(5 * (IMAGE // 2) ** 2, 7)
        self.readout = nn.Linear(7, 3)

    def forward(self, images):
        h = torch.relu(self.norm(self.retina_1(self.noise(images))))
        h = torch.relu(self.retina_2(h))
        h = nn.functional.max_pool2d(torch.relu_(self.vvs_1(h)), 2)
        return self.readout(torch.relu(self.hidden(h.flatten(1))))


def naive(network, layer, images, unit, rectified=False):
    """One backward through the whole network for one unit, on full images."""
    seen = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda _, args, output: seen.append(output * 1)
    )
    images = images.clone().requires_grad_(True)
    training = network.training
    network.eval()(images)
    network.train(training)
    handle.remove()
    out = seen[0][:, unit]
    if out.ndim == 3:
        out = out[:, out.shape[1] // 2, out.shape[2] // 2]
    out = out.relu() if rectified else out
    return torch.autograd.grad(out.sum(), images)[0] / len(images)


def centre(maps, size, image=IMAGE):
    first = image // 2 - size // 2
    return maps[..., first : first + size, first : first + size]


def close(one, two, tolerance=1e-5):
    one, two = np.asarray(one), np.asarray(two)
    assert one.shape == two.shape
    assert np.abs(one - two).max() <= tolerance * np.abs(two).max()
