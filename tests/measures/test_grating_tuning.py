import numpy as np
import pytest
import torch
from torch import nn

from neurofb.measures import grating_tuning
from neurofb.measures.grating_tuning import grating
from neurofb.measures.orientation import linear_grating_response


def one_filter(kernel, activation=None):
    conv = nn.Conv2d(1, 1, kernel.shape[-1], padding=kernel.shape[-1] // 2, bias=False)
    conv.weight.data = torch.tensor(kernel, dtype=torch.float32)[None, None]
    return nn.Sequential(conv, activation or nn.Identity())


@pytest.mark.parametrize("shape", ["even_gabor", "odd_gabor"])
def test_a_linear_unit_is_a_rectified_cosine(shapes, shape):
    """A half-wave rectified cosine of amplitude A has mean A / π and first harmonic A / 2."""
    tuning = grating_tuning(
        one_filter(shapes[shape]),
        "0",
        input_shape=(1, 25, 25),
        num_orientations=4,
        frequencies=(0.1, 0.17),
        num_phases=64,
    )
    orientations = (0.0, 45.0, 90.0, 135.0)
    amplitude = linear_grating_response(shapes[shape][None], orientations, (0.1, 0.17))
    np.testing.assert_allclose(tuning.response, amplitude / np.pi, atol=2e-3 * amplitude.max())
    np.testing.assert_allclose(tuning.modulation, amplitude / 2, atol=1e-4 * amplitude.max())
    assert float(tuning.modulation_ratio[0]) == pytest.approx(np.pi / 2, abs=0.01)
    assert float(tuning.preferred_orientation[0]) == 90


def test_an_energy_unit_does_not_follow_the_phase(shapes):
    """Summed squares of a quadrature pair: a complex cell, F1 / F0 near 0."""

    class Square(nn.Module):
        def forward(self, value):
            return value**2

    net = nn.Sequential(
        nn.Conv2d(1, 2, 17, padding=8, bias=False), Square(), nn.Conv2d(2, 1, 1, bias=False)
    )
    pair = np.stack([shapes["even_gabor"], shapes["odd_gabor"]])[:, None]
    net[0].weight.data = torch.tensor(pair, dtype=torch.float32)
    net[2].weight.data.fill_(1.0)
    tuning = grating_tuning(net, "2", input_shape=(1, 25, 25))
    assert float(tuning.modulation_ratio[0]) < 0.15
    assert float(tuning.orientation_selectivity[0]) > 0.7


def test_blank_response_is_subtracted(shapes):
    net = one_filter(shapes["even_gabor"])
    shifted = nn.Sequential(nn.Conv2d(1, 1, 17, padding=8))
    shifted[0].weight.data = net[0].weight.data
    shifted[0].bias.data.fill_(1e3)
    tuning = grating_tuning(shifted, "0", input_shape=(1, 25, 25))
    # never rectified: the mean over phases is that of the blank
    assert float(tuning.blank_response[0]) == pytest.approx(1e3)
    assert np.abs(tuning.response).max() < 0.05 * np.abs(tuning.modulation).max()


def test_silent_unit_is_dead_and_nan(shapes):
    net = one_filter(0 * shapes["dog"])
    tuning = grating_tuning(net, "0", input_shape=(1, 25, 25), num_orientations=2)
    assert tuning.status.values.tolist() == ["dead"]
    assert np.isnan(tuning.orientation_selectivity).all()
    assert np.isnan(tuning.modulation_ratio).all()


def test_channels_units_and_state():
    net = nn.Sequential(nn.Dropout(0.9), nn.Conv2d(3, 5, 5, padding=2), nn.ReLU()).train()
    settings = {"input_shape": (3, 9, 9), "num_orientations": 2, "frequencies": (0.2,)}
    whole = grating_tuning(net, "1", **settings)
    part = grating_tuning(net, "1", units=[4, 1], **settings)
    np.testing.assert_allclose(whole.response[[4, 1]], part.response, atol=1e-6)
    assert net.training
    assert part.unit.values.tolist() == [4, 1]


def test_phase_zero_peaks_at_the_centre_pixel():
    waves = grating((2, 8, 9), 30.0, 0.11, torch.tensor([0.0, 0.5]))
    assert waves.shape == (2, 2, 8, 9)
    assert waves[0, 1, 4, 4] == 1
    assert waves[1, 1, 4, 4] == -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_orientations": 5}, "num_orientations=5 must be even"),
        ({"num_orientations": 0}, "num_orientations=0 must be even"),
        ({"frequencies": ()}, r"frequencies=\(\) must lie"),
        ({"frequencies": (0.1, 0.5)}, r"frequencies=\(0.1, 0.5\) must lie in \(0, 0.4\]"),
        ({"num_phases": 2}, "num_phases=2 must be at least 3"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        grating_tuning(one_filter(np.eye(3)), "0", **arguments)
