"""CPU/GPU parity of the feedback rules, and step times by device events.

    python benchmarks/gpu.py                # on the GPU if there is one, some minutes
    python benchmarks/gpu.py --device cpu   # every line without a GPU: float32 against float64

Parity: the same network, batch and rate on the CPU and on the device, float32 with TF32 off; the
loss over 50 steps and the first gradient of every weight and feedback matrix. Step time: BP, FA,
LDFA, DFA and dLDFA in turns after a warm-up, float32 (TF32 off) and bf16 autocast. Then the same
for the simulators of learning dynamics (gpu_dynamics.py), in float64.
"""

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_dynamics
import torch
from cases import Case, Trainee, make_trainee, mlp, retina, vgg, vit
from machine import ROOT, describe_machine, print_table, summarise, write_result

TIMED = ("BP", "FA", "LDFA fixed", "LDFA Oja", "LDFA normative", "DFA", "dLDFA Oja")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def cases(tiny: bool) -> list[Case]:
    """Return the networks: MLP, VGG, ViT, retina net (also with Lindsey's full-size head)."""
    if tiny:
        small = retina(image_size=8, kernel_size=3, width=8, batch=4, rank=2, hidden=8)
        full = replace(small, name="retina_full_head")
        return [
            mlp(width=32, batch=8, rank=4),
            vgg(widths=(16, 32), batch=2, image_size=8),
            vit(dim=16, depth=2, heads=2, batch=2, image_size=8),
            small,
            full,
        ]
    large = retina(pool=1, hidden=1024, name="retina_full_head")
    return [mlp(), vgg(), vit(), retina(), large]


def parity(case: Case, variant: str, device: str, steps: int) -> dict[str, Any]:
    """Train on the CPU and on the device from the same start; compare losses and gradients.

    On the CPU itself the comparison is float32 against float64.
    """
    reference_dtype = torch.float64 if device == "cpu" else torch.float32
    reference = make_trainee(case, variant, dtype=reference_dtype, rate=1e-3)
    tested = make_trainee(case, variant, device=device, rate=1e-3)
    losses = {"reference": _losses(reference, 1), "device": _losses(tested, 1)}
    gradients = _gradient_differences(reference, tested)
    losses["reference"] += _losses(reference, steps - 1)
    losses["device"] += _losses(tested, steps - 1)
    pairs = zip(losses["reference"], losses["device"], strict=True)
    return {
        "network": case.name,
        "variant": variant,
        "reference": f"cpu {str(reference_dtype).removeprefix('torch.')}",
        "gradient_relative_difference": gradients,
        "largest_gradient_difference": max(gradients.values()),
        "losses": losses,
        "largest_loss_difference": max(abs(a - b) / abs(a) for a, b in pairs),
    }


def step_times(case: Case, dtype: str, device: str, repeats: int) -> dict[str, Any]:
    """Time the rules of `TIMED` in turns."""
    trainees = {
        name: make_trainee(case, name, dtype=DTYPES[dtype], device=device) for name in TIMED
    }
    times: dict[str, list[float]] = {name: [] for name in trainees}
    order = list(trainees)
    shuffle = random.Random(0).shuffle
    for round_number in range(-3, repeats):
        shuffle(order)
        for name in order:
            seconds = _timed_step(trainees[name], device)
            if round_number >= 0:
                times[name].append(seconds)
    return {"network": case.name, "dtype": dtype, "variants": summarise(times)}


def choose_device(asked: str) -> str:
    """Return the device: the one asked for, or the best that is there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there.get(asked, True):
        raise SystemExit(f"--device {asked}: torch finds no such device here; try --device auto")
    return asked


def report(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\ndevice: {result['device_name']}; parity with the CPU in exact arithmetic is 0")
    rows = [["", "variant", "loss, largest", "gradient, largest"]]
    for row in result["parity"]:
        found = row["largest_loss_difference"], row["largest_gradient_difference"]
        rows.append([row["network"], row["variant"], *(f"{value:.1e}" for value in found)])
    print_table(rows)
    print()
    rows = [["", "dtype", "variant", "ms", "ratio", "quartiles"]]
    for timing in result["timings"]:
        for name, row in timing["variants"].items():
            low, high = row["ratio_quartiles"]
            cells = [f"{row['seconds'] * 1e3:.3f}", f"{row['ratio']:.3f}", f"{low:.3f}-{high:.3f}"]
            rows.append([timing["network"], timing["dtype"], name, *cells])
    print_table(rows)
    print()
    print_table(gpu_dynamics.rows(result["dynamics"]))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu_DEVICE.json")
    parser.add_argument("--steps", type=int, default=50, help="training steps of the parity run")
    parser.add_argument("--repeats", type=int, help="timed rounds (default: 100; 5 on a CPU)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, 5 steps, 2 rounds")
    options = parser.parse_args()
    device = choose_device(options.device)
    steps = 5 if options.tiny else options.steps
    repeats = options.repeats or (2 if options.tiny else 5 if device == "cpu" else 100)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    chosen = cases(options.tiny)
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else device,
        "ran_on_gpu": device != "cpu",
        "tf32": False,
        "clock": "device events" if device == "cuda" else "perf_counter, synchronised",
        "networks": {case.name: case.note for case in chosen},
        "parity": [],
        "timings": [],
    }
    for case in chosen:
        for variant in case.pathways:
            result["parity"].append(parity(case, variant, device, steps))
        for dtype in DTYPES:
            result["timings"].append(step_times(case, dtype, device, repeats))
    rounds = min(repeats, 5)
    result["dynamics"] = [
        gpu_dynamics.measure(simulation, device, rounds)
        for simulation in gpu_dynamics.simulations(options.tiny)
    ]
    out = options.out or ROOT / f"benchmarks/results/gpu_{device}.json"
    write_result(out, result)
    report(result)
    print(f"\n{out}")
    if device == "cpu":
        print("This ran on the CPU: nothing here says anything about a GPU.")


def _losses(trainee: Trainee, steps: int) -> list[float]:
    """Train and return the loss before every step; the last step's gradients stay."""
    losses = []
    for _ in range(steps):
        losses.append(float(trainee.loss().detach()))
        trainee.step()
    return losses


def _gradient_differences(reference: Trainee, tested: Trainee) -> dict[str, float]:
    """Return ‖difference‖ / ‖reference‖ of every parameter's present gradient."""
    found = dict(tested.network.named_parameters())
    differences = {}
    for name, parameter in reference.network.named_parameters():
        expected, actual = parameter.grad, found[name].grad
        assert (expected is None) == (actual is None), name
        if expected is not None and actual is not None:
            wide = expected.double()
            error = (actual.cpu().double() - wide).norm()
            differences[name] = float(error / wide.norm().clamp(min=1e-30))
    return differences


def _timed_step(trainee: Trainee, device: str) -> float:
    """Return the seconds of one step, by the device's own clock where it has one."""
    if device == "cpu":
        start = time.perf_counter()
        trainee.step()
        return time.perf_counter() - start
    if device == "mps":
        torch.mps.synchronize()
        start = time.perf_counter()
        trainee.step()
        torch.mps.synchronize()
        return time.perf_counter() - start
    first = torch.cuda.Event(enable_timing=True)
    last = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    trainee.step()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


if __name__ == "__main__":
    main()
