"""Closed forms of linear learning against integration of the equations that they solve."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from neurofb import theory


def euler(state, change, step, num_steps):
    for _ in range(num_steps):
        state = state + step * change(state)
    return state


def _saxe(_, a, s):
    return 2 * a * (s - a)


def test_saxe_solves_the_equation_of_its_mode():
    time = np.linspace(0, 3, 50)
    s, a0 = np.array([[3.0], [1.0]]), 0.01
    solution = [
        solve_ivp(_saxe, (0, 3), [a0], "DOP853", time, args=(s,), rtol=1e-11, atol=1e-12).y[0]
        for s in (3.0, 1.0)
    ]
    np.testing.assert_allclose(s * theory.saxe_mode(time, s, a0), solution, atol=1e-9)
    slower = theory.saxe_mode(2 * time, s, a0, time_constant=2)
    np.testing.assert_array_equal(slower, theory.saxe_mode(time, s, a0))


def test_saxe_does_not_overflow():
    assert theory.saxe_mode(np.array([1e6]), 20.0, 1e-3) == 1.0


def test_euler_approaches_saxe_at_first_order():
    s, start = np.array([3.0, 1.0]), np.sqrt(0.01)
    matrices = {"W1": start * np.eye(2), "W2": start * np.eye(2)}
    errors = []
    for rate, steps in ((4e-4, 7_000), (2e-4, 14_000)):
        curves = theory.integrate_modes(
            matrices, s, "BP", learning_rate=rate, weight_decay=0, num_steps=steps, record_every=100
        )
        exact = theory.saxe_mode(curves.step[:, None] * rate, s, 0.01)
        errors.append(np.abs(curves.overlap - exact).max())
    assert errors[1] < 0.0042  # the page's 0.42 %
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.02)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_oja_flow_solves_its_equation(spread):
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    c = q @ np.diag([1.0, 0.7, 0.4, 0.2, 0.0]) @ q.T
    p0 = spread / 10 * rng.standard_normal((3, 5))

    def change(_, flat):
        p = flat.reshape(3, 5)
        return (p @ c @ (np.eye(5) - p.T @ p)).ravel()

    p = solve_ivp(change, (0, 6), p0.ravel(), "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    p = p.reshape(3, 5)
    np.testing.assert_allclose(theory.oja_flow(p0, c, 6.0), p.T @ p, atol=1e-8)
    np.testing.assert_allclose(theory.oja_flow(p0, c, 0.0), p0.T @ p0, atol=1e-10)


def test_oja_flow_by_euler_at_first_order():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((12, 12))
    c = a @ a.T
    c /= np.linalg.eigvalsh(c)[-1]
    p0 = np.linalg.qr(rng.standard_normal((12, 4)))[0].T
    errors = []
    for step in (1e-2, 1e-3):
        p = euler(p0, lambda p: p @ c @ (np.eye(12) - p.T @ p), step, round(10 / step))
        errors.append(np.abs(p.T @ p - theory.oja_flow(p0, c, 10.0)).max())
    assert errors[0] < 0.01
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.1)


@pytest.mark.parametrize("time", [1e2, 1e3, 1e5])
def test_oja_flow_ends_at_the_leading_eigenvectors(time):
    rng = np.random.default_rng(2)
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    c = q @ np.diag([5.0, 4.0, 3.0, 2.0, 1.0, 0.5]) @ q.T
    flow = theory.oja_flow(rng.standard_normal((3, 6)), c, time)
    np.testing.assert_allclose(flow, q[:, :3] @ q[:, :3].T, atol=1e-9)


def test_oja_flow_keeps_out_of_what_it_does_not_touch():
    p0 = np.array([[0.0, 0.6, 0.8, 0.0]])
    flow = theory.oja_flow(p0, np.diag([4.0, 3.0, 2.0, 1.0]), 50.0)
    np.testing.assert_allclose(flow, np.diag([0.0, 1.0, 0.0, 0.0]), atol=1e-12)
    doubled = theory.oja_flow(np.vstack([p0, p0]), np.diag([4.0, 3.0, 2.0, 1.0]), 50.0)
    np.testing.assert_allclose(doubled, flow, atol=1e-10)


def test_fixed_feedback_endpoint():
    s = np.array([4.0, 3.0, 2.0, 1.0])
    rng = np.random.default_rng(3)
    p = rng.standard_normal((2, 6))
    answer = theory.fixed_feedback_endpoint(p, s)
    assert answer.sum() == pytest.approx(2)
    mixed = rng.standard_normal((2, 2)) @ p  # only the span of P counts
    np.testing.assert_allclose(theory.fixed_feedback_endpoint(mixed, s), answer, atol=1e-12)
    np.testing.assert_allclose(
        theory.fixed_feedback_endpoint(rng.standard_normal((2, 2)) @ np.eye(2, 6), s),
        [1, 1, 0, 0],
        atol=1e-12,
    )
    again = np.vstack([p, mixed, rng.standard_normal((40, 2)) @ p])  # rank 2 still, to rounding
    np.testing.assert_allclose(theory.fixed_feedback_endpoint(again, s), answer, atol=1e-12)
    whole = theory.fixed_feedback_endpoint(rng.standard_normal((5, 6)), s)
    np.testing.assert_allclose(whole, 1, atol=1e-12)


@pytest.mark.parametrize("rank", [4, 8])
@pytest.mark.parametrize("rule", ["low-rank FA", "LDFA fixed P"])
def test_equations_with_fixed_p_end_at_the_endpoint(rank, rule):
    """From small weights; Q learned or not: W2 W1 → S R, with all r modes in sum."""
    rng = np.random.default_rng(rank)
    k, m, n, d = 20, 20, 24, 12
    s = np.linspace(6, 3, d)
    start = {
        "W1": 1e-4 * rng.standard_normal((k, n)),
        "W2": 1e-4 * rng.standard_normal((m, k)),
        "P": np.linalg.qr(rng.standard_normal((m, rank)))[0].T,
    }
    start["Q"] = rng.standard_normal((k, rank)) / (4.0 if rule == "low-rank FA" else 1e4)
    curves = theory.integrate_modes(
        start, s, rule, learning_rate=0.01, weight_decay=0, num_steps=4000, record_every=4000
    )
    end = theory.fixed_feedback_endpoint(start["P"], s)
    np.testing.assert_allclose(curves.overlap[-1], end, atol=0.003)


def test_kolen_pollack_invariant_of_the_equations():
    rng = np.random.default_rng(4)
    w2, q, p = (rng.standard_normal(shape) for shape in ((4, 5), (5, 2), (2, 4)))
    gap, decay = q - w2.T @ p.T, 0.02
    expected = theory.kolen_pollack_gap(gap, np.array(300), learning_rate=0.05, weight_decay=decay)
    for _ in range(300):
        change = rng.standard_normal((4, 5))
        w2, q = w2 + 0.05 * (change - decay * w2), q + 0.05 * (change.T @ p.T - decay * q)
    np.testing.assert_allclose(q - w2.T @ p.T, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("s", "beta", "a", "b"),
    [(3.5, 1.0, 0, 0), (2.0, -0.5, 0, 0), (2.0, 0.7, 0.3, -0.2), (1.0, 2.0, 3.0, 0.8)],
)
def test_scalar_fa_is_where_its_equations_end(s, beta, a, b):
    def change(_, state):
        error = s - state[0] * state[1]
        return [error * state[1], beta * error]

    end = solve_ivp(change, (0, 200), [a, b], "Radau", rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(theory.scalar_fa(s, beta, a=a, b=b), end, atol=1e-7)


def test_scalar_fa_from_zero():
    a, b = theory.scalar_fa(3.5, 1.0)
    assert b == pytest.approx(7 ** (1 / 3), abs=1e-12)
    assert a * b == pytest.approx(3.5, abs=1e-12)


@pytest.mark.parametrize("rate", [0.2, 1, 5.0])
def test_scalar_normative_ends_aligned(rate):
    mode = theory.scalar_normative(np.array([0.0, 1000.0]), 2.0, rate=rate, q=0.1, p=0.3)
    assert mode.a[-1] * mode.b[-1] == pytest.approx(2.0, abs=1e-12)
    assert mode.q[-1] * mode.p[-1] == pytest.approx(mode.a[-1], abs=1e-12)
    invariant = mode.q**2 - mode.p**2  # the feedback's gradient flow is balanced
    np.testing.assert_allclose(invariant, invariant[0], atol=1e-9)


def test_scalar_factored_kp_solves_its_equations():
    q, p, step = 0.3, 0.1, 1e-5
    for _ in range(100_000):
        q, p = q + 0.7 * step * p, p + 0.7 * step * q
    assert theory.scalar_factored_kp(1.0, rate=0.7, q=0.3, p=0.1) == pytest.approx(q * p, rel=1e-4)


RULES = {
    "BP": (),
    "FA": ("B",),
    "low-rank FA": ("Q", "P"),
    "LDFA fixed P": ("Q", "P"),
    "LDFA Oja targets": ("Q", "P"),
    "LDFA Oja error": ("Q", "P"),
    "LDFA normative": ("Q", "P"),
    "LDFA factored KP": ("Q", "P"),
}


@pytest.mark.parametrize("rule", RULES)
def test_equations_are_independent_over_leading_dims(rule):
    rng = np.random.default_rng(5)
    shapes = {"W1": (4, 6), "W2": (5, 4), "Q": (4, 2), "P": (2, 5), "B": (4, 5)}
    start = {k: 0.3 * rng.standard_normal((3, *v)) for k, v in shapes.items()}
    s = rng.uniform(1, 2, (3, 4))
    curves = theory.integrate_modes(start, s, rule, num_steps=50, record_every=20)
    assert curves.step.tolist() == [0, 20, 40, 50]
    alone = theory.integrate_modes(
        {k: v[1] for k, v in start.items()}, s[1], rule, num_steps=50, record_every=20
    )
    np.testing.assert_allclose(curves.overlap[1], alone.overlap, atol=1e-14)
    for name in RULES[rule]:
        with pytest.raises(ValueError, match=f"misses {name}"):
            theory.integrate_modes({k: v for k, v in start.items() if k != name}, s, rule)


def test_what_diverges_is_nan_from_there_on():
    rng = np.random.default_rng(7)
    start = {"W1": rng.standard_normal((4, 6)), "W2": rng.standard_normal((5, 4))}
    overlap = theory.integrate_modes(start, np.ones(3), "BP", learning_rate=3, num_steps=99).overlap
    finite = np.isfinite(overlap).all(-1)
    assert finite[0]
    assert not finite[-1]
    assert np.isnan(overlap[~finite]).all()
    assert (np.diff(finite.astype(int)) <= 0).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.saxe_mode(1.0, 0.0, 0.1), "singular_value=0.0 must be positive"),
        (lambda: theory.saxe_mode(1.0, 1.0, 0.0), "start=0.0"),
        (lambda: theory.saxe_mode(1.0, 1.0, 0.1, time_constant=0), "time_constant=0"),
        (lambda: theory.fixed_feedback_endpoint(np.eye(2), np.ones(0)), "at least one"),
        (lambda: theory.fixed_feedback_endpoint(np.eye(2), np.array([1.0, 0.0])), "positive"),
        (lambda: theory.fixed_feedback_endpoint(np.eye(2), np.ones(3)), "at least 3 columns"),
        (lambda: theory.oja_flow(np.eye(2), np.eye(3), 1.0), r"must be \(2, 2\)"),
        (lambda: theory.oja_flow(np.eye(2), np.array([[1.0, 1], [0, 1]]), 1.0), "symmetric"),
        (lambda: theory.oja_flow(np.eye(2), np.eye(2), -1.0), "time=-1.0"),
        (
            lambda: theory.kolen_pollack_gap(np.ones(1), 1, learning_rate=2, weight_decay=1),
            "must be at most 1",
        ),
        (
            lambda: theory.kolen_pollack_gap(np.ones(1), 1, learning_rate=-1, weight_decay=-1),
            "learning_rate=-1",
        ),
        (lambda: theory.saxe_mode(np.array([0.0, -1.0]), 1.0, 0.1), "time=.* at least 0"),
        (lambda: theory.fixed_feedback_endpoint(np.eye(2) * np.nan, np.ones(2)), "p must hold"),
        (lambda: theory.oja_flow(np.ones(2), np.eye(2), 1.0), r"p of shape \(2,\)"),
        (lambda: theory.oja_flow(np.eye(2) * np.nan, np.eye(2), 1.0), "finite"),
        (lambda: theory.oja_flow(np.eye(2), np.eye(2), np.inf), "time=inf"),
        (lambda: theory.oja_flow(np.ones((1, 2)), np.diag([1.0, -1]), 1.0), "eigenvalue, not -1"),
        (lambda: theory.scalar_fa(0, 1), "singular_value=0"),
        (lambda: theory.scalar_fa(1, 0), "feedback=0"),
        (lambda: theory.scalar_fa(1, 1, b=np.nan), "b=nan"),
        (lambda: theory.scalar_normative(np.ones(0), 1), "must increase"),
        (lambda: theory.scalar_normative(np.zeros(1), 1), "must increase"),
        (lambda: theory.scalar_normative(np.array([2.0, 1.0]), 1), "must increase"),
        (lambda: theory.scalar_normative(np.ones(1), -1), "singular_value=-1"),
        (lambda: theory.scalar_normative(np.ones(1), 1, rate=-1), "rate=-1"),
        (lambda: theory.scalar_normative(np.ones(1), 1, q=0, p=0), "never learns"),
        (lambda: theory.integrate_modes({}, np.ones(1), "DFA"), "rule='DFA'"),
        (lambda: theory.integrate_modes({}, np.ones(0), "BP"), "at least one"),
        (lambda: integrate(singular_values=np.ones(3)), "3 must be at most 2"),
        (lambda: integrate("low-rank FA", Q=np.ones((2, 1)), P=np.ones((1, 3))), "P of shape"),
        (lambda: integrate("FA", B=np.ones((2, 3))), "B of shape"),
        (lambda: integrate(W2=np.ones((2, 3))), "W2 of shape"),
        (lambda: integrate(record_every=0), "record_every=0"),
        (lambda: integrate(num_steps=-1), "num_steps=-1"),
        (lambda: integrate(learning_rate=-1), "learning_rate=-1"),
        (lambda: integrate(weight_decay=float("nan")), "weight_decay=nan"),
        (lambda: integrate(feedback_decay=1.1), "feedback_decay=1.1"),
        (lambda: theory.in_mode_frame([np.eye(2)], None, None, np.eye(2), np.eye(2)), "not 1"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def integrate(rule="BP", singular_values=np.ones(2), W1=np.eye(2), W2=np.eye(2), Q=None, P=None,
              B=None, **settings):  # fmt: skip
    matrices = {"W1": W1, "W2": W2, "Q": Q, "P": P, "B": B}
    start = {name: matrix for name, matrix in matrices.items() if matrix is not None}
    return theory.integrate_modes(start, singular_values, rule, **{"num_steps": 2} | settings)
