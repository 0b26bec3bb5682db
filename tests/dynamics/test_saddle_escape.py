"""One flipped readout neuron takes a tanh student past its saddle (arXiv:2510.02765, Fig. 5)."""

import numpy as np
import pytest
import torch

from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent


@pytest.mark.slow
def test_one_flip_solves_in_less_than_half_the_steps():
    problem = StudentTeacher(
        100, 10, activation="tanh", gain=4.0, teacher_gain=1.0, num_train=2000, num_test=500
    )
    training = CurlTraining(0.5, num_steps=2000, stop_below=6e-4)
    result = curl_descent(
        problem, [Flips(), Flips(readout=1)], training, seeds=range(5), dtype=torch.float32
    )
    # a run that was cut short took longer than all of it
    steps = result.hit_step.fillna(np.inf).values
    assert np.median(steps[1]) < 0.5 * np.median(steps[0])
    assert (steps[1] < steps[0]).sum() >= 4
