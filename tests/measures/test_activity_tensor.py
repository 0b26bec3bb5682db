"""Activity as a tensor: known responses of one filter, trials with noise of their own."""

import numpy as np
import pytest
import torch

from neurofb.measures import grating_activity, grating_tuning

SMALL = {"input_shape": (1, 15, 15), "num_orientations": 4, "frequencies": (0.1, 0.2)}


def filters(num_units=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    conv = torch.nn.Conv2d(1, num_units, 5, padding=2)
    for parameter in conv.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return torch.nn.Sequential(conv)


def test_a_pixel_answers_with_the_gratings_own_wave():
    conv = torch.nn.Conv2d(1, 1, 1)
    conv.weight.data.fill_(2.0)
    torch.nn.init.constant_(conv.get_parameter("bias"), 0.5)
    found = grating_activity(torch.nn.Sequential(conv), "0", num_times=8, contrast=0.3, **SMALL)
    wave = 0.5 + 2 * 0.3 * np.cos(2 * np.pi * np.arange(8) / 8)  # a peak at the centre at first
    expected = np.maximum(wave, 0)[None, None, :, None]
    assert np.allclose(found.activity, expected, atol=1e-6)
    assert found.orientation.values.tolist() == [0, 0, 45, 45, 90, 90, 135, 135]
    assert found.frequency.values.tolist() == [0.1, 0.2] * 4


def test_its_mean_over_the_drift_is_the_tuning():
    network = filters()
    activity = grating_activity(network, "0", num_times=8, **SMALL).activity
    tuning = grating_tuning(network, "0", num_phases=8, **SMALL)
    f0 = activity.mean(("trial", "drift")).values.reshape(3, 4, 2)
    expected = tuning.response + tuning.blank_response
    assert np.allclose(f0, expected, atol=1e-6)


def test_a_trials_noise_depends_on_nothing_but_the_seed():
    network = filters()
    two = grating_activity(network, "0", noise=0.5, num_trials=2, seed=3, **SMALL).activity
    three = grating_activity(
        network, "0", noise=0.5, num_trials=3, seed=3, units=[1, 2], **SMALL
    ).activity
    assert np.array_equal(two.sel(unit=[1, 2]), three[:2])
    other = grating_activity(network, "0", noise=0.5, seed=4, **SMALL).activity
    assert not np.allclose(two[0], two[1])
    assert not np.allclose(two[0], other[0])


def test_noise_has_the_size_that_the_filter_gives_it():
    network = filters()
    torch.nn.init.constant_(network.get_parameter("0.bias"), 100.0)  # always above the threshold
    found = grating_activity(
        network, "0", noise=0.5, num_trials=40, input_shape=(1, 9, 9), frequencies=(0.1,)
    ).activity
    variance = found.var("trial", ddof=1).mean(("drift", "stimulus"))
    expected = 0.25 * network.get_parameter("0.weight").detach().square().sum((1, 2, 3))
    assert np.allclose(variance, expected, rtol=0.06)


def test_the_network_is_left_as_it_was():
    network = filters().train()
    state = torch.random.get_rng_state()
    grating_activity(network, "0", noise=1.0, **SMALL)
    assert network.training
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_orientations": 0}, "num_orientations=0"),
        ({"num_times": 2}, "num_times=2"),
        ({"num_trials": 0}, "num_trials=0"),
        ({"frequencies": (0.6,)}, "frequencies=.*0.6"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"units": [7]}, "units"),
    ],
)
def test_bad_settings_are_named(settings, text):
    with pytest.raises(ValueError, match=text):
        grating_activity(filters(), "0", **SMALL | settings)
