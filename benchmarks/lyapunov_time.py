"""Time the written-out tangent of curl descent against `torch.func.jvp` of the same step.

One step of state and tangent of a linear student 20-50-1 with kept norms, as `lyapunov_exponent`
does some ten thousand of: `CurlMap.tangent` against `torch.func.jvp` of `CurlMap`. Both are timed
in turns within one run, and must give the same tangent. How both scale with the number of runs in
the batch and the size of the network is timed too.

    python benchmarks/lyapunov_time.py --repeats 15
    python benchmarks/plot_scaling.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result

from neurofb.dynamics import CurlMap, Flips, StudentTeacher

LARGEST_GAP = 1e-10


def compare(runs: int, inputs: int, hidden: int, *, steps: int, repeats: int) -> dict[str, Any]:
    """Time some steps of state and tangent."""
    problem = StudentTeacher(inputs, hidden, num_train=None, num_test=None)
    step = CurlMap(problem, [Flips(hidden=0.5)], seeds=range(runs))
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(step.start.shape, generator=generator, dtype=torch.float64)
    ends: dict[str, torch.Tensor] = {}

    def analytic() -> None:
        state, tangent = step.start, start
        for _ in range(steps):
            state, tangent = step.tangent(state, tangent)
        ends["ours"] = tangent

    def by_jvp() -> None:
        state, tangent = step.start, start
        for _ in range(steps):
            moved = torch.func.jvp(step, (state,), (tangent,))
            state, tangent = moved[0], moved[1]
        ends["jvp"] = tangent

    ways: dict[str, Callable[[], None]] = {"ours": analytic, "jvp": by_jvp}
    with torch.no_grad():
        times = interleave(ways, repeats, warmup=1)
    gap = float((ends["ours"] - ends["jvp"]).abs().max() / ends["jvp"].abs().max())
    return {
        "runs": runs,
        "sizes": [inputs, hidden, 1],
        "steps": steps,
        "seconds_per_step": {way: times[way]["seconds"] / steps for way in ways},
        "times_faster": times["jvp"]["ratio"],
        "times_faster_quartiles": times["jvp"]["ratio_quartiles"],
        "times_faster_cpu": times["jvp"]["cpu_ratio"],
        "largest_difference": gap,
        "same": gap < LARGEST_GAP,
        "times": times,
    }


def scaling(tiny: bool, repeats: int) -> dict[str, Any]:
    """Return the seconds of a step of state and tangent, as the batch and the network grow."""
    numbers = (1, 2) if tiny else (1, 2, 5, 10, 20, 50, 100, 200)
    sizes = (4, 6) if tiny else (10, 20, 50, 100, 200, 400)
    steps = 3 if tiny else 50
    unit = "seconds a step with tangent"
    by_number, by_size = [], []
    for number in numbers:
        one = compare(number, *((4, 5) if tiny else (20, 50)), steps=steps, repeats=repeats)
        by_number.append({"value": number, **one["seconds_per_step"]})
    for size in sizes:
        one = compare(1, size, size, steps=steps, repeats=repeats)
        by_size.append({"value": size, **one["seconds_per_step"]})
    return {
        "number": {"axis": "runs (20-50-1)", "unit": unit, "rows": by_number},
        "size": {"axis": "inputs, and hidden neurons (1 run)", "unit": unit, "rows": by_size},
    }


def report(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    rows = [["runs", "ours (ms a step)", "jvp (ms)", "faster", "by CPU time", "difference"]]
    for one in result["comparisons"]:
        ours, jvp = (1e3 * one["seconds_per_step"][way] for way in ("ours", "jvp"))
        faster = [f"{one[name]:.1f}×" for name in ("times_faster", "times_faster_cpu")]
        gap = f"{one['largest_difference']:.1e}"
        rows.append([str(one["runs"]), f"{ours:.3f}", f"{jvp:.3f}", *faster, gap])
    print_table(rows)
    for part in result["scaling"].values():
        rows = [[part["axis"], "ours (ms a step)", "jvp (ms)"]]
        for row in part["rows"]:
            rows.append([str(row["value"]), f"{1e3 * row['ours']:.3f}", f"{1e3 * row['jvp']:.3f}"])
        print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try it out")
    default = ROOT / "benchmarks/results/lyapunov_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny, repeats = settings.tiny, 1 if settings.tiny else settings.repeats
    result: dict[str, Any] = {"machine": describe_machine(), "name": "Lyapunov exponents"}
    result["comparisons"] = [
        compare(runs, *((4, 5) if tiny else (20, 50)), steps=3 if tiny else 200, repeats=repeats)
        for runs in (1, 5)
    ]
    result["scaling"] = scaling(tiny, max(repeats // 3, 1))
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
