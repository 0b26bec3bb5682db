"""Curl descent where mathematics knows the motion: scalars, conserved blocks, growth rates."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent
from neurofb.dynamics.student_teacher import Weights

POPULATION = {"num_train": None, "num_test": None}


@dataclass(frozen=True)
class Scalars(StudentTeacher):
    """One input of variance 1: y = Σ v_j w_j x is to become t x; seed k has the k-th numbers."""

    v: tuple[tuple[float, ...], ...] = ()
    w: tuple[tuple[float, ...], ...] = ()
    targets: tuple[float, ...] = ()

    def teacher(self, seed):
        share = self.targets[seed] / self.num_hidden
        return Weights(np.full((self.num_hidden, 1), share), np.ones((1, self.num_hidden)))

    def student(self, seed):
        return Weights(np.array(self.w[seed])[:, None], np.array(self.v[seed])[None])


def motion(v, w, targets, flips, *, rate, time, stop_below=9e-4, check_every=2):
    problem = Scalars(1, len(v[0]), input_variance=1.0, **POPULATION, v=v, w=w, targets=targets)
    training = CurlTraining(
        rate,
        num_steps=round(time / rate),
        norm="none",
        check_every=check_every,
        stop_below=stop_below,
    )
    seeds = range(len(v))
    result = curl_descent(problem, flips, training, seeds=seeds, keep_weights=True)
    return result.squeeze(("channel", "output"), drop=True)


def test_a_flip_passes_the_saddle():
    """Times to a loss of 10⁻³ from v = −1 + ε, w = 1; t = ½: exact quadrature."""
    epsilons = (0.1, 0.01, 1e-4, 0.0)
    starts = tuple((-1 + eps,) for eps in epsilons)
    flips = [Flips(), Flips(readout=1)]
    result = motion(starts, ((1.0,),) * 4, (0.5,) * 4, flips, rate=4e-3, time=20.6)
    times = 4e-3 * result.hit_step
    np.testing.assert_allclose(times[0, :3], [6.5106, 11.1303, 20.3357], rtol=5e-3)
    np.testing.assert_allclose(times[1], [2.2737, 2.0661, 2.0448, 2.0446], rtol=8e-3)
    # on the saddle's stable manifold descent never solves
    np.testing.assert_array_equal(result.censored, [[False] * 3 + [True], [False] * 4])
    np.testing.assert_allclose(result.final_loss[0, 3], 0.125, rtol=1e-3)


def test_the_loss_rises_before_the_flip_solves():
    flips = [Flips(), Flips(readout=1)]
    result = motion(((-0.9,),), ((1.1,),), (0.5,), flips, rate=2e-3, time=6.0)
    np.testing.assert_allclose(result.train_loss[:, 0, 0], 1.11005, rtol=1e-4)
    np.testing.assert_allclose(result.loss_rise[:, 0], [1, 1.1403 / 1.11005], rtol=5e-4)
    np.testing.assert_allclose(2e-3 * result.hit_step[:, 0], [4.922, 2.093], rtol=4e-3)


def test_what_scalar_motion_conserves():
    """w² − v² under descent, v² + w² under the flip, up to the size of the steps."""
    drifts = []
    for rate in (1e-2, 1e-3):
        flips = [Flips(), Flips(readout=1)]
        result = motion(((-0.9,),), ((1.1,),), (0.5,), flips, rate=rate, time=1.5)
        start, end = (
            (result[f"weight_1_{when}"] ** 2).values[:, 0, 0]
            + [-1, 1] * (result[f"weight_2_{when}"] ** 2).values[:, 0, 0]
            for when in ("start", "end")
        )
        drifts.append(np.abs(end - start))
    assert drifts[1].max() < 5e-3
    assert (7 < drifts[0] / drifts[1]).all()
    assert (drifts[0] / drifts[1] < 14).all()


def test_two_neurons_end_where_theory_says():
    result = motion(
        ((0.3, 0.8),),
        ((0.2, 0.6),),
        (1.0,),
        [Flips(readout=(1,))],
        rate=1e-3,
        time=5.0,
        stop_below=1e-10,
        check_every=100,
    )
    np.testing.assert_allclose(result.weight_2_end[0, 0], [1.22826, -0.61011], atol=2e-3)
    np.testing.assert_allclose(result.weight_1_end[0, 0], [1.20773, 0.79231], atol=2e-3)
    np.testing.assert_allclose(-result.eigenvalue_end, 2.7117, rtol=3e-3)


def test_all_flipped_solves_only_within_the_circle_and_one_unflipped_always_does():
    """|p| ≤ Σ (v² + w²)/2 if every pair rotates; one pair that does not is unbounded."""
    v, w = (0.3, 0.8), (0.2, 0.6)
    radius = 0.5 * sum(x**2 for x in v + w)
    targets = (1.7, -1.7, 0.4)
    assert radius < 1.7
    flips = [Flips(readout=1.0), Flips(readout=1), Flips(readout=(1,))]
    result = motion(
        (v,) * 3, (w,) * 3, targets, flips, rate=2e-3, time=12.0, stop_below=1e-10, check_every=50
    )
    np.testing.assert_array_equal(result.censored[0], [True, True, False])
    assert (result.final_loss[0, :2] > 0.5 * (1.7 - radius) ** 2 - 0.05).all()
    assert (result.final_loss[1:] < 1e-8).all()
    assert result.final_loss[0, 2] < 1e-8


def test_blocks_of_the_same_sign_are_conserved():
    """C = W1 D1 W1ᵀ − W2ᵀ W2 D2 between neurons of one sign; others change."""
    problem = StudentTeacher(5, 6, 1, gain=1.5, input_variance=1.0, **POPULATION)
    flips = [Flips(), Flips(hidden=2), Flips(readout=3), Flips(1, 2)]
    drifts, others = [], []
    for rate in (1e-3, 1e-4):
        training = CurlTraining(rate, num_steps=round(0.5 / rate), norm="none", check_every=1000)
        result = curl_descent(problem, flips, training, seeds=(1,), keep_weights=True).isel(seed=0)
        drift, other = [], []
        for condition in range(len(flips)):
            (_, d1), (_, d2) = flips[condition].signs(*problem.sizes)
            blocks = []
            for when in ("start", "end"):
                w1, w2 = (result[f"weight_{k}_{when}"].values[condition] for k in (1, 2))
                blocks.append(w1 * d1 @ w1.T - w2.T @ w2 * d2)
            change = np.abs(blocks[1] - blocks[0])
            same = d2[:, None] == d2
            drift.append(change[same].max())
            other.append(change[~same].max() if (~same).any() else np.inf)
        drifts.append(np.array(drift))
        others.append(np.array(other))
    assert (drifts[1] < 1e-3).all()
    ratio = drifts[0] / drifts[1]
    assert (8 < ratio).all()
    assert (ratio < 12.5).all()
    assert (np.minimum(*others) > 20 * drifts[0]).all()
    assert np.isfinite(others[0]).sum() == 2


@pytest.mark.parametrize(("hidden", "readout"), [(0.3, 0.0), (1.0, 0.0), (0.0, 0.4), (0.2, 0.1)])
def test_near_the_teacher_the_error_moves_at_the_largest_eigenvalue(hidden, readout):
    """The loss goes with the square of the error, and inputs have variance ½."""
    problem = StudentTeacher(10, 40, start="teacher", perturbation=1e-6, unit_norms=True)
    problem = replace(problem, **POPULATION)
    flips = [Flips(hidden, readout)]
    probe = curl_descent(problem, flips, CurlTraining(num_steps=1), seeds=(0,))
    expected = 2 * np.log1p(0.05 * 0.5 * probe.eigenvalue_start.item())
    num_steps = round(14 / abs(expected))  # the loss changes a million times
    training = CurlTraining(0.05, num_steps, 400, norm="none", stop_below=None)
    loss = curl_descent(problem, flips, training, seeds=(0,)).train_loss[0, 0]
    last, before = loss[-1], loss.where(loss.step < 0.9 * num_steps, drop=True)[-1]
    found = float(np.log(last / before) / (last.step - before.step))
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_eigenvalues_are_those_of_the_matrix():
    problem = StudentTeacher(8, 12, **POPULATION)
    w1, w2 = problem.student(0)
    for flips, feedback in (
        (Flips(0.3, 0.2), "gradient"),
        (Flips(3, 1, side="postsynaptic", strength=0.8), "gradient"),
        (Flips(0.3, 0.2), "direct"),
    ):
        training = CurlTraining(num_steps=1, feedback=feedback)
        back = w2[0] if feedback == "gradient" else problem.feedback(0)[:, 0]
        result = curl_descent(problem, [flips], training, seeds=(0,))
        (r1, c1), (r2, c2) = flips.signs(*problem.sizes)
        # the linear map error → its rate of change, column by column, from the update itself
        flow = np.zeros((8, 8))
        for i, error in enumerate(np.eye(8)):
            change1 = -r1[:, None] * np.outer(back, error) * c1
            change2 = -r2[:, None] * (error @ w1.T)[None] * c2
            flow[:, i] = (w2 @ change1 + change2 @ w1)[0]
        largest = np.linalg.eigvals(flow).real.max()
        np.testing.assert_allclose(result.eigenvalue_start, [[largest]], rtol=1e-9)
