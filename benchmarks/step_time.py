"""Time of a training step under each rule, relative to backpropagation, beside its FLOPs.

    python benchmarks/step_time.py --peer FOLDER    # everything, see --help for parts
    python benchmarks/step_time.py --tiny           # a few seconds, to see that it runs

All variants of a network are timed in turns in one process. Plain SGD moves weights and feedback
matrices in all of them. `ratio` is the median over rounds of the wall time relative to plain
backpropagation in the same round; `FLOPs` the same ratio of the matrix products that were counted
(`neurofb.measures.compute_cost`), `equations` of those that the equations need
(`neurofb.measures.analytic_cost`). `learning` is what a rule that teaches Q and P adds to the step
with the same, fixed matrices. The peer, BioTorch, is installed as `peer.py` says. With glibc set
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000: else memory given back and faulted in again
adds several ms to the steps of one variant or another.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peer
import torch
from cases import Case, Trainee, make_trainee, mlp, retina, vgg, vit
from machine import (
    ROOT,
    describe_machine,
    interleave,
    print_table,
    summarise,
    write_result,
)
from memory import peak_memory

from neurofb.measures import analytic_cost, compute_cost

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
#: (network, dtype) -> rounds
ROUNDS = {
    ("mlp", "float32"): 15,
    ("mlp", "bf16"): 40,
    ("vgg", "float32"): 7,
    ("vgg", "bf16"): 9,
    ("vit", "float32"): 5,
    ("vit", "bf16"): 7,
    ("retina", "float32"): 6,
    ("retina", "bf16"): 15,
}
#: network -> numbers of threads; the large ones take too long on one
THREADS = {"mlp": (1, 2), "vgg": (2,), "vit": (2,), "retina": (1, 2)}
#: networks whose peak memory is measured, each variant in a process of its own
MEMORY = ("mlp", "vgg", "retina")
#: rules whose step is compared with that of "LDFA fixed", which has the same matrices
LEARNING = ("LDFA Oja", "LDFA factored KP", "LDFA normative")


def cases(tiny: bool) -> dict[str, Case]:
    """Return the networks to time."""
    if tiny:
        small = retina(image_size=8, kernel_size=3, width=8, batch=4, rank=2, hidden=8)
        return {
            "mlp": mlp(width=32, batch=8, rank=4),
            "vgg": vgg(widths=(16, 32), batch=2, image_size=8),
            "vit": vit(dim=16, depth=2, heads=2, batch=2, image_size=8),
            "retina": small,
        }
    return {"mlp": mlp(), "vgg": vgg(), "vit": vit(), "retina": retina()}


def measure(
    case: Case, dtype: str, threads: int, repeats: int, biotorch: Any | None
) -> dict[str, Any]:
    """Time every variant of a network in one setting."""
    torch.set_num_threads(threads)
    trainees = {name: make_trainee(case, name, dtype=DTYPES[dtype]) for name in case.pathways}
    if biotorch is not None:
        theirs = _peer_trainee(case, dtype, trainees["FA"], biotorch)
        trainees |= {} if theirs is None else {peer.NAME: theirs}
    times = interleave({name: trainee.step for name, trainee in trainees.items()}, repeats)
    rounds = {name: times[name]["rounds"] for name in ("LDFA fixed", *LEARNING)}
    learning = {
        name: {key: row[key] for key in ("ratio", "ratio_quartiles")}
        for name, row in summarise(rounds).items()
    }
    return {
        "network": case.name,
        "dtype": dtype,
        "threads": threads,
        "variants": times,
        "learning": learning,
    }


def count(case: Case) -> dict[str, Any]:
    """Return FLOPs of every variant, needed and counted, and their ratios to backpropagation's."""
    rows: dict[str, Any] = {}
    for name in case.pathways:
        trainee = make_trainee(case, name)
        counted = compute_cost(trainee.network, trainee.images, trainee.labels)
        needed = analytic_cost(trainee.network, trainee.images).flops.sum("layer")
        product = counted.flops.sel(kind="product")
        rows[name] = {
            "needed": float(needed.sum()),
            "needed_parts": needed.to_series().to_dict(),
            "counted": float(product.sum()),
            "counted_parts": product.to_series().to_dict(),
            "elementwise_parts": counted.flops.sel(kind="elementwise").to_series().to_dict(),
            "bytes_parts": counted.bytes.sum("kind").to_series().to_dict(),
        }
    for row in rows.values():
        row["needed_ratio"] = row["needed"] / rows["BP"]["needed"]
        row["counted_ratio"] = row["counted"] / rows["BP"]["counted"]
        row["bytes_ratio"] = sum(row["bytes_parts"].values()) / sum(
            rows["BP"]["bytes_parts"].values()
        )
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
        rounds = timing["variants"]["BP"]["repeats"]
        print(
            f"\n{timing['network']}, {timing['dtype']}, {threads} thread{'s' * (threads > 1)}, "
            f"{rounds} rounds (BP: {timing['variants']['BP']['seconds'] * 1e3:.1f} ms)"
        )
        heading = ["", "ratio", "quartiles", "CPU time", "FLOPs", "ratio - FLOPs", "equations"]
        rows = [[*heading, "bytes", "learning"]]
        for name, row in timing["variants"].items():
            low, high = row["ratio_quartiles"]
            cost = counts["FA" if name == peer.NAME else name]
            learns = timing["learning"].get(name)
            rows.append(
                [
                    name,
                    f"{row['ratio']:.3f}",
                    f"{low:.3f}-{high:.3f}",
                    f"{row['cpu_ratio']:.3f}",
                    f"{cost['counted_ratio']:.3f}",
                    f"{row['ratio'] - cost['counted_ratio']:+.3f}",
                    f"{cost['needed_ratio']:.3f}",
                    f"{cost['bytes_ratio']:.3f}",
                    f"{100 * (learns['ratio'] - 1):+.1f} %" if learns else "",
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
    chosen = cases("--tiny" in sys.argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/step_time.json")
    parser.add_argument("--network", choices=list(chosen), action="append", help="default: all")
    parser.add_argument("--dtype", choices=list(DTYPES), action="append")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and 2, by network")
    parser.add_argument("--repeats", type=int, help="rounds (default: 5 to 40, by network)")
    parser.add_argument("--peer", type=Path, help="folder into which BioTorch was installed")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, 2 rounds")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        torch.set_num_threads(1)
        network, variant = options.memory_of
        print(json.dumps(memory_of(chosen[network], variant)))
        return
    chosen = {name: chosen[name] for name in options.network or chosen}
    biotorch = peer.load(options.peer)
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "optimiser": "SGD, weights and feedback matrices alike",
        "networks": {name: case.note for name, case in chosen.items()},
        "malloc": {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")},
        "peer": peer.NAME if biotorch is not None else "not installed",
        "flops": {name: count(case) for name, case in chosen.items()},
        "timings": [],
    }
    for case in chosen.values():
        for dtype in options.dtype or DTYPES:
            for threads in options.threads or ((1,) if options.tiny else THREADS[case.name]):
                rounds = options.repeats or (2 if options.tiny else ROUNDS[case.name, dtype])
                result["timings"].append(measure(case, dtype, threads, rounds, biotorch))
    result["memory"] = {}
    measured = [name for name in chosen if name in MEMORY]
    if not options.no_memory:
        result["memory"] = {name: memory(chosen[name], options.tiny) for name in measured}
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(options.out, result)
    report(result)
    print(f"\n{options.out}")


def _peer_trainee(case: Case, dtype: str, ours: Trainee, biotorch: Any) -> Trainee | None:
    """Return the network with BioTorch's layers, or None where they do not run."""
    change = peer.replace_layers(biotorch, ours.network)
    trainee = make_trainee(case, "BP", dtype=DTYPES[dtype], change=change)
    try:
        trainee.step()
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        print(f"peer: {case.name}, {dtype}: BioTorch's layers do not run ({first})")
        return None
    return trainee


if __name__ == "__main__":
    main()
