"""Lyapunov exponents that are known, and the tangent of curl descent against differentiation."""

import math

import numpy as np
import pytest
import torch

from neurofb.dynamics import CurlMap, CurlTraining, Flips, StudentTeacher, curl_descent
from neurofb.measures import lyapunov_exponent

POPULATION = {"num_train": None, "num_test": None}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_a_linear_map_stretches_by_its_largest_factor():
    matrix = torch.diag(double([2.0, 0.5])[0])
    for every in (1, 5):
        found = lyapunov_exponent(
            lambda x: x @ matrix,
            double([0.1, 0.2], [0.0, 0.0]),
            num_steps=200,
            renormalise_every=every,
        )
        np.testing.assert_allclose(found.exponent, math.log(2), rtol=1e-9)
        assert (found.standard_error < 1e-9).all()
    halved = lyapunov_exponent(
        lambda x: x @ matrix, double([0.1, 0.2]), num_steps=200, time_per_step=0.5
    )
    np.testing.assert_allclose(halved.exponent, 2 * math.log(2), rtol=1e-9)


def test_the_logistic_map():
    found = lyapunov_exponent(
        lambda x: 4 * x * (1 - x), double([0.3], [0.41], [0.77]), num_steps=2000, burn_in=100
    )
    assert (abs(found.exponent - math.log(2)) < 4 * found.standard_error).all()
    assert (found.standard_error < 0.03).all()
    assert (found.standard_error > 0).all()
    np.testing.assert_allclose(found.local_exponent.mean("block"), found.exponent)
    # a period of two at r = 3.2: half the log of the derivative along it
    periodic = lyapunov_exponent(
        lambda x: 3.2 * x * (1 - x), double([0.3]), num_steps=400, burn_in=500
    )
    x = np.roots([-(3.2**2), 3.2 * 4.2, -4.2])
    expected = 0.5 * np.log(np.abs(np.prod(3.2 * (1 - 2 * x))))
    np.testing.assert_allclose(periodic.exponent, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["frobenius", "rows", "none"])
