import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from neurofb.measures import receptive_field, shape_measures, spectrum_matched_noise


@pytest.fixture
def rf(shapes):
    maps = np.stack([shapes["dog"], shapes["even_gabor"], 0 * shapes["dog"]])
    colour = np.stack([maps, -2 * maps, 0.5 * maps], axis=1)
    return xr.Dataset(
        {
            "receptive_field": (("unit", "channel", "y", "x"), colour, {"units": "1"}),
            "status": ("unit", np.array(["ok", "ok", "dead"], dtype=object)),
        },
        attrs={"layer": "retina_2"},
    )


def test_amplitudes_are_kept_and_phases_are_not(rf):
    noise = spectrum_matched_noise(rf, seed=0)
    one, two = (np.fft.fft2(d.receptive_field.values) for d in (rf, noise))
    np.testing.assert_allclose(np.abs(one), np.abs(two), atol=1e-9)
    cosine = (rf.receptive_field * noise.receptive_field).sum(("channel", "y", "x"))
    norm = (rf.receptive_field**2).sum(("channel", "y", "x"))
    assert (np.abs(cosine / norm)[:2] < 0.6).all()
    assert not noise.receptive_field[2].any()
    assert noise.status.values.tolist()[2] == "dead"


def test_channels_keep_their_relation(rf):
    noise = spectrum_matched_noise(rf, seed=0).receptive_field
    np.testing.assert_allclose(noise[:, 1], -2 * noise[:, 0], atol=1e-12)


def test_seed_decides(rf):
    one, two, three = (spectrum_matched_noise(rf, seed=s).receptive_field for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 0.01


def test_noise_is_less_symmetric_than_a_centre_surround_field(rf):
    fields = rf.isel(unit=[0] * 30)
    null = shape_measures(spectrum_matched_noise(fields, seed=0), fits=False, bars=False)
    assert float(null.rotational_symmetry.median()) < 0.7
    assert float(null.rotational_symmetry.max()) < 1


def test_same_call_takes_the_maps_of_a_network_and_their_null():
    network = nn.Sequential(nn.Conv2d(3, 4, 5))
    rf = receptive_field(network, "0", input_shape=(3, 8, 8), num_probes=2)
    null = spectrum_matched_noise(rf, seed=0)
    assert null.receptive_field.dtype == np.float32
    assert null.attrs["layer"] == "0"
    assert list(shape_measures(null, bars=False)) == list(shape_measures(rf, bars=False))


def test_errors():
    with pytest.raises(ValueError, match="rf has no variable receptive_field"):
        spectrum_matched_noise(xr.Dataset({"a": ("unit", torch.ones(1).numpy())}), seed=0)
