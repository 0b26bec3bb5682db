"""Balanced networks: what is refused or warned of, with its numbers."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from neurofb.dynamics import BalancedNetwork, balanced_statistics, simulate_balanced

NOISY = BalancedNetwork(num_units=30, balance=3.0, noise=0.75)
simulate = partial(simulate_balanced, duration=1.0, time_step=0.01)
statistics = partial(balanced_statistics, duration=1.0, time_step=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_units": 0}, "num_units=0 must be at least 1"),
        ({"num_signals": 0}, "num_signals=0"),
        ({"balance": -1.0}, "balance=-1.0 must be a number, finite and at least 0"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"disorder": float("inf")}, "disorder=inf"),
        ({"delay": -0.1}, "delay=-0.1"),
        ({"nonlinearity": torch.exp}, "nonlinearity=exp must be odd"),
        ({"nonlinearity": np.tanh}, "nonlinearity=tanh must be a function of a torch tensor"),
        ({"nonlinearity": torch.sum}, "nonlinearity=sum must be odd"),
    ],
)
def test_networks_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        BalancedNetwork(**({"num_units": 10, "balance": 1.0} | settings))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_step": 0.0}, "time_step=0.0 must be positive"),
        ({"duration": 0.001}, "duration=0.001 must be finite and at least time_step"),
        ({"burn_in": -1.0}, "burn_in=-1.0"),
        ({"num_trials": 0}, "num_trials=0"),
        ({"device": "cudaa"}, "device='cudaa' is not available; here: cpu"),
        ({"device": "cuda:99"}, "device='cuda:99' is not available; here: cpu"),
        ({"num_matrices": 0}, "num_matrices=0"),
        ({"record_every": 0}, "record_every=0"),
        ({"chunk": 0}, "chunk=0"),
        ({"keep_units": 31}, "keep_units=31"),
        ({"seed": -1}, "seed=-1"),
        ({"signal": np.zeros(99)}, r"signal of shape \(99,\) .* of shape \(100,\)"),
        ({"signal": np.zeros((100, 2))}, r"signal of shape \(100, 2\)"),
        ({"signal": lambda t: [t, t]}, "signal as a function returns 2 numbers; allowed: 1 or 1"),
        ({"signal": float("nan")}, "signal is not finite at time 0 "),
        ({"signal": lambda t: np.inf if t > 0.5 else t}, r"not finite at time 0.51 \(step 51;"),
        ({"balance": np.append(np.ones(99), np.nan)}, r"balance is not finite .* \(step 99;"),
        ({"signal": [0.1, 0.2]}, "signal lists 2 signals for 1 networks"),
        ({"balance": lambda t: -t}, "balance reaches -0.99"),
        ({"balance": lambda t: t, "burn_in": 20.0}, "balance reaches -20"),
        ({"start": np.zeros(29)}, r"start of shape \(29,\)"),
        ({"start": np.append(np.zeros(29), np.nan)}, "start has 1 entries that are not finite"),
        ({"network": []}, "must name at least one network"),
        (
            {"network": [NOISY, BalancedNetwork(num_units=31, balance=1.0)]},
            r"num_units=\[30, 31\] must be the same",
        ),
        (
            {"network": BalancedNetwork(num_units=30, balance=1.0, delay=0.024)},
            r"delay=0.024 .* nearest: delay=0.02 \(2 steps\), or time_step=0.012",
        ),
        (
            {"network": [NOISY, BalancedNetwork(num_units=30, balance=1.0, delay=0.024)]},
            "delay=0.024 is not a whole number of steps",
        ),
        (
            {"network": [NOISY, BalancedNetwork(num_units=30, balance=105.0)]},
            "balance=105 times a gain of 1 times time_step=0.01 is 1.05; above 1",
        ),
        (
            {"network": BalancedNetwork(num_units=30, balance=200.0)},
            r"balance=200 times a gain of 1 times time_step=0.01 is 2; .* time_step up to 0.005",
        ),
        (  # four signals of 36 neurons: (1 + 1/3)² times the gain of one
            {"network": BalancedNetwork(num_units=36, balance=90.0, num_signals=4)},
            "balance=90 times a gain of 1.78 times time_step=0.01 is 1.6; above 1",
        ),
        (
            {
                "network": BalancedNetwork(
                    num_units=30, balance=5.0, disorder=60.0, nonlinearity="linear"
                ),
                "duration": 90.0,
            },
            "the estimate is not finite by time",
        ),
        (
            {  # one trial of two: the other rests
                "network": BalancedNetwork(
                    num_units=30, balance=5.0, disorder=60.0, nonlinearity="linear"
                ),
                "signal": 0.0,
                "start": np.outer([0.0, 1.0], np.arange(30)),
                "num_trials": 2,
                "duration": 90.0,
            },
            "the estimate is not finite by time",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_its_numbers(options, message):
    given = {"network": NOISY, "signal": 0.2} | options
    with pytest.raises(ValueError, match=message):
        simulate(**given)


@pytest.fixture
def without_type_checks(monkeypatch):
    """Switch off what tests alone check: the types of arguments."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_trials": "3"}, "num_trials='3' must be at least 1, and whole"),
        ({"seed": "0"}, "seed='0' must be a whole number"),
        ({"keep_units": "3"}, "keep_units='3' must be 0 to num_units=30"),
        ({"duration": "1"}, "duration='1' must be a number"),
        ({"network": "net"}, "network='net' has 'n'; allowed: a BalancedNetwork, or a list"),
        ({"network": [1, 2]}, r"network=\[1, 2\] has 1; allowed: a BalancedNetwork, or a list"),
        ({"network": None}, "network=None has None; allowed: a BalancedNetwork"),
    ],
)
def test_wrong_types_are_refused_with_what_was_given(options, message):
    given = {"network": NOISY, "signal": 0.2} | options
    with pytest.raises(ValueError, match=message):
        simulate(**given)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nonlinearity": lambda h: 1.0}, "must be a function of a torch tensor"),
        ({"num_units": "10"}, "num_units='10' must be at least 1, and whole"),
    ],
)
def test_wrong_types_of_a_network(settings, message):
    with pytest.raises(ValueError, match=message):
        BalancedNetwork(**({"num_units": 10, "balance": 1.0} | settings))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_windows": 0}, "num_windows=0 must be 1 to 100"),
        ({"num_windows": 101}, "num_windows=101"),
        ({"segment": 0.03}, r"segment=0.03 must be between four steps \(0.04\)"),
        ({"segment": 1.5}, r"segment=1.5 .* duration \(1\)"),
        ({"chunk": 0}, "chunk=0"),
    ],
)
def test_statistics_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        statistics(NOISY, 0.2, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 1.004}, r"duration=1.004 is not .* nearest, duration=1 \(100 steps\)"),
        ({"burn_in": 0.056}, r"burn_in=0.056 .* nearest, burn_in=0.06 \(6 steps\)"),
    ],
)
def test_times_that_are_rounded_to_steps_are_warned_of(options, message):
    with pytest.warns(RuntimeWarning, match=message):
        found = simulate(NOISY, 0.2, **options)
    assert found.sizes["time"] == 100
    simulate(NOISY, 0.2, duration=0.01 + 0.02, burn_in=0.07)


def test_a_loop_that_is_slow_for_its_step_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(BalancedNetwork(num_units=5, balance=5.0), 0.2, duration=0.1)
    message = r"is 0.2, above 0.05: .* a delay of 0.005 more; time_step=0.0025 is small enough"
    with pytest.warns(RuntimeWarning, match=message):
        simulate_balanced(
            BalancedNetwork(num_units=5, balance=20.0), 0.2, duration=0.1, time_step=0.01
        )
    with pytest.warns(RuntimeWarning, match="balance=30"):
        simulate(NOISY, balance=lambda t: 30.0 if t > 0.5 else 1.0)
