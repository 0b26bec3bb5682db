"""The simulators on a device: equal to the CPU's numbers, and how fast.

Part of benchmarks/gpu.py. Parity: all losses (and overlaps) that a simulation records, in float64
on the CPU and on a CUDA device; elsewhere, on the CPU too, float32 against the CPU's float64. Time:
whole simulations in turns, their numbers fetched, divided by the number of steps.
"""

import math
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from machine import summarise

from neurofb.dynamics import (
    BalancedNetwork,
    CurlTraining,
    Flips,
    LinearCondition,
    LinearTraining,
    StudentTeacher,
    curl_descent,
    random_task,
    simulate_balanced,
    simulate_linear,
)
from neurofb.tensors import GaussianPrior, TensorAMP, TensorProblem


@dataclass(frozen=True)
class Simulation:
    """A simulation, how many runs it holds and what of it must not depend on the device."""

    name: str
    num_runs: int
    num_steps: int
    simulate: Callable[[torch.dtype, str], xr.Dataset]
    compared: tuple[str, ...]


def simulations(tiny: bool) -> list[Simulation]:
    """Return linear networks, curl descent, balanced networks and message passing."""
    learning = [_linear(tiny), _curl("linear", tiny), _curl("tanh", tiny)]
    return [*learning, _balanced(tiny), _message_passing(tiny)]


def measure(simulation: Simulation, device: str, repeats: int) -> dict[str, Any]:
    """Compare a simulation on the CPU and on the device, and time both in turns."""
    tested = torch.float64 if device == "cuda" else torch.float32  # mps has no float64
    sides = {"cpu": (torch.float64, "cpu"), f"{device}, {str(tested)[6:]}": (tested, device)}
    found = {name: simulation.simulate(*side) for name, side in sides.items()}  # and a warm-up
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    shuffle = random.Random(0).shuffle
    for _ in range(repeats):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            simulation.simulate(*sides[name])  # ends with its numbers on the CPU: synchronised
            times[name].append((time.perf_counter() - start) / simulation.num_steps)
    expected, actual = found.values()
    return {
        "simulation": simulation.name,
        "runs": simulation.num_runs,
        "steps": simulation.num_steps,
        "largest_difference": {
            name: _difference(actual[name], expected[name]) for name in simulation.compared
        },
        "seconds_per_step": summarise(times),
    }


def rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table of all simulations."""
    table = [["simulation", "runs", "", "µs a step", "ratio", "largest difference"]]
    for result in results:
        largest = max(result["largest_difference"].values())
        for name, row in result["seconds_per_step"].items():
            cells = [f"{row['seconds'] * 1e6:.1f}", f"{row['ratio']:.3f}", f"{largest:.1e}"]
            table.append([result["simulation"], str(result["runs"]), name, *cells])
    return table


def _linear(tiny: bool) -> Simulation:
    n, m, k, ranks, steps = (8, 6, 3, (1, 2), 40) if tiny else (128, 64, 32, (2, 4, 8, 16), 2000)
    conditions = [
        LinearCondition(rule="BP"),
        *(LinearCondition(rule=f"LDFA {rule}", rank=r) for rule in _RULES for r in ranks),
    ]
    training = LinearTraining(hidden=(m,), num_steps=steps)
    seeds = (0, 1, 2)

    def simulate(dtype: torch.dtype, device: str) -> xr.Dataset:
        task = random_task(n, m, k, seeds=seeds, dtype=dtype, device=device)
        return simulate_linear(task, conditions, training)

    num_runs = len(conditions) * len(seeds)
    return Simulation("linear networks", num_runs, steps, simulate, ("loss", "overlap"))


def _curl(activation: Any, tiny: bool) -> Simulation:
    steps, seeds = (40, (0, 1)) if tiny else (2000, tuple(range(5)))
    problem = StudentTeacher(num_inputs=20, num_hidden=50, activation=activation)
    flips = [Flips(hidden=number) for number in range(3 if tiny else 20)]
    training = CurlTraining(num_steps=steps, num_records=20, stop_below=None, learning_rate=0.02)

    def simulate(dtype: torch.dtype, device: str) -> xr.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # large steps are no matter here
            return curl_descent(problem, flips, training, seeds=seeds, dtype=dtype, device=device)

    num_runs = len(flips) * len(seeds)
    return Simulation(f"curl descent, {activation}", num_runs, steps, simulate, ("train_loss",))


def _balanced(tiny: bool) -> Simulation:
    """Return random weights without chaos or noise, of which each device draws its own."""
    units, trials, steps = (20, 3, 40) if tiny else (2000, 32, 2000)
    network = BalancedNetwork(num_units=units, balance=10.0, disorder=0.8, delay=0.01)

    def simulate(dtype: torch.dtype, device: str) -> xr.Dataset:
        return simulate_balanced(
            network,
            math.sin,
            duration=0.005 * steps,
            time_step=0.005,
            num_trials=trials,
            dtype="float32" if dtype == torch.float32 else "float64",
            device=device,
        )

    return Simulation("balanced networks", trials, steps, simulate, ("estimate",))


def _message_passing(tiny: bool) -> Simulation:
    """Return message passing of a fixed number of sweeps, long before convergence."""
    side, steps = (12, 3) if tiny else (300, 10)
    prior = GaussianPrior(mean=0.2)
    tensor = TensorProblem((side,) * 3, prior, noise_variance=0.1).sample(0).tensor

    def simulate(dtype: torch.dtype, device: str) -> xr.Dataset:
        model = TensorAMP(priors=prior, noise_variance=0.1, max_sweeps=steps, tolerance=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it need not converge
            return model.fit(tensor.to(device, dtype)).to_dataset()

    names = tuple(f"axis_{axis}_factor" for axis in range(3))
    return Simulation("message passing", 1, steps, simulate, names)


def _difference(actual: xr.DataArray, expected: xr.DataArray) -> float:
    """Return the largest difference as a share of the largest value; NaN at other places: inf."""
    a, b = actual.values, expected.values
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(b)))


_RULES = ("fixed P", "Oja error", "normative", "factored KP")
