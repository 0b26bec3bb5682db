"""The density of relaxation rates: total mass, edges, Marchenko and Pastur, random draws."""

from typing import Any

import numpy as np
import pytest

from neurofb.theory import (
    Spectrum,
    largest_eigenvalue,
    linearised_eigenvalues,
    spectral_density,
    spectrum,
)

CASES: list[dict[str, Any]] = [
    {"ratio": 0.3, "hidden_flips": 0.3},
    {"ratio": 1.0, "hidden_flips": 0.3},
    {"ratio": 10, "hidden_flips": 0.3},
    {"ratio": 0.1, "readout_flips": 0.4},
    {"ratio": 4.0, "readout_flips": 0.1},
    {"ratio": 3.0, "hidden_flips": 0.2, "readout_flips": 0.3},
    {"ratio": 0.5, "hidden_flips": 1, "readout_flips": 1},
    {"ratio": 0.5, "hidden_flips": 0.3, "hidden_variance": 0.5, "readout_norm": 2.0},
    {"ratio": 0.3, "hidden_flips": 0.3, "readout_flips": 0.1, "strength": 0.3},
    {"ratio": 2.0, "hidden_flips": 0.3, "readout_flips": 0.4, "strength": 0.5},
]


def share_below(edge: float, where: Spectrum, settings: dict[str, Any]) -> float:
    """Return the share of eigenvalues below a value, by the midpoint rule in an angle."""
    share = where.atom_shares[where.atoms < edge].sum()
    for low, high in where.intervals:
        high = min(high, edge)
        if low < high:
            angle = (np.arange(2000) + 0.5) / 2000 * np.pi
            x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
            density = spectral_density(x, **settings)
            share += (density * np.sin(angle)).mean() * np.pi * (high - low) / 2
    return float(share)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_mass_is_one_and_the_edge_is_the_edge(settings: dict[str, Any]):
    where = spectrum(**settings)
    assert share_below(np.inf, where, settings) == pytest.approx(1, abs=2e-4)
    assert where.largest == pytest.approx(float(largest_eigenvalue(**settings)), abs=1e-9)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_random_draws_have_this_distribution(settings: dict[str, Any]):
    """Kolmogorov's distance between the eigenvalues of one draw and the theory."""
    options = {"hidden_flips": 0, "readout_flips": 0, "hidden_variance": 1, "readout_norm": 1}
    options = {**options, "strength": 1, **settings}
    num_inputs = 400
    num_hidden = round(num_inputs / options["ratio"])
    generator = np.random.default_rng(3)
    w1 = generator.normal(size=(num_hidden, num_inputs))
    w1 *= np.sqrt(options["hidden_variance"] / num_inputs)
    w2 = np.full(num_hidden, np.sqrt(options["readout_norm"] / num_hidden))
    flipped = 1.0 - 2 * options["strength"]
    d1 = np.where(np.arange(num_inputs) < options["hidden_flips"] * num_inputs, flipped, 1.0)
    d2 = np.where(np.arange(num_hidden) < options["readout_flips"] * num_hidden, flipped, 1.0)
    values = linearised_eigenvalues(w1, w2, d1, d2)
    where = spectrum(**settings)
    for edge in np.quantile(values, [0.05, 0.3, 0.5, 0.7, 0.95]) + 1e-6:
        expected = share_below(float(edge), where, settings)
        assert (values < edge).mean() == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_without_flips_it_is_marchenko_and_pastur(ratio: float):
    s1, s = 1.7, 0.6
    low, high = (s1 * (1 + sign / np.sqrt(ratio)) ** 2 for sign in (-1, 1))
    x = np.linspace(low, high, 41)[1:-1]
    expected = np.sqrt((high - x) * (x - low)) / (2 * np.pi * s1 * x)
    options = {"hidden_variance": s1, "readout_norm": s}
    np.testing.assert_allclose(spectral_density(-s - x, ratio, **options), expected, rtol=1e-6)
    where = spectrum(ratio, **options)
    np.testing.assert_allclose(where.intervals, [[-s - high, -s - low]], atol=1e-9)
    np.testing.assert_allclose(where.atom_shares, [1 - 1 / ratio] if ratio > 1 else [])
    outside = np.array([-s - high - 0.01, -s - low + 0.01, 50.0])
    np.testing.assert_array_equal(spectral_density(outside, ratio, **options), 0)


def test_frozen_readout_leaves_only_atoms():
    where = spectrum(0.5, hidden_flips=0.25, readout_flips=1, strength=0.5)
    assert where.intervals.shape == (0, 2)
    np.testing.assert_array_equal(where.atoms, [-1, 0])
    np.testing.assert_array_equal(where.atom_shares, [0.75, 0.25])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "ratio=0 must be positive and finite"),
        ({"ratio": 1, "hidden_flips": 1.1}, r"hidden_flips=1.1 must be between 0 and 1"),
        ({"ratio": 1, "readout_flips": -1}, "readout_flips=-1 must be between 0 and 1"),
        ({"ratio": 1, "strength": 3}, "strength=3 must be between 0 and 1"),
        ({"ratio": 1, "readout_norm": np.inf}, "readout_norm=inf must be positive and finite"),
    ],
)
def test_bad_input(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        spectrum(**settings)
