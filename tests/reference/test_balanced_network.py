"""Balanced networks against a plain loop in numpy, written from the equations once more."""

import math

import numpy as np
import pytest
import torch

from neurofb.dynamics import BalancedNetwork, simulate_balanced
from neurofb.dynamics.balanced_batch import BalancedBatch

DT, STEPS = 0.02, 60
CURVES = {
    "tanh": np.tanh,
    "linear": lambda h: h,
    "erf": np.vectorize(lambda h: math.erf(math.sqrt(math.pi) / 2 * h)),
}


def noise_of(network, matrix, trial, seed):
    """Return standard normal numbers (step, unit), drawn as the batch draws them."""
    batch = BalancedBatch(
        [network], time_step=DT, num_trials=trial + 1, num_matrices=matrix + 1, seed=seed
    )
    generator, steps = batch.generators[matrix][trial], batch.noise.shape[2]
    blocks = [
        torch.empty(steps, network.num_units).normal_(generator=generator).numpy()
        for _ in range(-(-STEPS // steps))
    ]
    return np.concatenate(blocks).astype(float)


def plain_loop(network, signal, balance, start, noise, seed, matrix):
    """Return the estimate (step, signal) of one trial; signal (step, signal), balance (step,)."""
    disorder, readout = network.weights(seed, matrix)
    phi, lag = CURVES[network.nonlinearity], round(network.delay / DT)
    leak = math.exp(-DT)
    kick = network.noise * math.sqrt((1 - leak**2) / 2)
    h, estimates = start.astype(float), []
    for step in range(STEPS):
        estimates.append(readout.T @ phi(h) / network.num_units)
        fed_back = estimates[max(step - lag, 0)]
        drive = balance[step] * readout @ (signal[step] - fed_back)
        if disorder is not None:
            drive = drive + network.disorder * disorder.astype(float) @ phi(h)
        h = leak * h + (1 - leak) * drive + kick * noise[step]
    return np.array(estimates)


@pytest.mark.parametrize(
    "settings",
    [
        {"balance": 2.0},
        {"balance": 2.0, "noise": 0.75},
        {"balance": 1.5, "disorder": 1.6, "delay": 5 * DT, "nonlinearity": "erf"},
        {"balance": 1.0, "disorder": 0.9, "noise": 0.3, "num_signals": 2, "readout": "normal"},
        {"balance": 2.4, "noise": 0.3, "delay": 2 * DT, "nonlinearity": "linear"},
        {"balance": 2.0, "noise": 0.75, "num_units": 600},  # draws noise five times
    ],
)
def test_equals_a_plain_loop(settings):
    network = BalancedNetwork(**({"num_units": 37} | settings))
    num_units = network.num_units
    generator = np.random.default_rng(5)
    shape = (STEPS, network.num_signals)
    signal = generator.normal(size=shape)
    balance = generator.uniform(0, 2.4 / network.num_signals, STEPS)
    start = generator.normal(size=(2, 1, 3, num_units))
    result = simulate_balanced(
        network,
        signal if network.num_signals > 1 else signal[:, 0],
        duration=STEPS * DT,
        time_step=DT,
        num_trials=3,
        num_matrices=2,
        seed=8,
        balance=balance,
        start=start,
        chunk=7,
        keep_units=num_units,
        dtype="float64",
    )
    assert result.estimate.dtype == np.float64
    for matrix in range(2):
        for trial in range(3):
            noise = noise_of(network, matrix, trial, seed=8)
            expected = plain_loop(
                network, signal, balance, start[matrix, 0, trial], noise, 8, matrix
            )
            found = result.estimate[matrix, trial].values.reshape(shape)
            tolerance = 1e-7 if network.noise else 1e-13  # numbers of noise are single precision
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    _, readout = network.weights(8, 1)
    again = np.einsum("uk,tru->rtk", readout, result.activity[1].transpose("time", "trial", "unit"))
    found = result.estimate[1].values.reshape(3, *shape)
    np.testing.assert_allclose(again / num_units, found, atol=1e-13)
    phi = CURVES[network.nonlinearity]
    np.testing.assert_allclose(result.activity, phi(result.potential.values), atol=1e-13)
