"""Theory over one's own simulation: same labels, same start, and what it does not know."""

import numpy as np
import pytest

from neurofb.dynamics import (
    RULES,
    LinearCondition,
    LinearTraining,
    initial_weights,
    random_task,
    simulate_linear,
)
from neurofb.mode_theory import mode_theory

TASK = random_task(8, 6, 3, num_samples=None, seeds=(3, 5))
TRAINING = LinearTraining(hidden=(7,), num_steps=205, record_every=50, gradient_clip=None)
CONDITIONS = [
    LinearCondition(rule=rule, rank=2 if RULES[rule].map == "low-rank" else None) for rule in RULES
]


def test_it_is_the_simulation_where_nothing_is_left_out():
    found = simulate_linear(TASK, CONDITIONS, TRAINING)
    theory = mode_theory(TASK, CONDITIONS, TRAINING)
    assert theory.dims == found["overlap"].dims
    for dim in theory.dims:
        np.testing.assert_array_equal(theory[dim], found[dim])
    assert float(found["overlap"].max()) > 0.1
    np.testing.assert_allclose(theory, found["overlap"], atol=1e-10)
    found["overlap_theory"] = theory
    assert found["overlap_theory"].attrs["units"] == "1"
    assert found["rank"].dims == ("condition",)


def test_it_starts_where_it_is_told():
    starts = initial_weights(TASK, CONDITIONS, TRAINING)
    halves = [start._replace(weights=tuple(w / 2 for w in start.weights)) for start in starts]
    found = simulate_linear(TASK, CONDITIONS, TRAINING, starts=halves)
    theory = mode_theory(TASK, CONDITIONS, TRAINING, starts=halves)
    np.testing.assert_allclose(theory, found["overlap"], atol=1e-10)
    assert float(abs(theory - mode_theory(TASK, CONDITIONS, TRAINING)).max()) > 1e-3


def test_there_is_no_theory_of_normalising():
    pair = [
        LinearCondition(rule="LDFA Oja error", rank=2, normalise=normalise, name=str(normalise))
        for normalise in (True, False)
    ]
    theory = mode_theory(TASK, pair, TRAINING)
    assert theory.sel(condition="True").isnull().all()
    assert theory.sel(condition="False").notnull().all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"hidden=\(7, 7\) must be one layer"):
        mode_theory(TASK, CONDITIONS, LinearTraining(hidden=(7, 7)))
    with pytest.raises(ValueError, match="at least one"):
        mode_theory(TASK, [], TRAINING)
    with pytest.raises(ValueError, match="different names"):
        mode_theory(TASK, CONDITIONS[:1] * 2, TRAINING)
    starts = initial_weights(TASK, CONDITIONS, TRAINING)
    with pytest.raises(ValueError, match="one a condition, 8, not 1"):
        mode_theory(TASK, CONDITIONS, TRAINING, starts=starts[:1])
