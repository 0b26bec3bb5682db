"""Time batched curl descent against one run after another with autograd and the data.

A grid of 20 strengths of flips × 5 seeds of a student 20-50-1 with 250 samples: what a
phase diagram is made of. The loop is what a user of torch would write: forward pass on the samples,
`torch.autograd.grad`, signs, the Frobenius norms restored, the test loss every tenth step, one run
at a time; it goes through a fifth of the grid, and its time is multiplied by five.
`neurofb.dynamics.curl_descent` does all runs in one tensor program: a linear student from the
covariance of its inputs, a tanh student from the samples. Both do every step of every run (none is
done early), are timed in turns, and must end at the same losses.

How both scale with the number of runs and the size of the network is timed too; the loop there on
a few runs, multiplied by their number.

    python benchmarks/curl_descent_time.py --repeats 7
    python benchmarks/plot_scaling.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result

from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent
from neurofb.dynamics.student_teacher import Activation

LARGEST_GAP = 1e-6  # relative; losses are small at the end, and some runs are chaotic
CHECK_EVERY = 10
ACTIVATIONS: tuple[Activation, ...] = ("linear", "tanh")


def problem_of(activation: Activation, inputs: int, hidden: int, samples: int) -> StudentTeacher:
    """Return the student and its teacher."""
    return StudentTeacher(
        inputs, hidden, activation=activation, num_train=samples, num_test=min(samples, 100)
    )


def strengths(count: int) -> list[Flips]:
    """Return conditions: half of the inputs flipped with strengths from 0 to below 1."""
    return [Flips(hidden=0.5, strength=i / count) for i in range(count)]


def batched(problem: StudentTeacher, flips: list[Flips], seeds: int, steps: int) -> np.ndarray:
    """Return the losses (flip, seed) after some steps of all runs at once."""
    training = CurlTraining(
        num_steps=steps,
        num_records=1,
        check_every=CHECK_EVERY,
        output_derivative=True,
        stop_below=None,
    )
    return curl_descent(problem, flips, training, seeds=range(seeds)).final_loss.values


def one_run(problem: StudentTeacher, flips: Flips, seed: int, steps: int) -> float:
    """Return the loss of one run after some steps, by autograd."""
    phi = torch.tanh if problem.activation == "tanh" else lambda x: x
    train, test = problem.train_inputs(seed), problem.test_inputs(seed)
    assert train is not None
    assert test is not None
    x, x_test = torch.tensor(train.T), torch.tensor(test.T)
    t1, t2 = map(torch.tensor, problem.teacher(seed))
    w1, w2 = (torch.tensor(w).requires_grad_() for w in problem.student(seed))
    (_, d1), (_, d2) = flips.signs(*problem.sizes)
    sign1, sign2 = torch.tensor(d1), torch.tensor(d2)
    norm1, norm2 = w1.detach().norm(), w2.detach().norm()
    y, y_test = (phi(phi(inputs @ t1.T) @ t2.T) for inputs in (x, x_test))
    loss = torch.zeros(())
    for step in range(steps + 1):
        loss = 0.5 * (phi(phi(x @ w1.T) @ w2.T) - y).square().mean()
        if step % CHECK_EVERY == 0:
            with torch.no_grad():
                test_loss = 0.5 * (phi(phi(x_test @ w1.T) @ w2.T) - y_test).square().mean()
                if not test_loss < np.inf:
                    break
        if step < steps:
            gradient1, gradient2 = torch.autograd.grad(loss, (w1, w2))
            with torch.no_grad():
                w1 -= 0.1 * gradient1 * sign1
                w2 -= 0.1 * gradient2 * sign2
                w1 *= norm1 / w1.norm()
                w2 *= norm2 / w2.norm()
    return loss.item()


def compare(
    activation: Activation,
    *,
    inputs: int = 20,
    hidden: int = 50,
    samples: int = 250,
    conditions: int = 20,
    seeds: int = 5,
    steps: int,
    repeats: int,
    looped: int | None = None,
) -> dict[str, Any]:
    """Time some steps of all runs; `looped`: runs of the loop that are timed (None: all)."""
    problem = problem_of(activation, inputs, hidden, samples)
    flips = strengths(conditions)
    runs = [(i, seed) for seed in range(seeds) for i in range(conditions)]
    timed = runs[:looped]
    share = len(runs) / len(timed)
    losses: dict[str, Any] = {}

    def ours() -> None:
        losses["ours"] = batched(problem, flips, seeds, steps)

    def loop() -> None:
        losses["loop"] = [one_run(problem, flips[i], seed, steps) for i, seed in timed]

    ways: dict[str, Callable[[], None]] = {"ours": ours, "loop": loop}
    times = interleave(ways, repeats, warmup=1)
    expected = np.array(losses["loop"])
    found = np.array([losses["ours"][run] for run in timed])
    gap = float(np.max(np.abs(found - expected) / expected))
    low, high = (share * q for q in times["loop"]["ratio_quartiles"])
    return {
        "activation": activation,
        "sizes": [inputs, hidden, 1],
        "samples": samples,
        "runs": len(runs),
        "runs_of_the_loop_timed": len(timed),
        "steps": steps,
        "seconds_per_step": {
            "ours": times["ours"]["seconds"] / steps,
            "loop": share * times["loop"]["seconds"] / steps,
        },
        "times_faster": share * times["loop"]["ratio"],
        "times_faster_quartiles": [low, high],
        "times_faster_cpu": share * times["loop"]["cpu_ratio"],
        "largest_difference": gap,
        "same": gap < LARGEST_GAP,
        "times": times,
    }


def scaling(tiny: bool, repeats: int) -> dict[str, Any]:
    """Return the seconds of a step of all runs, as their number and the network grow."""
    numbers = (1, 2) if tiny else (1, 2, 5, 10, 20, 50, 100, 200)
    sizes = (4, 6) if tiny else (10, 20, 50, 100, 200)
    steps = 10 if tiny else 100
    found = {}
    for activation in ACTIVATIONS:
        settings: dict[str, Any] = {"steps": steps, "repeats": repeats, "samples": 250}
        rows = []
        for number in numbers:
            one = compare(activation, conditions=number, seeds=1, looped=2, **settings)
            rows.append({"value": number, **one["seconds_per_step"]})
        unit = "seconds a step of all runs"
        found[f"number, {activation}"] = {
            "axis": f"runs ({activation})",
            "unit": unit,
            "rows": rows,
        }
        rows = []
        for size in sizes:
            one = compare(
                activation, inputs=size, hidden=size, conditions=20, seeds=1, looped=2, **settings
            )
            rows.append({"value": size, **one["seconds_per_step"]})
        axis = f"inputs, and hidden neurons ({activation}, 20 runs)"
        found[f"size, {activation}"] = {"axis": axis, "unit": unit, "rows": rows}
    return found


def report(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    rows = [["student", "ours (ms a step)", "loop (ms)", "faster", "by CPU time", "difference"]]
    for one in result["comparisons"]:
        ours, loop = (1e3 * one["seconds_per_step"][way] for way in ("ours", "loop"))
        faster = [f"{one[name]:.1f}×" for name in ("times_faster", "times_faster_cpu")]
        gap = f"{one['largest_difference']:.1e}"
        rows.append([one["activation"], f"{ours:.3f}", f"{loop:.2f}", *faster, gap])
    print_table(rows)
    for part in result["scaling"].values():
        rows = [[part["axis"], "ours (ms a step)", "loop (ms)"]]
        for row in part["rows"]:
            rows.append([str(row["value"]), f"{1e3 * row['ours']:.3f}", f"{1e3 * row['loop']:.2f}"])
        print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try it out")
    default = ROOT / "benchmarks/results/curl_descent_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny, repeats = settings.tiny, 1 if settings.tiny else settings.repeats
    small = {"inputs": 4, "hidden": 5, "samples": 12, "conditions": 3, "seeds": 2} if tiny else {}
    result: dict[str, Any] = {"machine": describe_machine(), "name": "curl descent"}
    result["comparisons"] = [
        compare(
            activation,
            steps=10 if tiny else 1000,
            repeats=repeats,
            looped=None if tiny else 20,
            **small,
        )
        for activation in ACTIVATIONS
    ]
    result["scaling"] = scaling(tiny, max(repeats // 2, 1))
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
