"""The exact motion with one input against integration of its differential equation."""

import inspect

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from neurofb.theory import conserved_blocks, escape_time, first_crossing, scalar_motion

TWO = np.array([0.3, 0.8]), np.array([0.2, 0.6]), np.array([1.0, -1.0])


def learn(v: np.ndarray, w: np.ndarray, signs: np.ndarray, target: float, time: float):
    """Integrate dv/dt = d e w, dw/dt = e v."""

    def field(_: float, state: np.ndarray) -> np.ndarray:
        a, b = np.split(state, 2)
        error = target - a @ b
        return np.concatenate([signs * error * b, error * a])

    start = np.concatenate([v, w])
    path = solve_ivp(field, (0, time), start, rtol=1e-11, atol=1e-13, dense_output=True)
    return path.sol


def test_two_neurons_end_where_the_page_says():
    v, w, signs = TWO
    tau = first_crossing(v, w, signs, 1.0)
    assert tau == pytest.approx(1.58350, abs=6e-6)
    end_v, end_w = scalar_motion(tau, v, w, signs)
    np.testing.assert_allclose(end_v, [1.22826, -0.61011], atol=6e-6)
    np.testing.assert_allclose(end_w, [1.20773, 0.79231], atol=6e-6)
    assert (end_v**2 + signs * end_w**2).sum() == pytest.approx(2.7117, abs=6e-5)
    integrated = learn(v, w, signs, 1.0, 40.0)(40.0)
    np.testing.assert_allclose(np.concatenate([end_v, end_w]), integrated, atol=1e-8)


@pytest.mark.parametrize("target", [-3.0, -0.4, 0.2, 0.9, 6.0])
def test_random_networks_settle_at_the_first_crossing(target: float):
    generator = np.random.default_rng(5)
    v, w = generator.normal(size=(2, 4))
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    tau = first_crossing(v, w, signs, target)
    end_v, end_w = scalar_motion(tau, v, w, signs)
    assert end_v @ end_w == pytest.approx(target, abs=1e-10)
    slope = (end_v**2 + signs * end_w**2).sum()
    assert slope > 0
    integrated = learn(v, w, signs, target, 60 / slope + 20)(60 / slope + 20)
    np.testing.assert_allclose(np.concatenate([end_v, end_w]), integrated, atol=1e-6)


@pytest.mark.parametrize(
    ("eps", "descent", "flip"),
    [(0.1, 6.5106, 2.2737), (0.01, 11.1303, 2.0661), (1e-4, 20.3357, 2.0448)],
)
def test_table_of_escape_times(eps: float, descent: float, flip: float):
    v, w = np.array([eps - 1]), np.array([1.0])
    assert escape_time(v, w, np.ones(1), 0.5) == pytest.approx(descent, rel=1e-5)
    assert escape_time(v, w, -np.ones(1), 0.5) == pytest.approx(flip, rel=2e-5)


def test_escape_from_the_stable_manifold():
    v, w = np.array([-1.0]), np.array([1.0])
    assert escape_time(v, w, np.ones(1), 0.5) == np.inf
    assert escape_time(v, w, -np.ones(1), 0.5) == pytest.approx(2.0446, rel=2e-5)
    near = escape_time(v + 1e-8, w, np.ones(1), 0.5)
    nearer = escape_time(v + 1e-10, w, np.ones(1), 0.5)
    assert near == pytest.approx(38.77, abs=0.03)
    assert nearer - near == pytest.approx(np.log(100) / 0.5, rel=1e-4)


def test_the_loss_may_rise_first():
    v, w, flipped = np.array([-0.9]), np.array([1.1]), -np.ones(1)
    assert escape_time(v, w, flipped, 0.5) == pytest.approx(2.093, rel=1e-3)
    assert escape_time(v, w, np.ones(1), 0.5) == pytest.approx(4.922, rel=1e-3)
    times = np.linspace(0, 1, 200)
    states = learn(v, w, flipped, 0.5, 1.0)(times)
    losses = (0.5 - states[0] * states[1]) ** 2 / 2
    assert losses[0] == pytest.approx(1.49**2 / 2)
    assert losses.max() == pytest.approx(1.51**2 / 2, abs=1e-4)  # v w = -(v² + w²) / 2


def test_escape_time_is_that_of_the_equation():
    v, w, signs = TWO
    time = escape_time(v, w, signs, 1.0, loss=1e-4)
    before, after = (learn(v, w, signs, 1.0, time + 1)(time + d) for d in (-1e-3, 1e-3))
    losses = [(1 - state[:2] @ state[2:]) ** 2 / 2 for state in (before, after)]
    assert losses[0] > 1e-4 > losses[1]
    assert escape_time(v, w, signs, 0.54 + 1e-3) == 0  # v w = 0.54: already there


