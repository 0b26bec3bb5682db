"""Time of a training step under each rule, relative to backpropagation, beside its FLOPs.

    python benchmarks/step_time.py            # everything, about five minutes
    python benchmarks/step_time.py --tiny     # a few seconds, to see that it runs

All variants of a network are timed in turns in one process. Plain SGD moves weights and feedback
matrices in all of them. `ratio` is the median over rounds of the wall time relative to plain
backpropagation in the same round; `FLOPs` the ratio that the equations need (see `flops.py`).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from cases import Case, make_trainee, mlp, retina
from flops import dispatched, needed
from machine import ROOT, describe_machine, interleave, print_table, write_result
from memory import peak_memory

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def cases(tiny: bool) -> dict[str, Case]:
    """Return the networks to time."""
    if tiny:
        small = retina(image_size=8, kernel_size=3, width=8, batch=4, rank=2, hidden=8)
        return {"mlp": mlp(width=32, batch=8, rank=4), "retina": small}
    return {"mlp": mlp(), "retina": retina()}


def measure(case: Case, dtype: str, threads: int, repeats: int) -> dict[str, Any]:
    """Time every variant of a network in one setting."""
    torch.set_num_threads(threads)
    trainees = {name: make_trainee(case, name, dtype=DTYPES[dtype]) for name in case.pathways}
    times = interleave({name: trainee.step for name, trainee in trainees.items()}, repeats)
    return {"network": case.name, "dtype": dtype, "threads": threads, "variants": times}


def count(case: Case) -> dict[str, Any]:
    """Return FLOPs of every variant and their ratio to backpropagation's."""
    rows: dict[str, Any] = {}
    for name in case.pathways:
        parts = needed(case, name)
        seen = dispatched(make_trainee(case, name))
        rows[name] = {"parts": parts, "needed": sum(parts.values()), "dispatched": seen}
    for row in rows.values():
        row["ratio"] = row["needed"] / rows["BP"]["needed"]
        row["dispatched_ratio"] = row["dispatched"] / rows["BP"]["dispatched"]
    return rows


def memory(case: Case, tiny: bool) -> dict[str, Any]:
    """Return the peak memory of every variant, each measured in a fresh process."""
    rows: dict[str, Any] = {}
    for name in ["BP", "LDFA Oja"] if tiny else case.pathways:
        command = [sys.executable, __file__, "--memory-of", case.name, name]
        found = subprocess.run(
            command + ["--tiny"] * tiny, capture_output=True, text=True, check=True
        )
        rows[name] = json.loads(found.stdout)
    for row in rows.values():
        for kind in ("resident", "allocated"):
            row[f"{kind}_above_bp"] = row[kind] - rows["BP"][kind]
    return rows


def memory_of(case: Case, variant: str) -> dict[str, int]:
    """Return peak memory and the size of the feedback matrices of one variant, in bytes."""
    trainee = make_trainee(case, variant)
    matrices = [
        value
        for name, value in trainee.network.state_dict().items()
        if ".pathway." in name and isinstance(value, torch.Tensor) and value.dim() > 0
    ]
    size = sum(value.numel() * value.element_size() for value in matrices)
    return {**peak_memory(trainee), "matrices": size}


def report(result: dict[str, Any]) -> None:
    """Print the tables."""
    for timing in result["timings"]:
        counts = result["flops"][timing["network"]]
        threads = timing["threads"]
        print(
            f"\n{timing['network']}, {timing['dtype']}, {threads} thread{'s' * (threads > 1)} "
            f"(BP: {timing['variants']['BP']['seconds'] * 1e3:.1f} ms)"
        )
        rows = [["", "ratio", "quartiles", "CPU time", "FLOPs", "ratio - FLOPs"]]
        for name, row in timing["variants"].items():
            low, high = row["ratio_quartiles"]
            flops = counts[name]["ratio"]
            rows.append(
                [
                    name,
                    f"{row['ratio']:.3f}",
                    f"{low:.3f}-{high:.3f}",
                    f"{row['cpu_ratio']:.3f}",
                    f"{flops:.3f}",
                    f"{row['ratio'] - flops:+.3f}",
                ]
            )
        print_table(rows)
    for network, memories in result["memory"].items():
        print(f"\n{network}, peak memory above BP, float32, 1 thread (MiB)")
        rows = [["", "resident", "torch's own", "matrices"]]
        for name, row in memories.items():
            keys = ("resident_above_bp", "allocated_above_bp", "matrices")
            rows.append([name, *(f"{row[key] / 2**20:+.2f}" for key in keys)])
        print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/step_time.json")
    parser.add_argument("--network", choices=["mlp", "retina"], action="append")
    parser.add_argument("--dtype", choices=list(DTYPES), action="append")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--repeats", type=int, help="rounds (default: 8 to 40, by network)")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, 2 rounds")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = cases(options.tiny)
    if options.memory_of:
        torch.set_num_threads(1)
        network, variant = options.memory_of
        print(json.dumps(memory_of(chosen[network], variant)))
        return
    chosen = {name: chosen[name] for name in options.network or chosen}
    repeats = {("mlp", "float32"): 15, ("mlp", "bf16"): 40, ("retina", "float32"): 6}
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "optimiser": "SGD, weights and feedback matrices alike",
        "networks": {name: case.note for name, case in chosen.items()},
        "flops": {name: count(case) for name, case in chosen.items()},
        "timings": [],
    }
    for case in chosen.values():
        for dtype in options.dtype or DTYPES:
            for threads in options.threads or ((1,) if options.tiny else (1, 2)):
                rounds = options.repeats or (2 if options.tiny else repeats.get((case.name, dtype)))
                result["timings"].append(measure(case, dtype, threads, rounds or 15))
    result["memory"] = {}
    if not options.no_memory:
        result["memory"] = {name: memory(case, options.tiny) for name, case in chosen.items()}
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(options.out, result)
    report(result)
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
