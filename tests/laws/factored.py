"""Small factored networks, their batches and gradients."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from neurofb.networks import SVDLinear, factored_layers, factorise


def mlp(rank=0.5, sizes=(12, 9, 8, 4), activation=nn.Tanh):
    """A factored MLP in float64; layers "0", "2", "4"."""
    layers = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), activation()]
    return factorise(nn.Sequential(*layers[:-1]).double(), rank)


def convolutional(unfolding="separable", inplace=False):
    """A factored network of convolutions with batch norm; layers "0", "3", "6", "10"."""
    return factorise(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace),
            nn.Conv2d(5, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)),
            nn.ReLU(inplace),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 4, 1),
            nn.ReLU(inplace),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ).double(),
        0.6,
        unfolding=unfolding,
    )


def batch(network, num=6):
    first = next(iter(factored_layers(network).values()))
    shape = (first.in_features,) if isinstance(first, SVDLinear) else (2, 8, 7)
    return torch.randn(num, *shape, dtype=torch.float64), torch.arange(num) % 3


def gradients(network, x, y):
    network.zero_grad()
    functional.cross_entropy(network(x), y).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def close(found, expected, tolerance=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= tolerance * value.norm(), name