@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("feedback", ["gradient", "direct"])
def test_the_tangent_is_the_derivative_of_a_step(norm, num_outputs, feedback):
    training = CurlTraining(norm=norm, feedback=feedback)
    flips = [Flips(), Flips(hidden=0.4, readout=3), Flips(hidden=2, side="postsynaptic")]
    for problem in (
        StudentTeacher(6, 9, num_outputs, num_train=30, num_test=5),
        StudentTeacher(6, 9, num_outputs, **POPULATION),
    ):
        step = CurlMap(problem, flips, training, seeds=(0, 3))
        tangent = torch.randn(step.start.shape, dtype=torch.float64)
        found = step.tangent(step.start, tangent)
        away = 1e-6 * tangent
        difference = (step(step.start + away) - step(step.start - away)) / 2e-6
        torch.testing.assert_close(found[0], step(step.start), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found[1], difference, rtol=1e-7, atol=1e-7)
        by_jvp = torch.func.jvp(step, (step.start,), (tangent,))[1]
        torch.testing.assert_close(found[1], by_jvp, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_the_map_is_a_step_of_the_simulator(activation):
    problem = StudentTeacher(4, 7, activation=activation, num_train=9, num_test=5)
    flips, training = [Flips(), Flips(hidden=2)], CurlTraining(num_steps=20, stop_below=None)
    step = CurlMap(problem, flips, training, seeds=(1, 2))
    state = step.start
    for _ in range(20):
        state = step(state)
    result = curl_descent(problem, flips, training, seeds=(1, 2), keep_weights=True)
    hidden, readout = step.unpack(state)
    np.testing.assert_allclose(result.weight_1_end.values.reshape(4, 7, 4), hidden, rtol=1e-9)
    np.testing.assert_allclose(result.weight_2_end.values.reshape(4, 1, 7), readout, rtol=1e-9)
    np.testing.assert_allclose(result.final_loss.values.ravel(), step.losses(state)[0], rtol=1e-9)
    assert step.has_tangent == (activation == "linear")


def test_both_ways_agree_and_other_runs_do_not_matter():
    problem = StudentTeacher(4, 5, **POPULATION)
    flips = [Flips(), Flips(hidden=0.5)]
    step = CurlMap(problem, flips, seeds=(0, 1))
    settings = {"num_steps": 80, "burn_in": 5, "time_per_step": 0.1, "seed": 3}
    exact = lyapunov_exponent(step, step.start, tangent_step=step.tangent, **settings)
    by_jvp = lyapunov_exponent(step, step.start, **settings)
    np.testing.assert_allclose(exact.exponent, by_jvp.exponent, rtol=1e-9)
    single = CurlMap(problem, flips[1:], seeds=(1,))
    alone = lyapunov_exponent(single, single.start, tangent_step=single.tangent, **settings)
    np.testing.assert_allclose(alone.local_exponent[0], exact.local_exponent[3], rtol=1e-9)


def exponents(problem, flips, seeds, *, burn_in, num_steps):
    step = CurlMap(problem, flips, seeds=seeds)
    return lyapunov_exponent(
        step,
        step.start,
        num_steps=num_steps,
        burn_in=burn_in,
        time_per_step=0.1,
        tangent_step=step.tangent,
        renormalise_every=5,
    )


def test_descent_that_has_converged_is_neutral():
    problem = StudentTeacher(10, 25, **POPULATION)
    found = exponents(problem, [Flips()], (0, 1, 2), burn_in=1500, num_steps=1000)
    assert (abs(found.exponent) < 1e-3).all()


@pytest.mark.slow
def test_flipped_inputs_make_chaos():
    """20-20-1 with half of the inputs flipped; without flips the exponent stays at 0."""
    problem = StudentTeacher(20, 20, unit_norms=True, **POPULATION)
    found = exponents(
        problem, [Flips(), Flips(hidden=0.5)], (0, 1, 2), burn_in=6000, num_steps=14_000
    )
    plain, flipped = found.isel(run=slice(0, 3)), found.isel(run=slice(3, 6))
    assert (abs(plain.exponent) < 1e-3).all()
    assert int((flipped.exponent > 3 * flipped.standard_error).sum()) >= 2
    assert float(flipped.exponent.median()) > 2e-3


def test_runs_that_blow_up_are_nan_and_collapse_is_minus_infinity():
    found = lyapunov_exponent(
        lambda x: torch.stack([x[0] ** 2, 0 * x[1]]), double([3.0], [1.0]), num_steps=50
    )
    assert np.isnan(found.exponent[0])
    assert np.isneginf(found.exponent[1])
    shifted = lyapunov_exponent(
        lambda x: x + double([np.nan], [1.0]), state=double([0.0], [0.0]), num_steps=50
    )
    np.testing.assert_array_equal(shifted.exponent, [np.nan, 0.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"burn_in": -1}, "burn_in=-1 must be at least 0"),
        ({"num_blocks": 1}, "num_blocks=1 must be at least 2"),
        ({"renormalise_every": 0}, "renormalise_every=0 must be at least 1"),
        ({"discard": 1.0}, "discard=1.0 must lie from 0"),
        ({"time_per_step": 0.0}, "time_per_step=0.0 must be above 0"),
        ({"num_steps": 9}, "num_steps=9 must leave each of num_blocks=8"),
        ({"state": torch.zeros(3)}, r"state of shape \(3,\) .* must be \(run, parameter\)"),
    ],
)
def test_bad_input(settings, message):
    arguments = {"state": double([0.3]), "num_steps": 100} | settings
    with pytest.raises(ValueError, match=message):
        lyapunov_exponent(lambda x: x, **arguments)
    unchecked = getattr(lyapunov_exponent, "__wrapped__", lyapunov_exponent)
    with pytest.raises(ValueError, match=r"num_steps=100.0 must be at least 1, and whole"):
        unchecked(lambda x: x, double([0.3]), num_steps=100.0)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: 2 * x.detach(), "step carries no derivatives"),
        (lambda x: torch.tensor(x.tolist(), dtype=x.dtype), "step carries no derivatives"),
        (lambda x: x.float(), r"step returns shape \(3, 2\), torch.float32"),
        (lambda x: x[:1], r"step returns shape \(1, 2\)"),
        (lambda x: x.tolist(), r"step returns \[\["),
        (lambda x: x - x.mean(0), "step mixes runs"),
        (lambda x: x.roll(1, 0), "step mixes runs"),
        (lambda x: x + x[:1], "step mixes runs"),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct")
def test_a_map_that_has_no_exponent_of_each_run(step, message):
    state = double([0.3, 0.1], [0.2, 0.4], [0.5, 0.6])
    with pytest.raises(ValueError, match=message):
        getattr(lyapunov_exponent, "__wrapped__", lyapunov_exponent)(step, state, num_steps=50)


def test_a_map_of_two_runs_by_hand_must_not_mix_them():
    def tangent_step(state, tangent):
        return state.flip(0), tangent.flip(0)

    with pytest.raises(ValueError, match="step mixes runs"):
        lyapunov_exponent(
            lambda x: x.flip(0), double([1.0], [2.0]), num_steps=50, tangent_step=tangent_step
        )


def test_a_map_needs_all_samples_and_a_tangent_a_linear_student():
    problem = StudentTeacher(4, 5, activation="tanh")
    with pytest.raises(ValueError, match="batch_size=10 must be None"):
        CurlMap(problem, [Flips()], CurlTraining(batch_size=10))
    step = CurlMap(problem, [Flips()])
    with pytest.raises(ValueError, match="tangent is for linear students"):
        step.tangent(step.start, step.start)
