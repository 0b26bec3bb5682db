import numpy as np
import pytest
import torch

from neurofb.dynamics import CurlTraining, Flips, StudentTeacher
from neurofb.dynamics.curl_tangent import CurlMap
from neurofb.theory import eigenvalues_with_norms, linearised_eigenvalues

RATE, VARIANCE = 0.05, 0.5


@pytest.mark.parametrize(
    "flips", [Flips(), Flips(hidden=2), Flips(readout=3), Flips(hidden=1, readout=0.5)]
)
def test_they_are_what_is_not_one_in_the_jacobian_of_a_step(flips):
    sizes = {"num_inputs": 5, "num_hidden": 7, "num_train": None, "num_test": None}
    problem = StudentTeacher(**sizes, start="teacher", perturbation=0.0, distribution="normal")
    step = CurlMap(problem, [flips], CurlTraining(learning_rate=RATE), seeds=(3,))
    jacobian = torch.func.jacrev(lambda theta: step(theta[None])[0])(step.start[0]).numpy()
    found = np.linalg.eigvals(jacobian)
    # the two radial directions have 0, motion along the solutions 1
    found = found[np.argsort(abs(found - 1))][42 - 7 :]
    found = found[abs(found) > 1e-9]
    teacher = problem.teacher(3)
    d1, d2 = (layer.columns for layer in flips.signs(5, 7, 1))
    expected = eigenvalues_with_norms(teacher.hidden, teacher.readout[0], d1, d2)
    rates = np.sort_complex((found - 1) / (RATE * VARIANCE))
    np.testing.assert_allclose(rates, np.sort_complex(expected), atol=1e-9)


def test_without_flips_the_constraint_only_slows_learning_down():
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(40, 12)) / 12**0.5, rng.normal(size=40) / 40**0.5
    ones = np.ones(12), np.ones(40)
    kept = eigenvalues_with_norms(w1, w2, *ones)
    free = linearised_eigenvalues(w1, w2, *ones)
    assert (kept.real >= free - 1e-12).all()
    assert kept[0].real < 0
    assert abs(kept.imag).max() < 1e-12


def test_bad_shapes_are_refused():
    w1 = np.ones((3, 2))
    with pytest.raises(ValueError, match="neither layer all zero"):
        eigenvalues_with_norms(w1, np.zeros(3), np.ones(2), np.ones(3))
