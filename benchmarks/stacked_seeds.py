"""Training throughput of 16 seeds as one stack against the loop over them, on one thread.

    python benchmarks/stacked_seeds.py           # everything
    python benchmarks/stacked_seeds.py --tiny    # a few seconds, to see that it runs

Both train the same networks with the same settings (AdamW, default augmentation, float32), in turns
in one process: `neurofb.training.train` seed after seed, `neurofb.training.train_stacked` all at
once. Training alone is timed, with one validation at the end, of networks that are built before.
`speedup` is the median over rounds of the loop's time relative to the stack's in the same round;
throughput is in steps of one seed per second. `parts` says where a stack's step spends its time.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result
from torch import nn

from neurofb import feedback as fb
from neurofb.data import ImageSet, ImageSplits
from neurofb.networks import MLPConfig, RetinaVVSConfig
from neurofb.training import Optimiser, TrainingConfig, train, train_stacked


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its pathways, and how many steps a round takes."""

    name: str
    network: MLPConfig | RetinaVVSConfig
    rule: str = "BP"
    num_steps: int = 30
    batch_size: int = 32


RULES: dict[str, fb.PathwaySpec | None] = {
    "BP": None,
    "FA": fb.Random(),
    "KP": fb.Random(learning=fb.KolenPollack()),
    "LDFA Oja": fb.LowRank(rank=4),
}


def cases(tiny: bool) -> list[Case]:
    """Return what is timed."""

    def mlp(size: int, *hidden: int) -> MLPConfig:
        return MLPConfig(image_size=size, in_channels=1, hidden=hidden)

    small = mlp(8, 64)
    if tiny:
        return [Case(name="64-64-10", network=small, rule=rule, num_steps=3) for rule in RULES]
    return [
        *(Case(name="64-64-10", network=small, rule=rule, num_steps=60) for rule in RULES),
        Case(name="64-64-64-10", network=mlp(8, 64, 64), num_steps=60),
        Case(name="64-128-128-10", network=mlp(8, 128, 128), num_steps=40),
        Case(name="784-64-10", network=mlp(28, 64)),
        Case(name="784-128-128-10", network=mlp(28, 128, 128)),
        Case(name="784-512-512-512-10", network=mlp(28, 512, 512, 512), num_steps=8),
        Case(
            name="retina 12×12",
            network=RetinaVVSConfig(
                image_size=12, kernel_size=3, retina_width=8, bottleneck=2, vvs_width=8, hidden=16
            ),
        ),
    ]


def images(case: Case) -> ImageSplits:
    """Return random images of a case's size."""
    generator = torch.Generator().manual_seed(0)
    side, num_train = case.network.image_size, case.num_steps * case.batch_size

    def some(number: int) -> ImageSet:
        return ImageSet(
            images=torch.randn(number, 1, side, side, generator=generator),
            labels=torch.randint(10, (number,), generator=generator),
        )

    names = tuple("abcdefghij")
    return ImageSplits(
        train=some(num_train), validation=some(32), test=some(32), classes=names, name="random"
    )


def measure(case: Case, num_seeds: int, repeats: int) -> dict[str, Any]:
    """Time the loop and the stack in turns."""
    data, spec = images(case), RULES[case.rule]
    training = TrainingConfig(
        num_steps=case.num_steps,
        batch_size=case.batch_size,
        optimiser=Optimiser(),
        precision="float32",
    )

    def build(seed: int) -> nn.Module:
        network = case.network.build(seed)
        if spec is not None:
            example = data.train.images[:2]
            fb.attach(network, {"*": spec}, example_input=example, seed=seed)
        return network

    seeds = range(num_seeds)
    ours, theirs = [build(seed) for seed in seeds], [build(seed) for seed in seeds]

    def loop() -> None:
        for seed, network in zip(seeds, theirs, strict=True):
            train(network, data, training, seed=seed, device="cpu", progress=False)

    def stack() -> None:
        train_stacked(ours, data, training, seeds=seeds, device="cpu")

    timed = interleave({"stack": stack, "loop": loop}, repeats, warmup=1)
    steps = num_seeds * case.num_steps
    return {
        "network": case.name,
        "rule": case.rule,
        "parameters": sum(p.numel() for p in case.network.build(0).parameters()),
        "batch_size": case.batch_size,
        "steps_per_round": case.num_steps,
        "speedup": timed["loop"]["ratio"],
        "speedup_quartiles": timed["loop"]["ratio_quartiles"],
        "cpu_speedup": timed["loop"]["cpu_ratio"],
        "loop_seed_steps_per_second": steps / timed["loop"]["seconds"],
        "stack_seed_steps_per_second": steps / timed["stack"]["seconds"],
        "timed": timed,
        "parts": parts(ours, data, training, list(seeds)),
    }


def parts(
    networks: list[nn.Module], data: ImageSplits, training: TrainingConfig, seeds: list[int]
) -> dict[str, float]:
    """Return the milliseconds of a stack's step by part, medians over the steps of one training."""
    from neurofb.training import stacked_session as module

    session = module.StackedSession
    spent: dict[str, list[float]] = {}

    def timing(name: str, function: Any) -> Any:
        def timed(*inputs: Any, **named: Any) -> Any:
            start = time.perf_counter()
            answer = function(*inputs, **named)
            spent.setdefault(name, []).append(1000 * (time.perf_counter() - start))
            return answer

        return timed

    changed = [
        (session, "update", "step"),
        (module.StackedBatches, "at", "batch"),
        (module.StackedForward, "__call__", "forward"),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.AdamW, "step", "optimiser"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changed]
    try:
        for owner, name, part in changed:
            setattr(owner, name, timing(part, getattr(owner, name)))
        train_stacked(networks, data, training, seeds=seeds, device="cpu")
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
    return {part: statistics.median(values) for part, values in spent.items()}


def report(result: dict[str, Any]) -> None:
    """Print the table."""
    rows = [["network", "rule", "weights", "loop 1/s", "stack 1/s", "speedup", "quartiles"]]
    for row in result["cases"]:
        low, high = row["speedup_quartiles"]
        rows.append(
            [
                row["network"],
                row["rule"],
                str(row["parameters"]),
                f"{row['loop_seed_steps_per_second']:.0f}",
                f"{row['stack_seed_steps_per_second']:.0f}",
                f"{row['speedup']:.2f}",
                f"{low:.2f}-{high:.2f}",
            ]
        )
    print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/stacked_seeds.json")
    parser.add_argument("--seeds", type=int, help="networks in the stack (default: 16)")
    parser.add_argument("--repeats", type=int, help="rounds (default: 7)")
    parser.add_argument("--tiny", action="store_true", help="3 steps, 2 rounds, 3 seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num_seeds = options.seeds or (3 if options.tiny else 16)
    repeats = options.repeats or (2 if options.tiny else 7)
    result: dict[str, Any] = {"machine": describe_machine(), "seeds": num_seeds, "cases": []}
    for case in cases(options.tiny):
        result["cases"].append(measure(case, num_seeds, repeats))
        print(f"{case.name} {case.rule}: {result['cases'][-1]['speedup']:.2f}", file=sys.stderr)
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(options.out, result)
    report(result)
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
