"""Excitatory and inhibitory cells that learn with one local rule: curl descent in disguise."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from neurofb.neurons import Chosen


@dataclass(frozen=True)
class Dale:
    """Which cells are inhibitory, and whether their synapses know it: W = V diag(±1), V ≥ 0.

    All synapses that leave a cell have its sign (Dale's principle), and what learns is their size
    V. The gradient with respect to V carries the cell's sign. With `sign_in_update` it does so
    (gradient descent); without, excitatory and inhibitory synapses follow the same local rule
    ``dV = -η g``, which is curl descent on W with the inhibitory columns flipped (our derivation,
    from an early version of the authors' code).

    Parameters
    ----------
    hidden
        Which inputs inhibit the hidden layer: a fraction (float), a number (int) or indices
        (tuple), as in `Flips`.
    readout
        Which hidden neurons inhibit the readout.
    sign_in_update
        Whether the update of V carries the cell's sign.
    clip
        Keep V at or above 0, so that no synapse changes sign.

    Raises
    ------
    ValueError
        As `Flips`.

    Examples
    --------
    >>> Dale(readout=0.2, sign_in_update=False).label(100, 10, 1)
    'readout 2/10 inhibitory, one rule for all, clipped'
    """

    hidden: Chosen = 0.0
    readout: Chosen = 0.0
    sign_in_update: bool = True
    clip: bool = True

    def __post_init__(self) -> None:
        self.as_flips()

    def as_flips(self) -> Flips:
        """Return the flips that have the signs of the inhibitory cells."""
        return Flips(hidden=self.hidden, readout=self.readout)

    def label(self, num_inputs: int, num_hidden: int, num_outputs: int) -> str:
        """Return the condition in words, as results name it."""
        cells = self.as_flips().label(num_inputs, num_hidden, num_outputs)
        parts = ["no inhibition" if cells == "no flips" else f"{cells} inhibitory"]
        parts.append("signed updates" if self.sign_in_update else "one rule for all")
        return ", ".join([*parts, *(["clipped"] if self.clip else [])])


def dale_descent(
    problem: StudentTeacher,
    cells: Sequence[Dale],
    training: CurlTraining | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    keep_weights: bool = False,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> xr.Dataset:
    """Train students of excitatory and inhibitory cells, as `curl_descent` trains its own.

    The student starts with the sizes of the weights that `problem` draws, and the signs of its
    cells; the teacher keeps both signs in every column. (With ``start="teacher"`` the student is
    therefore not at the solution.)

    Parameters
    ----------
    problem, training, seeds, keep_weights, dtype, device
        As in `neurofb.dynamics.curl_descent`.
    cells
        The conditions.

    Returns
    -------
    Dataset
        As of `neurofb.dynamics.curl_descent`, weights as the network uses them; the dim ``flip``
        names the cells, with ``sign_in_update`` and ``clipped`` along it.

    Raises
    ------
    ValueError
        As `neurofb.dynamics.curl_descent`.

    Examples
    --------
    >>> problem = StudentTeacher(num_inputs=6, num_hidden=20, num_train=None, num_test=None)
    >>> cells = [Dale(hidden=2, readout=0.2), Dale(hidden=2, readout=0.2, sign_in_update=False)]
    >>> result = dale_descent(problem, cells, CurlTraining(num_steps=100), seeds=(0,))
    >>> result.sign_in_update.values.tolist()
    [True, False]
    """
    training = training or CurlTraining()
    check_runs(cells, seeds, name="cells")
    errors = errors_of(
        problem,
        seeds,
        samples=training.batch_size is not None,
        output_derivative=training.output_derivative,
        dtype=dtype,
        device=device,
    )
    inhibited = [condition.as_flips().signs(*problem.sizes) for condition in cells]
    plain = Flips().signs(*problem.sizes)
    batch = CurlBatch(
        problem,
        [
            signs if condition.sign_in_update else plain
            for condition, signs in zip(cells, inhibited, strict=True)
        ],
        training,
        seeds,
        errors,
        polarity=[(hidden.columns, readout.columns) for hidden, readout in inhibited],
        clip=[condition.clip for condition in cells],
    )
    labels = [condition.label(*problem.sizes) for condition in cells]
    result = run_batch(batch, problem, labels, training, seeds, keep_weights=keep_weights)
    counts = np.array([condition.as_flips().counts(*problem.sizes) for condition in cells])
    signed = [condition.sign_in_update for condition in cells]
    along_cells = {
        "hidden_inhibition": (counts[:, 0] / problem.num_inputs, "fraction of inputs inhibitory"),
        "readout_inhibition": (
            counts[:, 1] / problem.num_hidden,
            "fraction of hidden neurons inhibitory",
        ),
        "sign_in_update": (signed, "whether the update carries the cell's sign"),
        "clipped": ([condition.clip for condition in cells], "whether sizes stay at or above 0"),
    }
    return result.assign_coords(
        {
            name: naming.variable("flip", values, "1", long_name)
            for name, (values, long_name) in along_cells.items()
        }
    )
