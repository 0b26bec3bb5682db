"""Time the batched simulator of linear networks against a plain loop with autograd and the data.

Both learn by the authors' protocol (normative feedback, ranks 2, 4, 8, 16, 64) from the same
weights. The loop is what a user of torch would write: 100 000 samples of 128 inputs in memory, a
forward pass, an `autograd.Function` for the feedback, one network at a time. The simulator
(`neurofb.dynamics.simulate_linear`) steps all ranks and seeds at once, from the covariances. Times
are medians of an iteration, taken in turns; that of the loop is multiplied by the number of
networks, as the loop would go through them one after another, and both by 5000 iterations
(extrapolated: a run of the loop is not waited for). The two must give the same weights.

How both scale with the size of the networks, their number and the samples is timed too.

    python benchmarks/linear_network_time.py --repeats 15
    python benchmarks/plot_scaling.py
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result
from torch import Tensor

from neurofb.dynamics import (
    LinearStart,
    LinearTask,
    LinearTraining,
    authors_protocol,
    initial_weights,
    simulate_linear,
    task_from_data,
)

ITERATIONS = 5000
LARGEST_GAP = 1e-9


@dataclass(frozen=True, kw_only=True)
class Case:
    """One size of the comparison: samples × inputs, units, and the networks that are trained."""

    samples: int = 100_000
    inputs: int = 128
    units: int = 64  # hidden units, and outputs
    modes: int = 32
    ranks: tuple[int, ...] = (2, 4, 8, 16, 64)
    seeds: int = 3

    def data(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets."""
        generator = torch.Generator().manual_seed(0)
        like: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        x = torch.randn(self.samples, self.inputs, **like)
        left = torch.randn(self.units, self.modes, **like)
        right = torch.randn(self.modes, self.inputs, **like)
        return x, x @ (left @ right / self.units**0.5).mT

    def task(self, x: Tensor, y: Tensor) -> LinearTask:
        """Return the same data for every seed, as statistics."""
        one = task_from_data(x, y)
        every = (self.seeds, -1, -1)
        return LinearTask(
            one.teacher.expand(*every).clone(),
            one.input_covariance.expand(*every).clone(),
            tuple(range(self.seeds)),
        )


class LowRankFeedback(torch.autograd.Function):
    """A linear map whose error goes back through Q P."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, q: Tensor, p: Tensor) -> Tensor:
        """Return W h of every sample."""
        ctx.save_for_backward(hidden, q, p)
        return hidden @ weight.mT

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """Return Q P δ, and the gradient of W."""
        hidden, q, p = ctx.saved_tensors
        return (errors[0] @ p.mT) @ q.mT, errors[0].mT @ hidden, None, None


class Loop:
    """One network trained by autograd, with the data in the loop."""

    def __init__(self, x: Tensor, y: Tensor, start: LinearStart, seed: int, rank: int) -> None:
        self.x, self.y = x, y
        self.w1, self.w2 = (w[seed].clone().requires_grad_() for w in start.weights)
        self.q, self.p = start.q[0][seed].clone(), start.p[0][seed].clone()
        self.condition = authors_protocol(rank, num_outputs=y.shape[1])
        self.rate = float(self.condition.feedback_rate or 0.0)

    def step(self) -> None:
        """Make one step of full-batch gradient descent."""
        predicted = LowRankFeedback.apply(self.x @ self.w1.mT, self.w2, self.q, self.p)
        loss = ((self.y - predicted) ** 2).sum(dim=1).mean() / 2
        loss.backward()
        with torch.no_grad():
            gap = self.w2.mT - self.q @ self.p
            dq, dp = gap @ self.p.mT, self.q.mT @ gap
            for weight in (self.w1, self.w2):
                assert weight.grad is not None
                change = -weight.grad.clamp(-10, 10)
                decay = float(self.condition.weight_decay or 0.0)
                weight += float(self.condition.learning_rate or 0.0) * (change - decay * weight)
                weight.grad = None
            self.q += self.rate * dq.clamp(-10, 10)
            self.p += self.rate * dp.clamp(-10, 10)
        self.rate *= 0.999


def compare(case: Case, repeats: int, steps: int) -> dict[str, Any]:
    """Time an iteration of all networks, batched and one after another."""
    x, y = case.data()
    task = case.task(x, y)
    conditions = [authors_protocol(rank, num_outputs=case.units) for rank in case.ranks]
    training = LinearTraining(hidden=(case.units,), num_steps=steps)
    starts = initial_weights(task, conditions, training)
    middle = len(case.ranks) // 2
    loop = Loop(x, y, starts[middle], 0, case.ranks[middle])

    def ours() -> None:
        simulate_linear(task, conditions, training, starts=starts)

    ways: dict[str, Callable[[], object]] = {"ours": ours, "loop": loop.step}
    times = interleave(ways, repeats, warmup=1)
    networks = len(case.ranks) * case.seeds
    faster, cpu = (times["loop"][key] * steps * networks for key in ("ratio", "cpu_ratio"))
    low, high = (q * steps * networks for q in times["loop"]["ratio_quartiles"])
    seconds = {
        "ours": times["ours"]["seconds"] / steps,
        "loop": times["loop"]["seconds"] * networks,
    }
    return {
        "case": vars(case) | {"ranks": list(case.ranks)},
        "networks": networks,
        "steps_timed": steps,
        "seconds_per_iteration": seconds,
        "seconds_extrapolated": {name: one * ITERATIONS for name, one in seconds.items()},
        "times_faster": faster,
        "times_faster_quartiles": [low, high],
        "times_faster_cpu": cpu,
        "times": times,
    }


def difference(case: Case, steps: int = 3) -> float:
    """Return the largest relative difference of the two ways' losses after some steps."""
    x, y = case.data()
    task = case.task(x, y)
    conditions = [authors_protocol(rank, num_outputs=case.units) for rank in case.ranks]
    training = LinearTraining(hidden=(case.units,), num_steps=steps)
    starts = initial_weights(task, conditions, training)
    found = simulate_linear(task, conditions, training, starts=starts)["loss"].isel(seed=0, step=-1)
    gaps = []
    for rank, start, loss in zip(case.ranks, starts, found.values, strict=True):
        loop = Loop(x, y, start, 0, rank)
        for _ in range(steps):
            loop.step()
        with torch.no_grad():
            own = ((y - x @ loop.w1.mT @ loop.w2.mT) ** 2).mean()
        gaps.append(abs(own.item() / loss - 1))
    return float(max(gaps))


