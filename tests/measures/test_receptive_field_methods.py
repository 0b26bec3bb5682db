"""Receptive fields by each method: over data, at one image, by a spike-triggered average."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurofb.measures import receptive_field

RETINA = runpy.run_path(str(Path(__file__).with_name("retina.py")))
IMAGE = RETINA["IMAGE"]
Retina = RETINA["Retina"]
naive = RETINA["naive"]
centre = RETINA["centre"]
close = RETINA["close"]


def test_data_and_data_mean():
    network, data = Retina(), torch.rand(9, 1, IMAGE, IMAGE)
    rf = receptive_field(network, "retina_2", method="data", data=data, batch_size=4)
    at_mean = receptive_field(network, "retina_2", method="data_mean", data=data)
    for unit in range(4):
        full = naive(network, "retina_2", data, unit).sum(0)
        close(rf.receptive_field[unit], centre(full, 9))
        full = naive(network, "retina_2", data.mean(0, keepdim=True), unit)[0]
        close(at_mean.receptive_field[unit], centre(full, 9))


@pytest.mark.parametrize(("layer", "seed"), [("retina_2", 2), ("vvs_1", 0)])
def test_lindsey2019_is_the_literal_recipe(layer, seed):
    torch.manual_seed(seed)
    network = Retina()
    rf = receptive_field(network, layer, method="lindsey2019")
    blank = torch.zeros(1, 1, IMAGE, IMAGE)
    dead = 0
    for unit in rf.unit.values:
        grad = naive(network, layer, blank, unit, rectified=True)[0]
        expected = grad / (grad.square().mean().sqrt() + 1e-5)
        np.testing.assert_allclose(
            rf.receptive_field.sel(unit=unit),
            centre(expected, rf.sizes["y"]),
            atol=1e-4 * max(float(expected.abs().max()), 1e-12),
        )
        dead += not expected.any()
    assert rf.attrs["num_dead"] == dead == int((rf.status == "dead").sum())
    assert 0 < dead < rf.sizes["unit"]


def test_stein_ties_the_spike_triggered_average_to_the_mean_gradient():
    """E[∂z/∂x] = Cov⁻¹ Cov(x, z) for Gaussian x, also behind a rectification."""
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3))
    settings = {"input_shape": (1, 9, 9), "probe_std": 1.0}
    gradient = receptive_field(network, "2", num_probes=20000, batch_size=5000, **settings)
    errors = []
    for num_probes in (1000, 20000):
        average = receptive_field(
            network, "2", method="sta", num_probes=num_probes, batch_size=5000, seed=1, **settings
        )
        difference = average.receptive_field - gradient.receptive_field
        errors.append(float(np.sqrt((difference**2).sum() / (gradient.receptive_field**2).sum())))
    assert errors[1] < 0.03
    assert errors[1] < 0.5 * errors[0]


def test_whitening_undoes_the_correlations_of_the_stimuli():
    network = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2))
    noise = torch.randn(600, 1, 12, 12)
    data = noise + noise.roll(1, 2) + 2 + 0.3 * torch.randn(600, 1, 12, 12)
    settings = {"input_shape": (1, 12, 12), "method": "sta", "data": data}
    exact = network[0].weight.detach()
    close(receptive_field(network, "0", **settings).receptive_field, exact, 1e-4)
    shrunk = receptive_field(network, "0", ridge=1.0, **settings).receptive_field
    assert float((shrunk**2).sum()) < 0.8 * float((exact**2).sum())


def test_few_probes_use_the_known_variance():
    network = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4))
    rf = receptive_field(network, "0", input_shape=(1, 12, 12), method="sta", num_probes=60)
    cosine = np.corrcoef(rf.receptive_field.values.ravel(), network[0].weight.detach().ravel())
    assert cosine[0, 1] > 0.3


def test_an_unknown_method_is_refused():
    from neurofb.measures.receptive_field import _check

    with pytest.raises(ValueError, match="method='magic' must be one of probe, data"):
        _check((1, 9, 9), "magic", 1, 0.3, None, 0.0, 1)
