r"""Curl descent from large weights: one flipped synapse, and learning is many times faster.

The study of docs/curl_descent.md, whose figure `saddle_escape` of analyses/curl_descent.py makes::

    neurofb scan models/curl_escape.py::saddle_escape --workers 2 --store scans/curl_escape.zarr \
        --over activation=tanh,linear,relu --over gain=2.0,4.0
"""

import warnings
from typing import Literal

import torch
import xarray as xr

from neurofb import labels
from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent


def saddle_escape(
    activation: Literal["tanh", "linear", "relu"] = "tanh",
    gain: float = 4.0,
    teacher_gain: float = 1.0,
    num_train: int = 2000,
    num_seeds: int = 5,
    num_epochs: int | None = None,
    learning_rate: float | None = None,
    norm: Literal["frobenius", "none"] = "frobenius",
    output_derivative: bool = False,
    precision: Literal["float32", "float64"] = "float32",
    device: str = "cpu",
) -> xr.Dataset:
    """Time learning from large random weights with 0, 1, 3 and all 10 readout synapses flipped.

    A network 100-10-1 learns a teacher of its own kind, full batch; the control has one readout
    synapse frozen instead of flipped. An *epoch* is a step at rate 0.1, as in the authors' code.

    Parameters
    ----------
    activation
        Of both layers.
    gain
        g: the student's weights are uniform within ± g / √(fan in).
    teacher_gain
        The same of the teacher.
    num_train
        Training samples; as many are tested.
    num_seeds
        Draws of teacher, start and data.
    num_epochs
        After which a run that has not reached a test loss of 1e-3 is cut short (censored). None:
        20 000 for tanh, 8000 for the others.
    learning_rate
        None: 0.5 for tanh (five epochs a step), 0.1 for the others.
    norm
        ``"frobenius"`` keeps each layer's norm.
    output_derivative
        Whether φ' of the output enters the error; the authors leave it out.
    precision, device
        Of the simulation.
    """
    rate = learning_rate or (0.5 if activation == "tanh" else 0.1)
    epochs = num_epochs or (20_000 if activation == "tanh" else 8000)
    problem = StudentTeacher(
        num_inputs=100,
        num_hidden=10,
        activation=activation,
        gain=gain,
        teacher_gain=teacher_gain,
        num_train=num_train,
        num_test=num_train,
    )
    training = CurlTraining(
        learning_rate=rate,
        num_steps=round(epochs * 0.1 / rate),
        num_records=20,
        norm=norm,
        output_derivative=output_derivative,
        stop_below=1e-4 if num_train >= 1000 else None,  # the test loss is near, and well past 1e-3
        check_every=10 if activation == "tanh" else 5,
    )
    conditions = {
        "none": Flips(),
        "1 flip": Flips(readout=1),
        "3 flips": Flips(readout=3),
        "10 flips": Flips(readout=10),
        "1 frozen": Flips(readout=1, strength=0.5),
    }
    with warnings.catch_warnings():  # large weights are the point: some steps are too large
        warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*is too large")
        found = curl_descent(
            *(problem, list(conditions.values()), training),
            seeds=range(num_seeds),
            dtype=getattr(torch, precision),
            device=device,
        )
    found = found.assign_coords(flip=labels.coordinate("flip", list(conditions)))
    to_epochs = rate / 0.1
    last = float(found["step"][-1])
    about = "epochs (steps × rate / 0.1) until the test loss is below 0.001, or watched"
    found["hit_epoch"] = labels.variable(
        *(("flip", "seed"), found["hit_step"].fillna(last).values * to_epochs, "epoch", about)
    )
    names = ["hit_epoch", "censored", "loss_rise", "final_loss", "final_test_loss", "diverged_at"]
    title = f"Times to solve a task from large weights, {activation}, g = {gain:g}"
    return found[names].assign_attrs(title=title)
