"""Time a step of our Muon against torch's, and its share of a training step; one thread.

    python benchmarks/muon_time.py           # everything
    python benchmarks/muon_time.py --tiny    # a few seconds, to see that it runs

The optimisers update the same 2-D parameters (kernels are given to torch's flattened, since it
takes no others) from the same gradients, in turns in one process. The ratio printed is the median
over rounds of the CPU time relative to torch's in the same round (other processes disturb it less
than the wall time, which is recorded too). Torch multiplies in bfloat16, for which some processors
have units of their own (AMX) and others do not, so all is timed again, in processes of their own,
with oneDNN held to what older processors have (ONEDNN_MAX_CPU_ISA). "medium" is ours in float32
under ``torch.set_float32_matmul_precision("medium")``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result
from torch import nn

from neurofb.networks import ConvNetConfig, MLPConfig
from neurofb.training import Muon, Optimiser, split_params

#: "": all that the processor has
INSTRUCTION_SETS = ("", "AVX512_CORE", "AVX2")


def networks(tiny: bool) -> dict[str, tuple[MLPConfig | ConvNetConfig, int]]:
    """Return name → network and batch size."""
    if tiny:
        small = ConvNetConfig(image_size=8, in_channels=1, channels=(4, 8), strides=(2, 1))
        return {
            "mlp": (MLPConfig(image_size=8, in_channels=1, hidden=(16,) * 3), 8),
            "conv net": (small, 4),
        }
    mlp = MLPConfig(image_size=28, in_channels=1, hidden=(256,) * 6, normalisation="none")
    return {
        "mlp": (mlp, 128),
        "conv net": (ConvNetConfig(image_size=28, in_channels=1), 64),
    }


def against_torch(network: nn.Module, repeats: int) -> dict[str, Any]:
    """Time the optimisers on a network's matrices; what torch's update is apart from ours, too."""
    generator = torch.Generator().manual_seed(0)
    shapes = [parameter.flatten(1).shape for parameter in split_params(network)[0]]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    settings: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.0}
    makers: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        "torch": lambda own: torch.optim.Muon(own, **settings),
        "ours": lambda own: Muon(own, **settings),
        "ours, bfloat16": lambda own: Muon(own, ns_dtype="bfloat16", **settings),
        "ours, medium": lambda own: Muon(own, **settings),
    }
    steps: dict[str, Callable[[], object]] = {}
    changes: dict[str, list[torch.Tensor]] = {}
    for name, make in makers.items():
        own = [nn.Parameter(tensor.clone()) for tensor in start]
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient.clone()
        steps[name] = _step(make(own), "medium" if name.endswith("medium") else "highest")
        steps[name]()
        changes[name] = [p.detach() - s for p, s in zip(own, start, strict=True)]
    differences = {
        name: max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(changes[name], changes["ours"], strict=True)
        )
        for name in makers
    }
    times = interleave(steps, repeats)
    for name, row in times.items():
        row["largest_difference_to_ours"] = differences[name]
    return {"shapes": [list(shape) for shape in shapes], "times": times}


def share_of_a_step(config: Any, batch_size: int, repeats: int) -> dict[str, Any]:
    """Time the optimisers' steps beside the passes forwards and backwards."""
    network = config.build(0)
    size = batch_size, config.in_channels, config.image_size, config.image_size
    images = torch.randn(size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch_size) % config.num_classes

    def passes() -> None:
        network.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(images), labels).backward()

    passes()
    half: dict[str, Any] = {"ns_dtype": "bfloat16"}
    optimisers = {
        "Muon": Optimiser(name="Muon", learning_rate=1e-6),
        "Muon, bfloat16": Optimiser(name="Muon", learning_rate=1e-6, options=half),
        "AdamW": Optimiser(learning_rate=1e-6),
    }
    steps = {name: _step(optimiser.build(network)) for name, optimiser in optimisers.items()}
    times = interleave({"passes": passes, **steps}, repeats)
    ratios = {name: times[name]["cpu_ratio"] for name in steps}
    shares = {name: ratio / (1 + ratio) for name, ratio in ratios.items()}
    return {"batch_size": batch_size, "share_of_training_step": shares, "times": times}


def measure(tiny: bool, repeats: int) -> dict[str, Any]:
    """Time everything in this process."""
    results = {}
    for name, (config, batch_size) in networks(tiny).items():
        results[name] = {
            "against_torch": against_torch(config.build(0), repeats),
            "training_step": share_of_a_step(config, batch_size, repeats),
        }
    return results


def measure_with(instructions: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time everything in a process in which oneDNN uses no more than these instructions."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions or "DEFAULT"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--part", "--out", str(out)]
        command += ["--tiny"] * options.tiny + ["--repeats", str(options.repeats)]
        subprocess.run(command, check=True, env=environment)
        return json.loads(out.read_text(encoding="utf-8"))


def report(result: dict[str, Any]) -> None:
    """Print the results as two tables."""
    rows = [["instructions", "matrices of", "Muon", "ms", "to torch's", "difference"]]
    shares = [["instructions", "network", "optimiser", "ms", "share of a step"]]
    for instructions, parts in result["results"].items():
        for network, part in parts.items():
            for name, row in part["against_torch"]["times"].items():
                cells = f"{1000 * row['cpu_seconds']:.2f}", f"{row['cpu_ratio']:.2f}"
                difference = f"{row['largest_difference_to_ours']:.1e}"
                rows.append([instructions, network, name, *cells, difference])
            step = part["training_step"]
            for name, share in step["share_of_training_step"].items():
                milliseconds = f"{1000 * step['times'][name]['cpu_seconds']:.2f}"
                shares.append([instructions, network, name, milliseconds, f"{share:.0%}"])
    print_table(rows)
    print()
    print_table(shares)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="small networks, 2 rounds")
    parser.add_argument("--repeats", type=int, help="rounds (default: 15)")
    parser.add_argument("--part", action="store_true", help="only this process, nothing printed")
    default = ROOT / "benchmarks/results/muon_time.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.tiny else 15)
    torch.set_num_threads(1)
    if options.part:
        write_result(options.out, measure(options.tiny, options.repeats))
        return
    result: dict[str, Any] = {"machine": describe_machine(), "results": {}}
    for instructions in INSTRUCTION_SETS[: 2 if options.tiny else None]:
        result["results"][instructions or "all"] = measure_with(instructions, options)
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(options.out, result)
    report(result)


def _step(optimiser: torch.optim.Optimizer, precision: str = "highest") -> Callable[[], object]:
    def step() -> None:
        torch.set_float32_matmul_precision(precision)
        optimiser.step()
        torch.set_float32_matmul_precision("highest")

    return step


if __name__ == "__main__":
    main()
