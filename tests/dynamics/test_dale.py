"""Excitatory and inhibitory cells: one rule for all is curl descent, a signed one is descent."""

from dataclasses import dataclass

import numpy as np
import pytest

from neurofb.dynamics import CurlTraining, Dale, Flips, StudentTeacher, curl_descent, dale_descent
from neurofb.dynamics.student_teacher import Weights

CELLS = {"hidden": 2, "readout": 0.4}


@dataclass(frozen=True)
class SignedStart(StudentTeacher):
    """Starts with the signs of the cells, so that curl descent can start there too."""

    def student(self, seed):
        hidden, readout = super().student(seed)
        (_, d1), (_, d2) = Flips(**CELLS).signs(*self.sizes)
        return Weights(np.abs(hidden) * d1, np.abs(readout) * d2)


TANH = SignedStart(6, 5, 2, activation="tanh", num_train=15, num_test=9)
LINEAR = SignedStart(6, 5, num_train=None, num_test=None)


@pytest.mark.parametrize("problem", [TANH, LINEAR])
@pytest.mark.parametrize("norm", ["none", "frobenius"])
def test_one_rule_for_all_is_curl_descent(problem, norm):
    training = CurlTraining(num_steps=50, norm=norm, stop_below=None)
    cells = [Dale(**CELLS, sign_in_update=signed, clip=False) for signed in (False, True)]
    settings = {"seeds": (0, 1), "keep_weights": True}
    found = dale_descent(problem, cells, training, **settings)
    expected = curl_descent(problem, [Flips(**CELLS), Flips()], training, **settings)
    assert (abs(found.final_loss[0] - found.final_loss[1]) > 1e-5).all()
    for name, value in expected.data_vars.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-14, err_msg=name)


def test_clipped_synapses_never_change_sign():
    training = CurlTraining(num_steps=400)
    cells = [
        Dale(**CELLS, sign_in_update=signed, clip=clip)
        for signed in (False, True)
        for clip in (False, True)
    ]
    result = dale_descent(TANH, cells, training, seeds=(0, 1), keep_weights=True)
    signs = Flips(**CELLS).signs(*TANH.sizes)
    for condition, clipped in enumerate((False, True, False, True)):
        lowest = min(
            float((result[f"weight_{k}_end"][condition] * signs[k - 1].columns).min())
            for k in (1, 2)
        )
        assert (lowest >= 0) == clipped
    np.testing.assert_array_equal(result.clipped, [False, True, False, True])
    np.testing.assert_array_equal(result.sign_in_update, [False, False, True, True])
    np.testing.assert_allclose(result.readout_inhibition, 0.4)


def test_cells_without_inhibition_are_excitatory():
    result = dale_descent(TANH, [Dale()], CurlTraining(num_steps=1), seeds=(0,), keep_weights=True)
    assert result.flip.item() == "no inhibition, signed updates, clipped"
    assert (result.weight_1_start >= 0).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"hidden=1.2 must be a fraction"):
        Dale(hidden=1.2)
    with pytest.raises(ValueError, match=r"readout=6 must choose among 5"):
        dale_descent(TANH, [Dale(readout=6)])
    with pytest.raises(ValueError, match=r"cells=\[\] must name at least one condition"):
        dale_descent(TANH, [])
