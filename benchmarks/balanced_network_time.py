"""Time the simulator of balanced networks against Brian2 and against plain numpy.

Trials · steps a second of 32 trials of 1000 units, of noise alone (g = 0) and of noise and random
weights (g > 0), with the same weights, step and noise everywhere: `simulate_balanced` in single and
in double precision; the same equations in a numpy loop, one trial after another and all trials at
once; and Brian2, if `--brian2` names the interpreter of an environment that has it (its two ways:
`brian2_worker.py`). All are timed in turns on one thread, ours with its set-up, and must give the
same standard deviation of the estimate. How the time of a step grows with the number of units is
timed too; there the set-up is taken off, as the difference of a long and a short simulation.

    python benchmarks/balanced_network_time.py --brian2 FOLDER/bin/python
    python benchmarks/plot_scaling.py --systems two_theories
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exponents import with_exponents
from machine import ROOT, describe_machine, print_table, summarise, write_result
from peer_brian2 import WAYS, Brian2, available

from neurofb.dynamics import BalancedNetwork, simulate_balanced

TIME_STEP, BALANCE, NOISE, DRIVE = 0.005, 10.0, 0.75, 0.2
DISORDERS = (0.0, 1.6)
LARGEST_GAP = 4.0  # standard errors of a difference of standard deviations
Run = Callable[[], dict[str, Any]]


def network_of(num_units: int, disorder: float) -> BalancedNetwork:
    """Return the network of this benchmark."""
    return BalancedNetwork(
        num_units=num_units, balance=BALANCE, noise=NOISE, disorder=disorder, delay=0.0
    )


def ours(network: BalancedNetwork, num_trials: int, num_steps: int, dtype: Any) -> dict[str, Any]:
    """Simulate and time the whole call."""
    start = time.perf_counter()
    found = simulate_balanced(
        network,
        DRIVE,
        duration=num_steps * TIME_STEP,
        time_step=TIME_STEP,
        num_trials=num_trials,
        dtype=dtype,
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **moments(found["estimate"].values[0])}


def plain(network: BalancedNetwork, num_trials: int, num_steps: int, seed: int) -> dict[str, Any]:
    """Simulate in numpy, all trials at once (one trial: with vectors), and time the steps."""
    draw = np.random.default_rng(seed)
    shape = (network.num_units,) if num_trials == 1 else (num_trials, network.num_units)
    steps = numpy_loop(network, draw.standard_normal(shape), draw)
    start = time.perf_counter()
    estimates = [estimate for _, estimate in zip(range(num_steps), steps, strict=False)]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **moments(np.array(estimates).reshape(num_steps, -1).T)}


def numpy_loop(
    network: BalancedNetwork, h: np.ndarray, draw: np.random.Generator
) -> Iterator[np.ndarray]:
    """Give the estimates (trial,) before every step, for ever; h (trial, unit) or (unit,)."""
    weights, readout = network.weights(0)
    w = readout[:, 0]
    matrix = None if weights is None else network.disorder * weights.T.astype(float)
    leak, hold = math.exp(-TIME_STEP), -math.expm1(-TIME_STEP)
    kick = network.noise * math.sqrt(-math.expm1(-2 * TIME_STEP) / 2)
    while True:
        rates = np.tanh(h)
        estimate = rates @ w / network.num_units
        yield estimate
        feedback = network.balance * np.multiply.outer(DRIVE - estimate, w)
        if matrix is not None:
            feedback += rates @ matrix
        h = leak * h + hold * feedback
        if kick:
            h += kick * draw.standard_normal(h.shape)


def moments(estimate: np.ndarray) -> dict[str, Any]:
    """Return mean and std of every trial's estimate (trial, step), without the first half."""
    late = estimate[:, estimate.shape[1] // 2 :].astype(float)
    return {"mean": late.mean(1).tolist(), "std": late.std(1).tolist()}


def peers(
    stack: ExitStack, python: Path, network: BalancedNetwork, trials: dict[str, int], num_steps: int
) -> dict[str, Brian2]:
    """Return Brian2's networks with our weights; `trials`: ways → how many trials they do."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    weights, readout = network.weights(0)
    case: dict[str, Any] = {
        "num_units": network.num_units,
        "num_steps": num_steps,
        "time_step": TIME_STEP,
        "balance": network.balance,
        "disorder": network.disorder,
        "noise": network.noise,
        "drive": DRIVE,
        "seed": 0,
        "readout": str(folder / "readout.npy"),
        "weights": str(folder / "weights.npy"),
    }
    np.save(case["readout"], readout[:, 0])
    if weights is not None:
        np.save(case["weights"], weights)
    found = {}
    for way, number in trials.items():
        found[way] = Brian2(python, way, {**case, "num_trials": number})
        stack.callback(found[way].close)
    return found


def compare(
    num_units: int, disorder: float, num_trials: int, num_steps: int, repeats: int, brian2: Any
) -> dict[str, Any]:
    """Time all ways in turns, and compare what they estimate."""
    network = network_of(num_units, disorder)
    seeds = iter(range(1, 10**6))
    batch = (num_trials, num_steps)
    ways: dict[str, Run] = {
        "ours, float32": lambda: ours(network, *batch, "float32"),
        "ours, float64": lambda: ours(network, *batch, "float64"),
        "numpy, all trials": lambda: plain(network, *batch, next(seeds)),
        "numpy, one trial": lambda: plain(network, 1, num_steps, next(seeds)),
    }
    # With synapses all to all, a trial more costs as much as the first, and a lot of memory.
    trials = {way: 1 if way == "C++" and disorder else num_trials for way in WAYS}
    counts = {way: 1 if way.endswith("one trial") else num_trials for way in ways}
    versions = None
    with ExitStack() as stack:
        if brian2 is not None:
            for way, peer in peers(stack, brian2, network, trials, num_steps).items():
                name, versions = f"Brian2, {way}", peer.versions
                ways[name], counts[name] = peer.run, trials[way]
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for number in range(-1, repeats):  # the first round warms up
            names = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            for name in names:
                one = ways[name]()
                if number >= 0:
                    rounds[name].append(one)
    return {
        "num_units": num_units,
        "disorder": disorder,
        "num_trials": num_trials,
        "num_steps": num_steps,
        "brian2": versions,
        **_summary(rounds, counts, num_steps),
    }


def _summary(
    rounds: dict[str, list[dict[str, Any]]], counts: dict[str, int], num_steps: int
) -> dict[str, Any]:
    """Return speeds, ratios within rounds, and what is estimated."""
    reference = "ours, float32"
    # Seconds of a trial's step, so that ways with another number of trials compare.
    times = {
        name: [one["seconds"] / (counts[name] * num_steps) for one in found]
        for name, found in rounds.items()
    }
    rows = summarise(times)  # the first is the reference
    spread = {}
    trial_error = statistics.pstdev(rounds[reference][0]["std"])  # of one trial's std
    for name, found in rounds.items():
        # Ours repeats its numbers; the others draw anew in every round.
        values = [std for one in found for std in one["std"]]
        independent = len(found[0]["std"]) if name.startswith("ours") else len(values)
        error = trial_error / math.sqrt(independent)
        means = [mean for one in found for mean in one["mean"]]
        spread[name] = {
            "mean": statistics.fmean(means),
            "std": statistics.fmean(values),
            "std_error": error,
        }
    ours = spread[reference]
    for row in spread.values():
        error = math.hypot(row["std_error"], ours["std_error"])
        row["standard_errors_from_ours"] = abs(row["std"] - ours["std"]) / max(error, 1e-12)
    return {
        "trial_steps_per_second": {name: 1 / row["seconds"] for name, row in rows.items()},
        "times_faster": {name: row["ratio"] for name, row in rows.items()},
        "times_faster_quartiles": {name: row["ratio_quartiles"] for name, row in rows.items()},
        "trials_timed": counts,
        "estimates": spread,
        "same": all(row["standard_errors_from_ours"] < LARGEST_GAP for row in spread.values()),
        "seconds_of_a_trial_step": rows,
    }


def scaling(tiny: bool, repeats: int, brian2: Any) -> dict[str, Any]:
    """Return the seconds of a step of all trials, as the number of units grows."""
    sizes = (10, 20) if tiny else (100, 300, 1000, 3000, 10_000)
    trials = 2 if tiny else 32
    found = {}
    for disorder in DISORDERS:
        rows = [_scaling_row(size, disorder, trials, tiny, repeats, brian2) for size in sizes]
        axis = f"units (g = {disorder:g}, {trials} trials)"
        series = {"axis": axis, "unit": "seconds a step of all trials", "rows": rows}
        found[f"units, g = {disorder:g}"] = with_exponents(series, above=sizes[-3:][0])
    return found


def _scaling_row(
    size: int, disorder: float, trials: int, tiny: bool, repeats: int, brian2: Any
) -> dict[str, Any]:
    network = network_of(size, disorder)
    expected = trials * size * (4e-9 + size * (1.5e-11 if disorder else 0.0))  # seconds a step
    steps = 4 if tiny else max(20, min(2000, int(0.7 / expected)))

    def two_lengths() -> float:
        long, short = (ours(network, trials, n, "float32")["seconds"] for n in (2 * steps, steps))
        return (long - short) / steps

    row: dict[str, Any] = {"value": size}
    row["ours"] = max(statistics.median(two_lengths() for _ in range(repeats)), 1e-9)
    fewer = max(4, steps // 4)
    times = [plain(network, trials, fewer, 0)["seconds"] for _ in range(repeats)]
    row["numpy"] = statistics.median(times) / fewer
    if brian2 is not None:
        for way in WAYS:
            # 100 million synapses do not fit; beyond 3000 units the product is numpy's own time.
            if disorder and size > (1000 if way == "C++" else 3000):
                continue
            number = 1 if way == "C++" and disorder else trials
            with ExitStack() as stack:
                peer = peers(stack, brian2, network, {way: number}, fewer)[way]
                times = [peer.run()["seconds"] for _ in range(repeats)]
            row[f"Brian2, {way}"] = statistics.median(times) / fewer * trials / number
    return row


def report(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    for one in result["comparisons"]:
        print(f"{one['num_units']} units, {one['num_trials']} trials, g = {one['disorder']:g}")
        rows = [["", "trials · steps / s", "ours faster", "std of the estimate", "its error"]]
        for name, speed in one["trial_steps_per_second"].items():
            spread = one["estimates"][name]
            cells = [f"{speed:.3g}", f"{one['times_faster'][name]:.2f}×"]
            rows.append([name, *cells, f"{spread['std']:.3e}", f"{spread['std_error']:.0e}"])
        print_table(rows)
    for part in result["scaling"].values():
        names = [name for name in part["rows"][0] if name != "value"]
        rows = [[part["axis"], *(f"{name} (ms)" for name in names)]]
        for row in part["rows"]:
            cells = [f"{1e3 * row[name]:.3f}" if name in row else "" for name in names]
            rows.append([str(row["value"]), *cells])
        fits = (part["fits"].get(name) for name in names)
        rows.append(["exponent", *(f"{fit['exponent']:.2f}" if fit else "" for fit in fits)])
        print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--brian2", type=Path, help="interpreter of an environment with Brian2")
    parser.add_argument("--tiny", action="store_true", help="small networks, to try it out")
    default = ROOT / "benchmarks/results/balanced_network_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny, repeats = settings.tiny, 2 if settings.tiny else settings.repeats
    brian2 = settings.brian2 if available(settings.brian2) else None
    result: dict[str, Any] = {"machine": describe_machine(), "name": "balanced networks"}
    result["settings"] = {
        "time_step": TIME_STEP,
        "balance": BALANCE,
        "noise": NOISE,
        "drive": DRIVE,
        "nonlinearity": "tanh",
    }
    result["peer"] = "Brian2" if brian2 else "not installed"
    sizes = (20, 3, 100) if tiny else (1000, 32, 2000)
    result["comparisons"] = [
        compare(sizes[0], disorder, *sizes[1:], repeats, brian2) for disorder in DISORDERS
    ]
    result["scaling"] = scaling(tiny, 1 if tiny else max(repeats // 2, 1), brian2)
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
