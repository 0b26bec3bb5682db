"""Curl descent: the update against autograd and numpy, invariances, bookkeeping, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_batch, curl_descent

SMALL = StudentTeacher(6, 5, 2, num_train=12, num_test=7)
PLAIN = CurlTraining(num_steps=1, norm="none", stop_below=None)


def autograd(problem, output_derivative=True):
    """Return the gradients of ½ squared error, mean over samples, summed over outputs."""
    act = {"linear": lambda x: x, "tanh": torch.tanh, "relu": torch.relu}
    phi, phi_out = act[problem.activation], act[problem.output_activation or problem.activation]
    x = torch.tensor(problem.train_inputs(0))
    teacher = [torch.tensor(w) for w in problem.teacher(0)]
    student = [torch.tensor(w).requires_grad_() for w in problem.student(0)]
    target = phi_out(teacher[1] @ phi(teacher[0] @ x))
    drive = student[1] @ phi(student[0] @ x)
    loss = 0.5 * (phi_out(drive) - target).square().mean(1).sum()
    if not output_derivative:
        error = (phi_out(drive) - target).detach() / x.shape[1]
        loss = (error * drive).sum()  # the delta rule
    return [g.numpy() for g in torch.autograd.grad(loss, student)]


def first_update(problem, flips, training):
    result = curl_descent(problem, [flips], training, seeds=(0,), keep_weights=True)
    return [
        (result[f"weight_{k}_end"] - result[f"weight_{k}_start"]).values[0, 0]
        / training.learning_rate
        for k in (1, 2)
    ]


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("output", [None, "linear"])
def test_without_flips_it_is_the_gradient_and_with_all_its_negative(activation, output):
    problem = replace(SMALL, activation=activation, output_activation=output)
    for derivative in (True, False):
        training = replace(PLAIN, output_derivative=derivative)
        for flips, sign in ((Flips(), -1), (Flips(1.0, 1.0), 1), (Flips(6, 5, strength=0.5), 0)):
            update = first_update(problem, flips, training)
            for found, gradient in zip(update, autograd(problem, derivative), strict=True):
                np.testing.assert_allclose(found, sign * gradient, rtol=1e-12, atol=1e-12)


def test_flips_are_columns_of_the_update_or_rows():
    problem = replace(SMALL, activation="tanh", output_activation="linear")
    g1, g2 = autograd(problem)
    columns = first_update(problem, Flips(hidden=(1, 4), readout=2, strength=0.75), PLAIN)
    np.testing.assert_allclose(columns[0], -g1 * [1, -0.5, 1, 1, -0.5, 1], atol=1e-12)
    np.testing.assert_allclose(columns[1], -g2 * [-0.5, -0.5, 1, 1, 1], atol=1e-12)
    rows = first_update(problem, Flips(hidden=(3,), readout=0.5, side="postsynaptic"), PLAIN)
    np.testing.assert_allclose(rows[0], -g1 * np.array([1, 1, 1, -1, 1])[:, None], atol=1e-12)
    np.testing.assert_allclose(rows[1], -g2 * np.array([-1, 1])[:, None], atol=1e-12)


def numpy_run(problem, d1, d2, training, seed):
    """Return the losses after every step, by the equations once more."""
    phi, slope = {
        "linear": (lambda x: x, np.ones_like),
        "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    }[problem.activation]
    x, x_test = problem.train_inputs(seed), problem.test_inputs(seed)
    t1, t2 = problem.teacher(seed)
    w1, w2 = problem.student(seed)
    size1, size2 = np.linalg.norm(w1), np.linalg.norm(w2)
    losses = []
    for _ in range(training.num_steps + 1):
        a = w1 @ x
        e = phi(w2 @ phi(a)) - phi(t2 @ phi(t1 @ x))
        e_test = phi(w2 @ phi(w1 @ x_test)) - phi(t2 @ phi(t1 @ x_test))
        losses.append((0.5 * (e**2).mean(), 0.5 * (e_test**2).mean()))
        back = w2.T if training.feedback == "gradient" else problem.feedback(seed)
        w1, w2 = (
            w1 - training.learning_rate * (back @ e * slope(a)) @ x.T * d1 / x.shape[1],
            w2 - training.learning_rate * e @ phi(a).T * d2 / x.shape[1],
        )
        w1, w2 = w1 * size1 / np.linalg.norm(w1), w2 * size2 / np.linalg.norm(w2)
    return np.array(losses)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("feedback", ["gradient", "direct"])
def test_a_run_is_that_of_the_equations(activation, feedback):
    problem = replace(SMALL, activation=activation, gain=2.0)
    training = CurlTraining(num_steps=40, feedback=feedback, num_records=100, stop_below=None)
    result = curl_descent(problem, [Flips(), Flips(2, 1)], training, seeds=(3, 5))
    assert result.step.values.tolist()[:4] == [0, 1, 2, 3]
    for i, (d1, d2) in enumerate([(1, 1), ([-1, -1, 1, 1, 1, 1], [-1, 1, 1, 1, 1])]):
        for k, seed in enumerate((3, 5)):
            expected = numpy_run(problem, d1, d2, training, seed)[result.step]
            run = result.isel(flip=i, seed=k)
            np.testing.assert_allclose(run.train_loss, expected[:, 0], rtol=1e-9)
            np.testing.assert_allclose(run.test_loss, expected[:, 1], rtol=1e-9)


def test_norms_are_kept_per_layer_or_per_row():
    problem = replace(SMALL, activation="tanh")
    for norm, dims in (("frobenius", (-2, -1)), ("rows", -1)):
        training = CurlTraining(num_steps=30, norm=norm)
        result = curl_descent(problem, [Flips(0.5, 0.5)], training, seeds=(0, 1), keep_weights=True)
        for k in (1, 2):
            before, after = (result[f"weight_{k}_{when}"].values for when in ("start", "end"))
            assert np.abs(after - before).max() > 1e-3
            np.testing.assert_allclose(
                np.linalg.norm(after, axis=dims), np.linalg.norm(before, axis=dims), rtol=1e-12
            )
            found = np.linalg.norm(after, axis=(-2, -1))
            np.testing.assert_allclose(result[f"weight_norm_{k}"], found, rtol=1e-12)


UNCHECKED = getattr(curl_descent, "__wrapped__", curl_descent)  # without the tests' type checks
FLIPS = [Flips(), Flips(hidden=3), Flips(hidden=0.5, readout=0.5), Flips(readout=1)]
CASES = [
    (replace(SMALL, activation="tanh", gain=2), None),
    (replace(SMALL, activation="tanh"), 5),
    (SMALL, None),
    (replace(SMALL, num_train=None, num_test=None), None),
]


@pytest.mark.parametrize(("problem", "batch_size"), CASES)
def test_a_run_does_not_depend_on_the_batch(problem, batch_size, monkeypatch):
    training = CurlTraining(num_steps=25, batch_size=batch_size, stop_below=None)
    together = curl_descent(problem, FLIPS, training, seeds=(4, 2, 9), keep_weights=True)
    alone = curl_descent(problem, [FLIPS[2]], training, seeds=(2,), keep_weights=True)
    monkeypatch.setattr(curl_batch, "CACHE_BYTES", 1.0)  # one run at a time
    in_turn = curl_descent(problem, FLIPS, training, seeds=(4, 2, 9), keep_weights=True)
    xr.testing.assert_allclose(together.isel(flip=[2]).sel(seed=[2]), alone, rtol=1e-11, atol=1e-14)
    xr.testing.assert_allclose(together, in_turn, rtol=1e-11, atol=1e-14)


def test_runs_that_are_done_leave_without_a_trace():
    problem = StudentTeacher(6, 20, num_train=None, num_test=None)
    training = CurlTraining(num_steps=500, stop_below=1e-8, check_every=5)
    stopped = curl_descent(problem, FLIPS, training, seeds=(0, 1, 2), keep_weights=True)
    full = curl_descent(problem, FLIPS, replace(training, stop_below=None), seeds=(0, 1, 2))
    done = stopped.stopped_at.notnull()
    assert 6 <= int(done.sum()) < done.size
    assert len(np.unique(stopped.stopped_at.values[done.values])) > 3
    before = (stopped.step <= stopped.stopped_at) | ~done
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(
            stopped[name].where(before), full[name].where(before), rtol=1e-10
        )
        last = stopped[name].where(before, stopped["final_" + name.replace("train_", "")])
        np.testing.assert_array_equal(stopped[name], last)
    assert bool((stopped.final_loss.where(done) < 1e-8).all() == done.all())
    np.testing.assert_array_equal(stopped.wandering.values[done.values], 0)
    np.testing.assert_array_equal(stopped.hit_step, full.hit_step)
    for k, seed in enumerate((0, 1, 2)):
        w1, w2 = (stopped[f"weight_{layer}_end"].values[:, k] for layer in (1, 2))
        hidden, readout = problem.teacher(seed)
        error = (w2 @ w1 - readout @ hidden)[:, 0]
        loss = 0.25 * (error**2).sum(1)
        np.testing.assert_allclose(loss, stopped.final_loss[:, k], rtol=1e-6)


def test_a_pass_in_batches_is_a_full_step_where_steps_are_small():
    problem = replace(SMALL, activation="tanh")
    small = CurlTraining(1e-4, num_steps=1, norm="none", stop_below=None)
    passes = [
        first_update(problem, Flips(hidden=2), replace(small, batch_size=size))
        for size in (None, 12, 4, 5)
    ]
    for k in (0, 1):
        np.testing.assert_allclose(passes[1][k], passes[0][k], rtol=1e-10, atol=1e-12)
        for other in passes[2:]:
            np.testing.assert_allclose(other[k], passes[0][k], atol=1e-3)
            assert np.abs(other[k] - passes[0][k]).max() > 1e-8


def test_what_a_seed_draws_does_not_depend_on_other_settings():
    problem = replace(SMALL, start="teacher", perturbation=1e-3, perturbed="readout")
    teacher, student = problem.teacher(7), problem.student(7)
    np.testing.assert_array_equal(student.hidden, teacher.hidden)
    assert 1e-4 < np.abs(student.readout - teacher.readout).max() < 1e-2
    more = replace(problem, num_train=20, gain=3.0, teacher_gain=1.0, start="random")
    np.testing.assert_array_equal(more.train_inputs(7)[:, :12], problem.train_inputs(7))
    np.testing.assert_array_equal(more.teacher(7).hidden, teacher.hidden)
    assert np.abs(more.student(7).hidden).max() <= 3 / np.sqrt(6)
    assert not np.allclose(more.teacher(8).hidden, teacher.hidden)
    unit = replace(problem, unit_norms=True, distribution="normal").teacher(0)
    np.testing.assert_allclose([np.linalg.norm(w) for w in unit], np.sqrt([5, 2]))
    assert abs(replace(problem, num_inputs=500).train_inputs(0).var() - 0.5) < 0.05


def test_divergence_is_a_result():
    problem = StudentTeacher(6, 5, num_train=None, num_test=None, gain=2.0)
    training = CurlTraining(40.0, num_steps=200, norm="none")
    with pytest.warns(
        RuntimeWarning, match=r"learning_rate=40 is too large for 4 of 4 runs: .* 2$"
    ):
        result = curl_descent(problem, [Flips(), Flips(hidden=2)], training, seeds=(0, 1))
    assert bool((result.diverged_at <= 60).all())
    assert bool(result.final_loss.isnull().all())
    assert bool(result.wandering.isnull().all())
    late = result.step >= result.diverged_at
    np.testing.assert_array_equal(
        result.train_loss.isnull(), late.transpose("flip", "seed", "step")
    )
    assert bool((result.step_size_number > 2).all())


@pytest.mark.parametrize("num_train", [None, 12])
def test_the_number_of_the_warning(num_train):
    """η times the largest variance of the inputs times the squared operator norms."""
    problem = StudentTeacher(6, 5, num_train=num_train, num_test=None)
    training = CurlTraining(num_steps=1)
    result = curl_descent(problem, [Flips()], training, seeds=(0,), keep_weights=True)
    x = problem.train_inputs(0)
    variance = 0.5 if x is None else np.linalg.eigvalsh(x @ x.T / num_train)[-1]
    numbers = [
        0.1
        * variance
        * sum(np.linalg.norm(result[f"weight_{k}_{when}"][0, 0], 2) ** 2 for k in (1, 2))
        for when in ("start", "end")
    ]
    np.testing.assert_allclose(result.step_size_number, max(numbers), rtol=1e-12)


def test_labels_and_units():
    result = curl_descent(SMALL, FLIPS, CurlTraining(num_steps=20, num_records=5), seeds=(0, 1))
    assert result.flip.values.tolist() == [
        "no flips",
        "hidden 3/6",
        "hidden 3/6, readout 2/5",
        "readout 1/5",
    ]
    np.testing.assert_allclose(result.hidden_flips, [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(result.readout_flips, [0, 0, 0.4, 0.2])
    assert result.train_loss.dims == ("flip", "seed", "step")
    assert all({"units", "long_name"} <= v.attrs.keys() for v in result.variables.values())
    assert result.attrs["references"] == "arXiv:2510.02765"
    assert Flips(readout=0.5, side="postsynaptic", strength=0.5).label(6, 5, 2) == (
        "readout 1/2, postsynaptic, frozen"
    )
    assert Flips(hidden=(0, 2), readout=1).label(6, 5, 2) == "hidden 2/6 (0, 2), readout 1/5"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flips(hidden=1.5), "hidden=1.5 must be a fraction from 0 to 1"),
        (lambda: Flips(readout=-0.1), "readout=-0.1 must be a fraction"),
        (lambda: Flips(readout=True), "readout=True must be a fraction"),
        (lambda: Flips(hidden=float("nan")), "hidden=nan must be a fraction"),
        (lambda: Flips(hidden=(1, 1)), "must be different indices"),
        (lambda: Flips(strength=2), "strength=2 must lie from 0 to 1"),
        (lambda: Flips(hidden=7).signs(6, 5, 2), "hidden=7 must choose among 6 neurons"),
        (lambda: Flips(readout=(5,)).signs(6, 5, 2), r"readout=\(5,\) must choose among 5"),
        (lambda: StudentTeacher(0), "num_inputs=0 must be at least 1"),
        (lambda: StudentTeacher(gain=-1.0), "gain=-1.0 must be above 0"),
        (lambda: StudentTeacher(activation="tanh", num_train=None), "num_train=None .* linear"),
        (lambda: StudentTeacher(perturbation=-1.0), "perturbation=-1.0 must be at least 0"),
        (lambda: CurlTraining(learning_rate=0.0), "learning_rate=0.0 must be above 0"),
        (lambda: CurlTraining(num_steps=0), "num_steps=0 must be at least 1"),
        (lambda: CurlTraining(learning_rate=float("nan")), "learning_rate=nan must be above 0"),
        (
            lambda: curl_descent(SMALL, [Flips()], seeds=(0, -1)),
            r"seeds=\(0, -1\) must be different",
        ),
        (
            lambda: curl_descent(SMALL, [Flips()], dtype=torch.float16),
            "dtype=torch.float16 must be one of torch.float32, torch.float64",
        ),
        (lambda: curl_descent(SMALL, [Flips(), Flips(hidden=0.01)]), "flips must be different"),
        (lambda: UNCHECKED(SMALL, Flips()), r"flips=Flips\(.* must be a list"),
        (lambda: UNCHECKED(SMALL, [Flips()], seeds=3), "seeds=3 must be a list"),
        (lambda: curl_descent(SMALL, []), "must name at least one condition"),
        (lambda: curl_descent(SMALL, [Flips()], seeds=()), r"seeds=\(\) must be different"),
        (lambda: curl_descent(SMALL, [Flips()], seeds=(1, 1)), r"seeds=\(1, 1\) must be different"),
        (
            lambda: curl_descent(replace(SMALL, start="teacher", perturbation=0.0), [Flips()]),
            "stop_below=1e-20 must lie below the loss at the start",
        ),
        (
            lambda: curl_descent(
                replace(SMALL, num_train=None), [Flips()], CurlTraining(batch_size=4)
            ),
            "batch_size needs samples",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Flips(), "side"),
        (SMALL, "activation"),
        (SMALL, "output_activation"),
        (SMALL, "distribution"),
        (SMALL, "start"),
        (SMALL, "perturbed"),
        (PLAIN, "norm"),
        (PLAIN, "feedback"),
    ],
)
def test_unknown_names(settings, name):
    unchecked = object.__new__(type(settings))  # the type checker of the tests comes first
    unchecked.__dict__.update(vars(settings) | {name: "other"})
    with pytest.raises(ValueError, match=f"{name}='other' must be"):
        unchecked.__post_init__()


@pytest.mark.parametrize(
    ("settings", "name"), [(SMALL, "num_hidden"), (SMALL, "num_train"), (PLAIN, "num_steps")]
)
@pytest.mark.parametrize("size", [2.5, float("nan")])
def test_sizes_that_are_not_whole(settings, name, size):
    unchecked = object.__new__(type(settings))
    unchecked.__dict__.update(vars(settings) | {name: size})
    with pytest.raises(ValueError, match=f"{name}={size} must be at least 1, and whole"):
        unchecked.__post_init__()
