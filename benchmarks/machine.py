"""What every benchmark shares: the machine on record, fair timing, the result as JSON."""

import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

#: The root of the checkout.
ROOT = Path(__file__).resolve().parent.parent


def describe_machine() -> dict[str, Any]:
    """Return commit, processor, cores, threads, torch version, date and load of this run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
    }


def interleave(
    functions: Mapping[str, Callable[[], object]], repeats: int, *, warmup: int = 2
) -> dict[str, dict[str, Any]]:
    """Time functions in turns, so that whatever else the machine does hits all of them.

    Parameters
    ----------
    functions
        Name → what is timed. The first one is the reference of the ratios.
    repeats, warmup
        Number of rounds, each in a new order, and of untimed rounds before them.

    Returns
    -------
    dict
        Name → median and quartiles of the wall time, median of the process's CPU time, and of the
        ratio to the reference *within a round* ("ratio": wall, "cpu_ratio": CPU time, which other
        processes disturb less), and the wall times of all rounds. Times in seconds.

    Raises
    ------
    ValueError
        If `repeats` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    shuffle = random.Random(0).shuffle
    for round_number in range(-warmup, repeats):
        shuffle(order)
        for name in order:
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            functions[name]()
            wall_end, cpu_end = time.perf_counter(), time.process_time()
            if round_number >= 0:
                wall[name].append(wall_end - wall_start)
                cpu[name].append(cpu_end - cpu_start)
    return summarise(wall, cpu)


def summarise(
    wall: Mapping[str, Sequence[float]], cpu: Mapping[str, Sequence[float]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return medians, quartiles and ratios to the first name, from times of the same rounds."""
    reference = next(iter(wall))
    summary = {}
    for name, times in wall.items():
        low, median, high = quartiles(times)
        row = {"repeats": len(times), "seconds": median, "seconds_quartiles": [low, high]}
        low, median, high = quartiles(_ratios(times, wall[reference]))
        row |= {"ratio": median, "ratio_quartiles": [low, high], "rounds": list(times)}
        if cpu is not None:
            low, median, high = quartiles(_ratios(cpu[name], cpu[reference]))
            row |= {
                "cpu_seconds": statistics.median(cpu[name]),
                "cpu_ratio": median,
                "cpu_ratio_quartiles": [low, high],
            }
        summary[name] = row
    return summary


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text in columns, the first row as the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for i, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
        if i == 0:
            print("  ".join("-" * width for width in widths))


def _ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [a / max(b, 1e-12) for a, b in zip(times, reference, strict=True)]


def _commit() -> str:
    """Return the commit of the checkout, with a mark if files differ from it."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _cpu_name() -> str:
    """Return the processor's name, with its family and model number where those are told."""
    info: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = info.get("model name", platform.machine())
    features = [f for f in ("avx2", "avx512f", "amx_bf16") if f in info.get("flags", "").split()]
    return f"{name}, model {info.get('model', '?')}, {' '.join(features)}".rstrip(", ")
