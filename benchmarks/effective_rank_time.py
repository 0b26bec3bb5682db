"""Time the participation rank without an SVD against the same number by SVD.

One matrix of 8192 × 512, float32 and float64, one thread. Ours is `effective_rank(x,
"participation")`. By SVD it is Σ s² squared over Σ s⁴ with the singular values of three calls: of
torch without singular vectors (the fastest there is), of torch with them, and of numpy without; and
what `effective_rank` takes for its other definitions. All are timed in turns within one run and
must give the same rank: to 1e-12 for float64, to 1e-6 for float32.

    python benchmarks/effective_rank_time.py --repeats 15
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result

from neurofb.measures import effective_rank
from neurofb.measures.effective_rank import spectrum_rank

SEED = 0
LARGEST_GAP = {"float32": 1e-6, "float64": 1e-12}


def compare(rows: int, columns: int, dtype: str, repeats: int) -> dict[str, Any]:
    """Time all ways in turns; return times, how many times faster ours is, and the largest gap."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows, columns, generator=generator, dtype=getattr(torch, dtype))
    spectra: dict[str, Callable[[], torch.Tensor]] = {
        "torch svdvals": lambda: torch.linalg.svdvals(x),
        "torch svd": lambda: torch.linalg.svd(x, full_matrices=False).S,
        "numpy svd": lambda: torch.from_numpy(np.linalg.svd(x.numpy(), compute_uv=False)),
    }
    ranks: dict[str, float] = {}

    def ours() -> None:
        ranks["ours"] = effective_rank(x, "participation").item()

    def entropy() -> None:
        effective_rank(x, "entropy")

    def by(name: str) -> Callable[[], None]:
        def run() -> None:
            ranks[name] = spectrum_rank(spectra[name](), "participation").item()

        return run

    ways = {"ours": ours, **{name: by(name) for name in spectra}, "entropy rank": entropy}
    times = interleave(ways, repeats, warmup=1)
    reference = spectrum_rank(torch.linalg.svdvals(x.double()), "participation").item()
    gap = abs(ranks["ours"] / reference - 1)
    return {
        "dtype": dtype,
        "rank": reference,
        "times_faster": {name: times[name]["ratio"] for name in ways if name != "ours"},
        "times_faster_cpu": {name: times[name]["cpu_ratio"] for name in ways if name != "ours"},
        "relative_difference": gap,
        "same_rank": bool(gap < LARGEST_GAP[dtype]),
        "times": times,
    }


def report(results: list[dict[str, Any]]) -> None:
    """Print the results as a table."""
    rows = [["dtype", "way", "seconds", "ours is faster", "by CPU time", "difference of ours"]]
    for row in results:
        for name, times in row["times"].items():
            is_ours = name == "ours"
            keys = ("times_faster", "times_faster_cpu")
            faster = ["" if is_ours else f"{row[key][name]:.1f}×" for key in keys]
            gap = f"{row['relative_difference']:.1e}" if is_ours else ""
            rows.append([row["dtype"], name, f"{times['seconds']:.4f}", *faster, gap])
    print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tiny", action="store_true", help="a small matrix, to try it out")
    default = ROOT / "benchmarks/results/effective_rank_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1 or OPENBLAS_NUM_THREADS=1
    result: dict[str, Any] = {"machine": describe_machine()}
    rows, columns = (64, 16) if settings.tiny else (8192, 512)
    result |= {"rows": rows, "columns": columns, "results": []}
    for dtype in ("float32", "float64"):
        found = compare(rows, columns, dtype, 1 if settings.tiny else settings.repeats)
        result["results"].append(found)
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result["results"])


if __name__ == "__main__":
    main()
