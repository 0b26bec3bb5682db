"""Curl descent: gradient descent in which some synapses have the wrong sign, many runs at once."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

import neurofb.labels as naming
from neurofb.dynamics.curl_batch import CurlBatch
from neurofb.dynamics.curl_errors import errors_of
from neurofb.dynamics.curl_result import check_runs, run_batch
from neurofb.dynamics.curl_training import CurlTraining
from neurofb.dynamics.flips import Flips
from neurofb.dynamics.student_teacher import StudentTeacher


def curl_descent(
    problem: StudentTeacher,
    flips: Sequence[Flips],
    training: CurlTraining | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    keep_weights: bool = False,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> xr.Dataset:
    """Train a student under every choice of flips from every seed, in one tensor program.

    One step is ``W ← rescale(W − η R g C)`` in each layer, with the hand-written gradient g and the
    signs R of rows and C of columns (see `Flips`). A run's numbers do not depend on what else is in
    the batch, and all flips of a seed share teacher, start and data. A linear student learns from
    the covariance of its inputs (exact; no data in the loop), others from samples.

    Parameters
    ----------
    problem
        Sizes, activation, start, data.
    flips
        The conditions; ``Flips()`` is plain descent.
    training
        The protocol (None: `CurlTraining`'s defaults).
    seeds
        Of teacher, start and data.
    keep_weights
        Add the weights at start and end.
    dtype, device
        Of the simulation; draws are the same on all.

    Returns
    -------
    Dataset
        Dims flip, seed, step. ``train_loss`` and ``test_loss`` (½ mean squared error) at the
        recorded steps: a run that is done keeps its last loss, one that diverged has NaN. By run:
        ``hit_step`` (first step looked at with test loss below the target; NaN where ``censored``),
        ``stopped_at``, ``diverged_at``, ``final_loss``, ``final_test_loss``, ``loss_rise``,
        ``weight_norm_1``, ``weight_norm_2``, ``wandering`` (of W1, over the last 1000 steps; see
        `neurofb.dynamics.wandering`), ``step_size_number``, and for a linear student with one
        output ``eigenvalue_start`` and ``eigenvalue_end``: the largest of the linearised flow of
        the error, −X, before it is multiplied by the inputs' variance (positive: unstable);
        for the feedback in use, without the constraint on norms (see
        `neurofb.theory.eigenvalues_with_norms`).

    Raises
    ------
    ValueError
        If there are no flips or seeds, two flips have the same label (`Flips.label`: fractions are
        rounded to whole neurons), a seed comes twice or is negative, more neurons are flipped
        than there are, the loss at the start is below ``stop_below``, batches are asked for of the
        population, or `dtype` is neither float32 nor float64.

    Warns
    -----
    RuntimeWarning
        If ``η · largest eigenvalue of the input covariance · (‖W1‖² + ‖W2‖²)`` (operator norms)
        exceeds 2 in a linear student: steps are too large there for the flow that they stand for,
        and a run can end in an attractor that the flow does not have.

    Examples
    --------
    >>> problem = StudentTeacher(num_inputs=6, num_hidden=20, num_train=None, num_test=None)
    >>> training = CurlTraining(num_steps=2000)
    >>> result = curl_descent(problem, [Flips(), Flips(hidden=1)], training, seeds=(0, 1))
    >>> result.flip.values.tolist(), dict(result.censored.sizes)
    (['no flips', 'hidden 1/6'], {'flip': 2, 'seed': 2})
    >>> bool((result.final_test_loss.sel(flip="no flips") < 1e-18).all())
    True
    """
    training = training or CurlTraining()
    check_runs(flips, seeds)
    labels = [condition.label(*problem.sizes) for condition in flips]
    if len(set(labels)) < len(labels):
        raise ValueError(f"flips must be different at these sizes, not {labels}")
    errors = errors_of(
        problem,
        seeds,
        samples=training.batch_size is not None,
        output_derivative=training.output_derivative,
        dtype=dtype,
        device=device,
    )
    signs = [condition.signs(*problem.sizes) for condition in flips]
    batch = CurlBatch(problem, signs, training, seeds, errors)
    result = run_batch(batch, problem, labels, training, seeds, keep_weights=keep_weights)
    sizes = np.array([condition.among(*problem.sizes) for condition in flips])
    fractions = np.array([condition.counts(*problem.sizes) for condition in flips]) / sizes
    strength = [float(condition.strength) for condition in flips]
    along_flips = {
        "hidden_flips": (fractions[:, 0], "fraction of neurons flipped in D1"),
        "readout_flips": (fractions[:, 1], "fraction of neurons flipped in D2"),
        "strength": (strength, "strength of the flips, ρ: D = 1 − 2ρ"),
        "side": ([condition.side for condition in flips], "which synapses of a neuron are flipped"),
    }
    return result.assign_coords(
        {
            name: naming.variable("flip", values, "1", long_name)
            for name, (values, long_name) in along_flips.items()
        }
    )
