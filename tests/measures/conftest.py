"""Receptive fields of known shape, 17×17 pixels."""

import numpy as np
import pytest

GRID = np.mgrid[-8:9, -8:9].astype(float)


def gaussian(sigma, y=0.0, x=0.0):
    return np.exp(-((GRID[0] - y) ** 2 + (GRID[1] - x) ** 2) / (2 * sigma**2)) / sigma**2


def gabor(phase, angle=0.0, wavelength=6.0, sigma=2.0):
    across = GRID[1] * np.cos(angle) + GRID[0] * np.sin(angle)
    return np.cos(2 * np.pi * across / wavelength + phase) * gaussian(sigma)


@pytest.fixture(scope="session")
def shapes():
    return {
        "gaussian": gaussian(2.0),
        "dog": gaussian(1.5) - gaussian(3.0),
        "dog_shifted": gaussian(1.5, 2, -1) - gaussian(3.0, 2, -1),
        "dog_cut": gaussian(1.5, -6, -6) - gaussian(3.0, -6, -6),
        "elongated": np.exp(-(GRID[1] ** 2) / 4.5 - GRID[0] ** 2 / 18.0),
        "even_gabor": gabor(0.0),
        "odd_gabor": gabor(np.pi / 2),
        "mixed_gabor": gabor(np.pi / 4, angle=np.pi / 4),
    }
