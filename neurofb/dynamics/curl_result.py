"""A simulated batch of curl descent as a labelled dataset."""

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

import neurofb.labels as naming
from neurofb.dynamics.curl_batch import CurlBatch
from neurofb.dynamics.curl_run import follow
from neurofb.dynamics.curl_training import CurlTraining
from neurofb.dynamics.student_teacher import StudentTeacher

_BY_RUN = {
    "hit_step": "first step with test loss below the target",
    "stopped_at": "step at which the run was done",
    "diverged_at": "step of divergence",
    "final_loss": "training loss at the end",
    "final_test_loss": "test loss at the end",
    "loss_rise": "largest training loss over the lowest one before it",
    "wandering": "variance of W1 in time over variance among its weights",
    "step_size_number": "η · input variance · (‖W1‖² + ‖W2‖²), largest seen",
}


def run_batch(
    batch: CurlBatch,
    problem: StudentTeacher,
    labels: Sequence[str],
    training: CurlTraining,
    seeds: Sequence[int],
    *,
    keep_weights: bool,
) -> xr.Dataset:
    """Run a batch and return what `neurofb.dynamics.curl_descent` describes.

    Warns
    -----
    RuntimeWarning
        If the steps of a linear student are too large.
    """
    start_time, start_cpu = time.perf_counter(), time.process_time()
    start = [w.clone() for w in batch.weights()]
    feedback = batch.feedback  # of all runs: the batch will keep that of some only
    variances = [largest_input_variance(problem, seed) for seed in seeds]
    rate = training.learning_rate * torch.tensor(variances * len(labels), dtype=torch.float64).to(
        start[0]
    )

    course = follow(
        batch,
        records=training.records(),
        check_every=training.check_every,
        target_loss=training.target_loss,
        stop_below=training.stop_below,
        step_size_number=lambda runs, *weights: rate[runs] * sum(map(squared_norm, weights)),
    )
    along = ("flip", "seed")
    shape = (len(labels), len(seeds))

    def by_run(values: Tensor, long_name: str, *dims: str) -> xr.Variable:
        table = values.reshape(*shape, *values.shape[1:])
        return naming.variable((*along, *dims), table, "1", long_name)

    end = (course.hidden, course.readout)
    variables = {
        "train_loss": by_run(course.train_loss, "training loss", "step"),
        "test_loss": by_run(course.test_loss, "test loss", "step"),
        **{name: by_run(getattr(course, name), text) for name, text in _BY_RUN.items()},
        "censored": by_run(course.hit_step.isnan(), "whether the target was never reached"),
    }
    for layer, weight in enumerate(end, start=1):
        norm = torch.linalg.matrix_norm(weight)
        variables[f"weight_norm_{layer}"] = by_run(norm, f"Frobenius norm of W{layer} at the end")
    if problem.is_linear and problem.num_outputs == 1:
        for when, weights in (("start", start), ("end", end)):
            values = largest_eigenvalue(*weights, *batch.all_factors, feedback=feedback)
            long_name = f"largest eigenvalue of the error's linearised flow at the {when}, −X"
            variables[f"eigenvalue_{when}"] = by_run(values, long_name)
    if keep_weights:
        for when, weights in (("start", start), ("end", end)):
            names = ((1, ("unit", "channel")), (2, ("output", "unit")))
            for weight, (layer, dims) in zip(weights, names, strict=True):
                long_name = f"weights W{layer} at the {when}"
                variables[f"weight_{layer}_{when}"] = by_run(weight, long_name, *dims)
    largest = float(course.step_size_number.max())
    if problem.is_linear and largest > 2:
        count = int((course.step_size_number > 2).sum())
        warnings.warn(
            f"learning_rate={training.learning_rate:g} is too large for {count} of "
            f"{course.step_size_number.numel()} runs: η · input variance · (‖W1‖² + ‖W2‖²) reached "
            f"{largest:.3g}, and steps follow the flow only below 2",
            RuntimeWarning,
            stacklevel=3,
        )
    config = {"problem": asdict(problem), "training": asdict(training), "flips": list(labels)}
    return xr.Dataset(
        variables,
        coords={
            "flip": naming.coordinate("flip", list(labels)),
            "seed": naming.coordinate("seed", list(seeds)),
            "step": naming.coordinate("step", training.records()),
        },
        attrs=naming.provenance(
            title="Curl descent of a two-layer student",
            config=json.dumps(config, default=lambda number: number.item()),
            device=str(start[0].device),
            references="arXiv:2510.02765",
            wall_seconds=time.perf_counter() - start_time,
            cpu_seconds=time.process_time() - start_cpu,
        ),
    )


