"""Choices of neurons: what the types of numbers mean, and what is refused."""

import inspect
import math
import re

import numpy as np
import pytest

from neurofb.neurons import check_chosen, check_strength, chosen_neurons


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (0.0, []),
        (1.0, [0, 1, 2, 3]),
        (0.3, [0]),
        (np.float64(0.5), [0, 1]),
        (np.float32(0.5), [0, 1]),
        (0, []),
        (1, [0]),
        (np.int64(1), [0]),  # one neuron, not all
        ((), []),
        ((3, np.int64(0)), [3, 0]),
    ],
)
def test_fractions_numbers_and_indices(chosen, expected):
    assert chosen_neurons("readout", chosen, 4) == expected


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (-0.1, "readout=-0.1 must be a fraction from 0 to 1"),
        (math.nan, "readout=nan must be a fraction from 0 to 1"),
        (math.inf, "readout=inf must be a fraction from 0 to 1"),
        (-1, "readout=-1 must be a number of neurons, at least 0"),
        (np.int64(5), "readout=5 must choose among 4 neurons (0 to 3)"),
        ((4,), "readout=(4,) must choose among 4 neurons (0 to 3)"),
        ((1, 1), "readout=(1, 1) must be different indices from 0 on"),
        ((-1,), "readout=(-1,) must be different indices from 0 on"),
        ((1.0,), "readout=(1.0,) must be different indices from 0 on"),
        ((math.nan,), "readout=(nan,) must be different indices from 0 on"),
        (True, "readout=True must be a fraction from 0 to 1, a number of neurons or a tuple"),
        (None, "readout=None must be a fraction from 0 to 1, a number of neurons or a tuple"),
        ([1, 2], "readout=[1, 2] must be a fraction from 0 to 1, a number of neurons or a tuple"),
        ("1", "readout='1' must be a fraction from 0 to 1, a number of neurons or a tuple"),
    ],
)
def test_what_is_refused(chosen, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inspect.unwrap(chosen_neurons)("readout", chosen, 4)


def test_strengths():
    for strength in (0, 0.5, 1, np.float32(1.0)):
        check_strength(strength)
    for strength in (-0.1, 1.1, math.nan, "1", None):
        with pytest.raises(ValueError, match="must lie from 0 to 1"):
            check_strength(strength)
    check_chosen("hidden", 10**9)  # how many there are is not known yet
