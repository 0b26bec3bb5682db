"""A balanced network in Brian2: a process of its own, which is told when to run and says how long.

Brian2 is installed apart from this project (it wants another numpy), so this file imports nothing
of it: `peer_brian2.py` starts it with the interpreter of an environment that has Brian2. Its
arguments are one JSON object; it writes one JSON line when it is ready, and one for every line that
it reads: the seconds of the steps alone (no compilation, no start, no reading of results) and the
mean and standard deviation of the estimate, in which the first half of the steps does not count.

Two ways, of which neither is best everywhere:

- "C++": C++ standalone, single thread. All trials are one group; the readout is a summed variable
  of a synapse from every unit to its trial's readout, which the group reads as a linked variable.
  Random weights are synapses, all to all within a trial.
- "matmul": what the model allows and the language does not say: readout and random weights as a
  network operation, a matrix product by numpy, all trials at once; the rest by Brian2's numpy
  target (its Cython target was slower, by 1.3 to 1.7 times, at 1000 units and 32 trials).

Both do the step of `neurofb.dynamics.simulate_balanced` without delay: leak and noise exact.
"""

import json
import sys
import tempfile
import time
from typing import Any

import brian2 as b2  # pyright: ignore[reportMissingImports]
import numpy as np


def network(case: dict[str, Any]) -> tuple[list[Any], Any]:
    """Return all parts of the network, and the monitor of its estimate (last of the parts)."""
    n, trials, dt = case["num_units"], case["num_trials"], case["time_step"]
    disorder, noise = float(case["disorder"]), float(case["noise"])
    draw = np.random.default_rng(case["seed"])
    signs = np.load(case["readout"])
    weights = np.load(case["weights"]).astype(float) if disorder else None
    constants = {
        "decay": float(np.exp(-dt)),
        "push": float(-np.expm1(-dt)),
        "kick": float(noise * np.sqrt(-np.expm1(-2 * dt) / 2)),
        "b": float(case["balance"]),
        "x": float(case["drive"]),
        "units": n,
    }
    variables = "h : 1\nr : 1\nw : 1 (constant)\nlateral : 1\nestimate : 1 (linked)"
    units = b2.NeuronGroup(trials * n, variables, namespace=constants)
    lateral = "lateral + " if disorder else ""
    random = " + kick * randn()" if noise else ""
    step = f"h = decay * h + push * ({lateral}b * w * (x - estimate)){random}"
    units.run_regularly(step, when="groups")
    units.run_regularly("r = tanh(h)", when="groups", order=1)  # its own loop: 1.5 times faster
    readout = b2.NeuronGroup(trials, "estimate : 1")
    trial = np.repeat(np.arange(trials), n)
    units.estimate = b2.linked_var(readout, "estimate", index=trial)
    units.w = np.tile(signs, trials)
    units.h = draw.standard_normal(trials * n)
    units.r = np.tanh(units.h[:])
    monitor = b2.StateMonitor(readout, "estimate", record=True)
    if case["way"] == "C++":
        parts = _synapses(units, readout, trial, weights, disorder, constants)
    else:
        parts = [_operation(units, readout, signs, weights, disorder, trials)]
    return [units, readout, *parts, monitor], monitor


def _synapses(
    units: Any, readout: Any, trial: Any, weights: Any, disorder: float, constants: dict[str, Any]
) -> list[Any]:
    reading = "estimate_post = w_pre * r_pre / units : 1 (summed)"
    read = b2.Synapses(units, readout, reading, namespace=constants)
    read.connect(i=np.arange(len(trial)), j=trial)
    if weights is None:
        return [read]
    n, trials = len(weights), int(trial[-1]) + 1
    disordered = "weight : 1 (constant)\nlateral_post = weight * r_pre : 1 (summed)"
    lateral = b2.Synapses(units, units, disordered)
    first = n * np.arange(trials)[:, None]
    lateral.connect(
        i=(first + np.tile(np.arange(n), n)).ravel(), j=(first + np.repeat(np.arange(n), n)).ravel()
    )
    lateral.weight = np.tile(disorder * weights.ravel(), trials)
    return [read, lateral]


def _operation(
    units: Any, readout: Any, signs: Any, weights: Any, disorder: float, trials: int
) -> Any:
    def values(group: Any, name: str) -> Any:
        return group.variables[name].get_value()

    rates, sums = (values(units, name).reshape(trials, -1) for name in ("r", "lateral"))
    estimate, reader = values(readout, "estimate"), signs / len(signs)
    matrix = None if weights is None else np.ascontiguousarray(disorder * weights.T)

    @b2.network_operation(when="before_groups")
    def read() -> None:
        np.matmul(rates, reader, out=estimate)
        if matrix is not None:
            np.matmul(rates, matrix, out=sums)

    return read


def say(**words: Any) -> None:
    """Write one line of JSON."""
    print(json.dumps(words), file=_ANSWERS, flush=True)


def main() -> None:
    """Build the network, then run it once a line."""
    case = json.loads(sys.argv[1])
    duration = case["num_steps"] * case["time_step"] * b2.second
    b2.defaultclock.dt = case["time_step"] * b2.second
    compiled = case["way"] == "C++"
    with tempfile.TemporaryDirectory(prefix="brian2") as folder:
        if compiled:
            b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
        else:
            b2.prefs.codegen.target = "numpy"
        parts, monitor = network(case)
        whole = b2.Network(*parts)
        if compiled:
            whole.run(duration)
            b2.device.build(directory=folder, run=False, compile=True, with_output=False)
        else:
            whole.run(2 * b2.defaultclock.dt)  # code is made
        say(version=b2.__version__, numpy=np.__version__)
        for _ in sys.stdin:
            start = time.perf_counter()
            if compiled:
                b2.device.run(with_output=False)
                seconds = b2.device._last_run_time
            else:
                whole.run(duration)
                seconds = time.perf_counter() - start
            estimate = np.array(monitor.estimate)[:, -case["num_steps"] :]
            late = estimate[:, case["num_steps"] // 2 :]
            say(seconds=seconds, mean=late.mean(1).tolist(), std=late.std(1).tolist())


if __name__ == "__main__":
    _ANSWERS, sys.stdout = sys.stdout, sys.stderr  # what Brian2 prints is no answer
    main()