def largest_eigenvalue(
    hidden: Float[Tensor, "run hidden input"],
    readout: Float[Tensor, "run 1 hidden"],
    hidden_factors: Float[Tensor, "run hidden input"],
    readout_factors: Float[Tensor, "run 1 hidden"],
    feedback: Float[Tensor, "run hidden 1"] | None = None,
) -> Float[Tensor, " run"]:
    """Return the largest eigenvalue of −X: at zero error, it is unstable if this is positive.

    ``X = Σ_j w_j² D1_j + W1ᵀ D2 W1`` with the diagonal D1_j the factors of the update of the
    synapses onto hidden neuron j (our derivation; for inputs of covariance Σ the flow of the error
    is −X Σ, whose eigenvalues have the same signs). With direct feedback B the first term is
    ``Σ_j w_j B_j D1_j``. That norms are kept is not in it. NaN where a weight is not finite.

    Examples
    --------
    >>> one = torch.ones(1, 1, 1)
    >>> largest_eigenvalue(2 * one, one, -one, one)  # −(−1 · 1² + 1 · 2²)
    tensor([-3.])
    """
    finite = (hidden.isfinite().flatten(1).all(1)) & (readout.isfinite().flatten(1).all(1))
    safe = finite[:, None, None]
    hidden, readout = torch.where(safe, hidden, 0), torch.where(safe, readout, 0)
    back = readout if feedback is None else feedback.mT
    diagonal = ((readout * back) @ hidden_factors)[:, 0]
    flow = torch.diag_embed(diagonal) + hidden.mT @ (readout_factors.mT * hidden)
    largest = -torch.linalg.eigvalsh(flow)[:, 0]
    return torch.where(finite, largest, torch.nan)


def squared_norm(weight: Float[Tensor, "run row column"]) -> Float[Tensor, " run"]:
    """Return the squared operator norm of each matrix; infinity where a weight is not finite.

    Examples
    --------
    >>> squared_norm(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]))
    tensor([16.])
    """
    finite = weight.isfinite().flatten(1).all(1)
    weight = torch.where(finite[:, None, None], weight, 0)
    gram = weight @ weight.mT if weight.shape[-2] <= weight.shape[-1] else weight.mT @ weight
    return torch.where(finite, torch.linalg.eigvalsh(gram)[:, -1], torch.inf)


def largest_input_variance(problem: StudentTeacher, seed: int) -> float:
    """Return the largest eigenvalue of the covariance of the training inputs.

    Examples
    --------
    >>> largest_input_variance(StudentTeacher(num_train=None), seed=0)
    0.5
    """
    inputs = problem.train_inputs(seed)
    if inputs is None:
        return float(problem.input_variance)
    return float(np.linalg.norm(inputs, 2) ** 2 / inputs.shape[1])


def check_runs(conditions: object, seeds: Sequence[int] | int, *, name: str = "flips") -> None:
    """Refuse a batch without a list of conditions, or seeds missing, negative or named twice.

    Parameters
    ----------
    conditions, seeds
        Of the batch.
    name
        Of the argument that lists the conditions.

    Examples
    --------
    >>> check_runs(["no flips"], (0, 1))
    """
    if not isinstance(conditions, Sequence):
        raise ValueError(f"{name}={conditions} must be a list of conditions")
    if isinstance(seeds, int | np.integer):
        raise ValueError(f"seeds={seeds} must be a list of seeds, such as ({seeds},)")
    if len(conditions) == 0:
        raise ValueError(f"{name}={conditions} must name at least one condition")
    whole = all(isinstance(seed, int | np.integer) and seed >= 0 for seed in seeds)
    if len(seeds) == 0 or not whole or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={tuple(seeds)} must be different numbers from 0 on, at least one")
