"""How long, and how often, message passing and least squares take to the same error.

For every noise variance Δ and seed a planted cubic tensor (prior mean 0.2, factors standardised, as
small tensors scatter else). The error to reach is that of least squares which was started from the
truth, times 1.05: what least squares can do at its best. A method succeeds if a sweep reaches it;
its time is that of a fit of so many sweeps, with its start and without scores. The starts of least
squares are random factors, singular vectors and the prior mean, which message passing starts from.

    python benchmarks/tensor_success.py
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, print_table, write_result

from neurofb.tensors import GaussianPrior, TensorALS, TensorAMP, TensorProblem

PRIOR = GaussianPrior(mean=0.2)
SLACK = 1.05
METHODS = ("AMP", "ALS, prior mean", "ALS, singular vectors", "ALS, random")
_STARTS = {"ALS, prior mean": "prior", "ALS, singular vectors": "svd", "ALS, random": "random"}


def fit(
    method: str, tensor: torch.Tensor, delta: float, seed: int, sweeps: int, truth: Any = None
) -> TensorAMP | TensorALS:
    """Fit by a method; one that need not converge."""
    if method == "AMP":
        model = TensorAMP(priors=PRIOR, noise_variance=delta, max_sweeps=sweeps, seed=seed)
    else:
        start: Any = _STARTS.get(method, truth)
        model = TensorALS(priors=PRIOR, start=start, max_sweeps=sweeps, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(tensor, truth=truth)


def one_tensor(side: int, delta: float, seed: int, sweeps: int) -> dict[str, Any]:
    """Return what each method reaches on one tensor, and when."""
    problem = TensorProblem((side,) * 3, PRIOR, noise_variance=delta)
    tensor, truth, _ = problem.sample(seed, standardise=True, dtype=torch.float32)
    best = fit("ALS, truth", tensor, delta, seed, sweeps, truth)
    target = SLACK * errors(best)[-1]
    found: dict[str, Any] = {"noise_variance": delta, "seed": seed, "target": target}
    for method in METHODS:
        reached = errors(fit(method, tensor, delta, seed, sweeps, truth))
        first = next((i + 1 for i, error in enumerate(reached) if error <= target), None)
        row: dict[str, Any] = {"error": reached[-1], "num_sweeps": len(reached), "first": first}
        if first is not None:
            row["seconds"] = statistics.median(
                timed(method, tensor, delta, seed, first) for _ in range(3)
            )
        found[method] = row
    return found


def timed(*settings: Any) -> float:
    """Return the seconds of a fit."""
    start = time.perf_counter()
    fit(*settings)
    return time.perf_counter() - start


def errors(model: TensorAMP | TensorALS) -> list[float]:
    """Return the error of the tensor after each sweep."""
    return model.trace_["tensor_error"].values.tolist()


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return success rates and medians of each noise variance and method."""
    found = []
    for delta in dict.fromkeys(row["noise_variance"] for row in rows):
        here = [row for row in rows if row["noise_variance"] == delta]
        line: dict[str, Any] = {"noise_variance": delta}
        line["target"] = statistics.median(row["target"] for row in here)
        for method in METHODS:
            reached = [row[method] for row in here if row[method]["first"] is not None]
            line[method] = {
                "success_rate": len(reached) / len(here),
                "error": statistics.median(row[method]["error"] for row in here),
                "seconds": statistics.median(r["seconds"] for r in reached) if reached else None,
                "sweeps": statistics.median(r["first"] for r in reached) if reached else None,
            }
        found.append(line)
    return found


def report(result: dict[str, Any]) -> None:
    """Print the results as a table."""
    rows = [["Δ", "error to reach", *(f"{method}" for method in METHODS)]]
    for line in result["summary"]:
        cells = []
        for method in METHODS:
            one = line[method]
            when = "" if one["seconds"] is None else f", {1e3 * one['seconds']:.0f} ms"
            cells.append(f"{100 * one['success_rate']:.0f} %{when} (ends at {one['error']:.3f})")
        rows.append([f"{line['noise_variance']:g}", f"{line['target']:.3f}", *cells])
    print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--side", type=int, default=150)
    parser.add_argument("--tiny", action="store_true", help="small tensors, to try it out")
    default = ROOT / "benchmarks/results/tensor_success.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny = settings.tiny
    side, seeds, sweeps = (16, 2, 20) if tiny else (settings.side, settings.seeds, 100)
    deltas = (0.02, 0.1) if tiny else (0.05, 0.1, 0.13, 0.16, 0.2)
    result: dict[str, Any] = {"machine": describe_machine(), "name": "time to the same error"}
    result["settings"] = {
        "side": side,
        "prior_mean": PRIOR.mean,
        "max_sweeps": sweeps,
        "slack": SLACK,
        "dtype": "float32",
        "standardised": True,
    }
    one_tensor(side, deltas[0], seeds, sweeps=3)  # warms up
    rows = [one_tensor(side, delta, seed, sweeps) for seed in range(seeds) for delta in deltas]
    result |= {"rows": rows, "summary": summary(rows)}
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