def scaling(tiny: bool, repeats: int) -> dict[str, Any]:
    """Return the seconds of an iteration of all networks as size, number and samples grow."""
    sizes = (8, 16) if tiny else (32, 64, 128, 256, 512)
    samples = (50, 100) if tiny else (1000, 10_000, 100_000)
    seeds = (1, 2) if tiny else (1, 2, 4, 8, 16)
    base = 200 if tiny else 20_000
    series: dict[str, tuple[str, list[tuple[int, Case]]]] = {
        "size": ("inputs (twice the hidden units and outputs)", []),
        "number": ("networks", []),
        "samples": ("samples", []),
    }
    for n in sizes:
        ranks = (1, 2) if tiny else (2, 4, 8, 12, 16)
        case = Case(samples=base, inputs=n, units=n // 2, modes=n // 4, ranks=ranks)
        series["size"][1].append((n, case))
    small: dict[str, Any] = {"inputs": 8, "units": 4, "modes": 2, "ranks": (1, 4)} if tiny else {}
    for count in seeds:
        case = Case(samples=base, seeds=count, **small)
        series["number"][1].append((count * len(case.ranks), case))
    for count in samples:
        series["samples"][1].append((count, Case(samples=count, **small)))
    found = {}
    for name, (axis, cases) in series.items():
        rows = []
        for value, case in cases:
            one = compare(case, repeats, 5 if tiny else 20)
            rows.append({"value": value, **one["seconds_per_iteration"]})
        found[name] = {"axis": axis, "unit": "seconds an iteration of all networks", "rows": rows}
    return found


def report(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    main = result["comparison"]
    rows = [["way", "ms an iteration", "5000 iterations (s)"]]
    for name in ("ours", "loop"):
        seconds, whole = (main[k][name] for k in ("seconds_per_iteration", "seconds_extrapolated"))
        rows.append([name, f"{1e3 * seconds:.2f}", f"{whole:.1f}"])
    print_table(rows)
    low, high = main["times_faster_quartiles"]
    print(f"ours is {main['times_faster']:.0f} times faster ({low:.0f} to {high:.0f})")
    print(f"largest relative difference of the losses {main['largest_difference']:.1e}")
    for part in result["scaling"].values():
        rows = [[part["axis"], "ours (ms)", "loop (ms)"]]
        rows += [
            [str(row["value"]), f"{1e3 * row['ours']:.2f}", f"{1e3 * row['loop']:.1f}"]
            for row in part["rows"]
        ]
        print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try it out")
    default = ROOT / "benchmarks/results/linear_network_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny = settings.tiny
    case = Case(samples=200, inputs=8, units=4, modes=2, ranks=(1, 4)) if tiny else Case()
    result: dict[str, Any] = {"machine": describe_machine(), "name": "linear networks"}
    result["comparison"] = compare(case, 1 if tiny else settings.repeats, 5 if tiny else 100)
    gap = difference(case)
    result["comparison"] |= {"largest_difference": gap, "same": bool(gap < LARGEST_GAP)}
    result["scaling"] = scaling(tiny, 1 if tiny else max(settings.repeats // 3, 1))
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
