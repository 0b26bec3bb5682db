"""Time `receptive_field` against one backward per unit on full images.

The 32-channel retina with 9×9 kernels on 32×32 images, 32 units, 64 probes. The plain way runs the
64 images through the network once and then makes one backward to the images for each unit. Both
ways are timed in turns within one run, and must give the same maps to 1e-5 of the largest weight.

    python benchmarks/receptive_field_time.py --repeats 5
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, describe_machine, interleave, print_table, write_result
from torch import Tensor, nn

from neurofb.measures import gaussian_probes, receptive_field
from neurofb.networks import RetinaVVSConfig

IMAGE, NUM_PROBES, SEED = 32, 64, 0
SUPPORT = {"retina_2": 17, "vvs_1": 25}
CASES = (("retina_2", 1), ("retina_2", 3), ("retina_2", 7), ("vvs_1", 1))


def plain(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Average the gradient of each centre unit over the images, one backward per unit."""
    seen: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: tuple, output: Tensor) -> None:
        seen[layer] = output

    handle = network.get_submodule(layer).register_forward_hook(keep)
    images = images.clone().requires_grad_(True)
    network(images)
    handle.remove()
    centre = seen[layer][:, :, IMAGE // 2, IMAGE // 2].sum(0)
    maps = [torch.autograd.grad(unit, images, retain_graph=True)[0].mean(0) for unit in centre]
    return torch.stack(maps)


def compare(layer: str, channels: int, repeats: int) -> dict[str, Any]:
    """Time both ways in turns; return times, ratio, and the largest difference of the maps."""
    network = RetinaVVSConfig(
        image_size=IMAGE, in_channels=channels, kernel_size=9, bottleneck=32, vvs_layers=2
    ).build(SEED)
    network.eval()
    shape, size = (channels, IMAGE, IMAGE), SUPPORT[layer]
    first = IMAGE // 2 - size // 2
    window = slice(first, first + size)
    # noise around the support, to show that it does not matter
    images = torch.randn(NUM_PROBES, *shape, generator=torch.Generator().manual_seed(1))
    probes = gaussian_probes(NUM_PROBES, (channels, size, size), 0.3, SEED, NUM_PROBES)
    images[:, :, window, window] = next(probes)
    maps: dict[str, Tensor] = {}

    def ours() -> None:
        rf = receptive_field(network, layer, input_shape=shape, num_probes=NUM_PROBES, seed=SEED)
        maps["ours"] = torch.as_tensor(rf.receptive_field.values)

    def one_by_one() -> None:
        maps["plain"] = plain(network, layer, images)[..., window, window]

    times = interleave({"ours": ours, "plain": one_by_one}, repeats, warmup=1)
    gap = (maps["ours"] - maps["plain"]).abs().max() / maps["plain"].abs().max()
    return {
        "layer": layer,
        "channels": channels,
        "threads": torch.get_num_threads(),
        "times_faster": times["plain"]["ratio"],
        "times_faster_cpu": times["plain"]["cpu_ratio"],
        "largest_difference": float(gap),
        "same_maps": bool(gap < 1e-5),
        "times": times,
    }


def report(results: list[dict[str, Any]]) -> None:
    """Print the results as a table."""
    rows = [["layer", "channels", "threads", "ours (s)", "plain (s)", "faster", "difference"]]
    for row in results:
        seconds = [f"{row['times'][name]['seconds']:.3f}" for name in ("ours", "plain")]
        settings = [row["layer"], str(row["channels"]), str(row["threads"])]
        gain = [f"{row['times_faster']:.0f}×", f"{row['largest_difference']:.1e}"]
        rows.append([*settings, *seconds, *gain])
    print_table(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    default = ROOT / "benchmarks/results/receptive_field_time.json"
    parser.add_argument("--out", type=Path, default=default)
    settings = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine(), "num_units": 32}
    result |= {"num_probes": NUM_PROBES, "image_size": IMAGE, "results": []}
    for threads in settings.threads:
        torch.set_num_threads(threads)
        for layer, channels in CASES:
            result["results"].append(compare(layer, channels, settings.repeats))
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(settings.out, result)
    report(result["results"])


if __name__ == "__main__":
    main()