def test_what_is_kept_on_the_way():
    v, w, signs = TWO
    for tau in (-0.7, 0.4, 2.0):
        a, b = scalar_motion(tau, v, w, signs)
        np.testing.assert_allclose(b**2 - signs * a**2, w**2 - signs * v**2, atol=1e-13)


def test_all_flipped_cannot_reach_a_far_target():
    v, w = TWO[0], TWO[1]
    most = (v**2 + w**2).sum() / 2
    all_flipped = -np.ones(2)
    assert first_crossing(v, w, all_flipped, most + 1e-6) == np.inf
    assert first_crossing(v, w, all_flipped, -most - 1e-6) == -np.inf
    amplitude = np.hypot(v @ w, (v**2 - w**2).sum() / 2)
    for target in (amplitude - 1e-9, 1e-9 - amplitude):  # a crossing between two grid points
        tau = first_crossing(v, w, all_flipped, target)
        a, b = scalar_motion(tau, v, w, all_flipped)
        assert a @ b == pytest.approx(target, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_one_unflipped_neuron_reaches_any_target(seed: int):
    generator = np.random.default_rng(seed)
    v, w = generator.normal(size=(2, 6))
    signs = np.array([1.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    for target in (-50.0, 50.0):
        tau = first_crossing(v, w, signs, target)
        a, b = scalar_motion(tau, v, w, signs)
        assert a @ b == pytest.approx(target, rel=1e-10)


def drift(rate: float) -> tuple[float, float]:
    """Return how far the kept and the other entries of C move until t = 0.5, by Euler's method."""
    generator = np.random.default_rng(0)
    d1, d2 = np.array([-1.0, 1.0, 1.0, 1.0]), np.array([-1.0, -1.0, 1.0, 1.0, 1.0])
    w1, w2 = generator.normal(size=(5, 4)) / 2, generator.normal(size=(2, 5)) / 2
    target = generator.normal(size=(2, 4))
    start = conserved_blocks(w1, w2, d1, d2)
    everything = w1 * d1 @ w1.T - w2.T @ w2 * d2
    for _ in range(round(0.5 / rate)):
        error = w2 @ w1 - target
        w1, w2 = w1 - rate * (w2.T @ error) * d1, w2 - rate * (error @ w1.T) * d2
    kept = np.nanmax(np.abs(conserved_blocks(w1, w2, d1, d2) - start))
    moved = np.abs(w1 * d1 @ w1.T - w2.T @ w2 * d2 - everything)[np.isnan(start)].max()
    return float(kept), float(moved)


def test_same_sign_blocks_are_conserved_in_continuous_time():
    coarse, fine = drift(1e-3), drift(1e-4)
    assert coarse[0] / fine[0] == pytest.approx(10, rel=0.05)
    assert fine[0] < 1e-3 < 0.05 < fine[1]


def test_bad_input():
    v, w, signs = TWO
    with pytest.raises(ValueError, match="v, w and signs have 2, 1 and 2 entries"):
        inspect.unwrap(scalar_motion)(1.0, v, w[:1], signs)
    with pytest.raises(ValueError, match="must be 1 or -1"):
        first_crossing(v, w, signs / 2, 1.0)
    with pytest.raises(ValueError, match=r"loss=0.0 must be positive"):
        escape_time(v, w, signs, 1.0, loss=0.0)
    for function in (first_crossing, escape_time):
        with pytest.raises(ValueError, match=r"v=\[nan 0.8\] and w=.* must hold finite"):
            function(np.array([np.nan, 0.8]), w, signs, 1.0)
        with pytest.raises(ValueError, match="target=inf must be finite"):
            function(v, w, signs, np.inf)
    with pytest.raises(ValueError, match="tau=nan must be finite"):
        scalar_motion(np.nan, v, w, signs)
    ones = np.ones(2)
    with pytest.raises(ValueError, match=r"d2=\[1.  0.5\] must be 1 or -1"):
        conserved_blocks(np.ones((2, 2)), np.ones((1, 2)), ones, np.array([1.0, 0.5]))
    with pytest.raises(ValueError, match=r"w1 of shape \(2, 3\)"):
        inspect.unwrap(conserved_blocks)(np.ones((2, 3)), np.ones((1, 2)), np.ones(2), np.ones(2))
