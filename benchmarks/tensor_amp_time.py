"""Time a sweep of message passing over a tensor against a sweep of tensorly's `parafac`.

Both sweep over a planted 200 × 200 × 200 tensor of rank 1 and 5, in single and double precision, on
one thread: `TensorAMP` in its sequential schedule, and `parafac` by numpy and by torch without its
test of convergence (tol=0). A sweep is timed from its end to that of the next (what comes before
the sweeps is not in it: a look at all entries here, a start there); fits are timed in turns.
Beside it stands what memory allows: passes over the tensor in a sweep (counted) times the seconds
in which it is read once (the faster of a sum and a scalar product, measured in the same rounds).
How the time grows with the tensor, up to 4 GiB, is timed too.

    python benchmarks/tensor_amp_time.py
    python benchmarks/plot_scaling.py --systems two_theories
"""

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorly
import torch
from exponents import with_exponents
from machine import ROOT, describe_machine, print_table, summarise, write_result
from tensorly.decomposition import parafac

from neurofb.tensors import GaussianPrior, SharedProducts, TensorAMP, TensorProblem

PRIOR = GaussianPrior(mean=0.2)
NOISE_VARIANCE = 0.1
Stamp = tuple[float, float]  # wall and CPU time, in seconds
Fit = Callable[[int], list[Stamp]]  # sweeps asked for → when each was made


