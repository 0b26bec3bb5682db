"""A small training run, started as a program by the test that kills it."""

import dataclasses
import sys
from pathlib import Path

import torch
from torch import nn

from neurofb.data import ImageSet, ImageSplits
from neurofb.feedback import LowRank, Oja, attach
from neurofb.networks import RetinaVVSConfig
from neurofb.training import TrainingConfig, TrainingResult, train


def toy(num_images: int = 70) -> ImageSplits:
    def images(number: int, seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (number,), generator=generator)
        noise = torch.randn(number, 1, 8, 8, generator=generator)
        return ImageSet(images=noise + labels[:, None, None, None], labels=labels)

    return ImageSplits(
        train=images(num_images, 1),
        validation=images(12, 2),
        test=images(12, 3),
        classes=("low", "middle", "high"),
        name="toy",
    )


def tiny_network(*, pathway: bool = True, **settings: float) -> nn.Module:
    sizes = {"image_size": 8, "kernel_size": 3, "retina_width": 4, "bottleneck": 2, "vvs_width": 4}
    config = RetinaVVSConfig(**sizes, num_classes=3, hidden=5, dropout=0.2)
    network = dataclasses.replace(config, **settings).build(seed=0)
    return attach(network, {"vvs_1": LowRank(rank=1, learning=Oja())} if pathway else {})


def run(
    folder: Path | None, num_steps: int, precision: str, *, resume: bool
) -> tuple[nn.Module, TrainingResult]:
    network = tiny_network()
    config = TrainingConfig(
        num_steps=num_steps,
        batch_size=16,
        checkpoint_every=7,
        precision="bfloat16" if precision == "bfloat16" else "float32",
        channels_last=precision == "bfloat16",
    )
    result = train(
        network,
        toy(),
        config,
        seed=5,
        device="cpu",
        folder=folder,
        resume=resume,
        progress=False,
    )
    return network, result


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print("ready", flush=True)
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], resume=True)