def planted(side: int, rank: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a cubic tensor of the benchmark."""
    problem = TensorProblem((side,) * 3, PRIOR, noise_variance=NOISE_VARIANCE, rank=rank)
    return problem.sample(0, dtype=dtype).tensor


class Stopwatch(GaussianPrior):
    """A prior that notes when it is asked, once a sweep."""

    stamps: ClassVar[list[Stamp]] = []

    def denoise(self, precision: Any, field: Any) -> Any:
        """Do what a Gaussian prior does."""
        self.stamps.append(now())
        return super().denoise(precision, field)


def now() -> Stamp:
    """Return wall and CPU time."""
    return time.perf_counter(), time.process_time()


def message_passing(tensor: torch.Tensor, rank: int) -> Fit:
    """Return a fit by our message passing."""
    priors = [Stopwatch(mean=PRIOR.mean), PRIOR, PRIOR]

    def fit(num_sweeps: int) -> list[Stamp]:
        Stopwatch.stamps.clear()
        settings: dict[str, Any] = {"max_sweeps": num_sweeps, "tolerance": 0}
        model = TensorAMP(rank=rank, priors=priors, noise_variance=NOISE_VARIANCE, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it need not converge
            model.fit(tensor)
        return list(Stopwatch.stamps)

    return fit


def least_squares(tensor: torch.Tensor, rank: int, backend: str) -> Fit:
    """Return a fit by tensorly, from uniform random factors."""
    tl: Any = tensorly  # its functions are found at run time
    draw = np.random.default_rng(0)
    like = tensor.numpy()
    start = [draw.random((side, rank)).astype(like.dtype) for side in tensor.shape]

    def fit(num_sweeps: int) -> list[Stamp]:
        stamps: list[Stamp] = []
        with tl.backend_context(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # return_errors is on its way out; a callback needs it
            factors: Any = [tl.tensor(each.copy()) for each in start]
            decomposition: Any = (None, factors)
            parafac(
                tensor if backend == "pytorch" else like,
                rank,
                init=decomposition,
                n_iter_max=num_sweeps,
                tol=0,
                return_errors=True,  # from the last product: next to nothing
                callback=lambda *_: stamps.append(now()),
            )
        return stamps[1:]  # the first is that of the start

    return fit


def sweep_times(fit: Fit, num_sweeps: int, times: int = 1) -> Stamp:
    """Return wall and CPU seconds of a sweep, the median of some fits.

    The first sweep is left out, and of the others an even number is taken: ours go over the tensor
    once and twice by turns.
    """
    walls, cpus = [], []
    for _ in range(times):
        stamps = fit(num_sweeps + 1)
        timed = (len(stamps) - 1) // 2 * 2
        assert timed, f"{len(stamps)} sweeps were made, of {num_sweeps + 1}: too few to be timed"
        (wall, cpu), (wall_end, cpu_end) = stamps[-1 - timed], stamps[-1]
        walls.append((wall_end - wall) / timed)
        cpus.append(max(cpu_end - cpu, 1e-9) / timed)
    return statistics.median(walls), statistics.median(cpus)


def read_times(tensor: torch.Tensor) -> tuple[float, float]:
    """Return wall and CPU seconds in which all entries are read once, at the fastest."""
    flat = tensor.view(-1)
    best = []
    for read in (torch.sum, lambda x: torch.dot(x, x)):
        wall, cpu = time.perf_counter(), time.process_time()
        read(flat)
        best.append((time.perf_counter() - wall, max(time.process_time() - cpu, 1e-9)))
    return min(best)


def passes_per_sweep(num_axes: int = 3) -> float:
    """Return how often our sequential schedule reads the tensor in a sweep, after the first."""
    tensor = torch.ones((2,) * num_axes)
    products = SharedProducts(tensor)
    factors = [torch.ones(2, 1) for _ in range(num_axes)]
    counts = []
    for _ in range(1 + 2 * (num_axes - 1)):
        for axis in range(num_axes):
            factors[axis] = products(factors, axis).clone()
        counts.append(products.num_passes)
    return (counts[-1] - counts[0]) / (len(counts) - 1)


def compare(side: int, rank: int, dtype: torch.dtype, repeats: int, long: int) -> dict[str, Any]:
    """Time sweeps of one tensor in turns."""
    tensor = planted(side, rank, dtype)
    fits = {
        "ours": message_passing(tensor, rank),
        "tensorly, numpy": least_squares(tensor, rank, "numpy"),
        "tensorly, torch": least_squares(tensor, rank, "pytorch"),
    }
    timed: dict[str, Callable[[], tuple[float, float]]] = {
        # a sweep of ours is so short that one fit says little
        name: lambda fit=fit, name=name: sweep_times(fit, long, 3 if name == "ours" else 1)
        for name, fit in fits.items()
    }
    timed["read once"] = lambda: read_times(tensor)
    wall: dict[str, list[float]] = {name: [] for name in timed}
    cpu: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(-1, repeats):  # the first round warms up
        names = list(timed)[number % len(timed) :] + list(timed)[: number % len(timed)]
        for name in names:
            seconds = timed[name]()
            if number >= 0:
                wall[name].append(seconds[0])
                cpu[name].append(seconds[1])
    times = summarise(wall, cpu)
    read, passes = times["read once"]["seconds"], passes_per_sweep()
    others = [name for name in fits if name != "ours"]
    return {
        "side": side,
        "rank": rank,
        "dtype": str(dtype)[6:],
        "milliseconds_per_sweep": {name: 1e3 * times[name]["seconds"] for name in fits},
        "times_faster": {name: times[name]["ratio"] for name in others},
        "times_faster_quartiles": {name: times[name]["ratio_quartiles"] for name in others},
        "times_faster_cpu": {name: times[name]["cpu_ratio"] for name in others},
        "passes_per_sweep": passes,
        "bytes": tensor.nbytes,
        "bandwidth_bytes_per_second": tensor.nbytes / read,
        "limit_milliseconds_per_sweep": 1e3 * passes * read,
        "times": times,
    }


def scaling(tiny: bool, repeats: int) -> dict[str, Any]:
    """Return the seconds of a sweep as the tensor grows, in single precision."""
    sides = (6, 8) if tiny else (50, 100, 200, 400, 700, 1024)
    found = {}
    for rank in (1, 5):
        rows = [_scaling_row(side, rank, tiny, repeats) for side in sides]
        axis = f"side of a cubic tensor (rank {rank}, float32)"
        series = {"axis": axis, "unit": "seconds a sweep", "rows": rows}
        found[f"side, rank {rank}"] = with_exponents(series, above=sides[-3:][0])
    found["largest"] = {
        "side": sides[-1],
        "gibibytes_of_the_tensor": 4 * sides[-1] ** 3 / 2**30,
        "peak_gibibytes_of_the_process": peak_memory() / 2**30,
    }
    return found


def _scaling_row(side: int, rank: int, tiny: bool, repeats: int) -> dict[str, Any]:
    tensor = planted(side, rank, torch.float32)
    long = 4 if tiny or side > 500 else max(6, min(20, 2000 // side))
    repeats = 1 if side > 500 else repeats
    fits = {"ours": message_passing(tensor, rank)}
    if side <= 400:  # tensorly copies the tensor in each sweep
        fits["tensorly"] = least_squares(tensor, rank, "numpy")
    row: dict[str, Any] = {"value": side}
    for name, fit in fits.items():
        often = 3 if name == "ours" and side <= 200 else 1
        row[name] = sweep_times(fit, long, repeats * often)[0]
    row["read once"] = statistics.median(read_times(tensor)[0] for _ in range(3))
    return row


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    unit = 1024  # Linux; elsewhere it is bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def report(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    one = result["comparisons"][0]
    rows = [["rank, dtype", *(f"{name} (ms)" for name in one["milliseconds_per_sweep"])]]
    rows[0] += ["memory's limit (ms)", "faster", "by CPU time"]
    for one in result["comparisons"]:
        cells = [f"{value:.2f}" for value in one["milliseconds_per_sweep"].values()]
        cells.append(f"{one['limit_milliseconds_per_sweep']:.2f}")
        for name in ("times_faster", "times_faster_cpu"):
            cells.append(" ".join(f"{value:.1f}×" for value in one[name].values()))
        rows.append([f"{one['rank']}, {one['dtype']}", *cells])
    print_table(rows)
    print(f"passes over the tensor in a sweep: {one['passes_per_sweep']:g}")
    for part in result["scaling"].values():
        names = list(dict.fromkeys(name for row in part["rows"] for name in row))[1:]
        rows = [[part["axis"], *(f"{name} (ms)" for name in names)]]
        for row in part["rows"]:
            cells = [f"{1e3 * row[name]:.2f}" if name in row else "" for name in names]
            rows.append([str(row["value"]), *cells])
        fits = (part["fits"].get(name) for name in names)
        rows.append(["exponent", *(f"{fit['exponent']:.2f}" if fit else "" for fit in fits)])
        print_table(rows)
    print("largest:", result["largest"])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="small tensors, to try it out")
    default = ROOT / "benchmarks/results/tensor_amp_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # numpy's: OMP_NUM_THREADS=1
    tiny, repeats = settings.tiny, 2 if settings.tiny else settings.repeats
    result: dict[str, Any] = {"machine": describe_machine(), "name": "message passing"}
    result["machine"]["tensorly"] = tensorly.__version__
    result["comparisons"] = [
        compare(8 if tiny else 200, rank, dtype, repeats, 4 if tiny else 10)
        for rank in (1, 5)
        for dtype in (torch.float32, torch.float64)
    ]
    result["scaling"] = scaling(tiny, 1 if tiny else max(repeats // 2, 1))
    result["largest"] = result["scaling"].pop("largest")
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result)


if __name__ == "__main__":
    main()
