"""VGG-like network: Hanut & Kadmon (2025) on CIFAR-10, and in small on Fashion-MNIST.

Every function returns a complete run; vary it with ``--set`` or `neurofb.config.replace`.

The CIFAR runs read your own files. They differ from the authors' scripts: a tenth of the training
images is held out for validation, augmentation is shift and mirroring (theirs also covers a square
of 16 pixels), shift and mirror image are the same for all images of a batch, and gradients of P and
Q are not clamped.
"""

import dataclasses

from neurofb.config import Feedback, Measurement, RunConfig, replace
from neurofb.data import Augmentation, Cifar, FashionMNIST
from neurofb.feedback import LowRank, Normative, Oja
from neurofb.networks import VGGConfig
from neurofb.training import Exponential, Optimiser, TrainingConfig


def small() -> RunConfig:
    """Backpropagation, 8 to 64 channels, on 20 000 Fashion-MNIST images, 4 epochs."""
    return RunConfig(
        name="VGG, BP",
        data=FashionMNIST(num_train=20_000, normalise="dataset"),
        network=VGGConfig(
            image_size=28, in_channels=1, widths=(8, 16, 32, 64), hidden=64, dropout=0.0
        ),
        training=TrainingConfig(
            num_steps=4 * 157,
            batch_size=128,
            optimiser=Optimiser(learning_rate=3e-3),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
        ),
        measurement=Measurement(layers=()),
    )


def ldfa(rank: int = 10) -> RunConfig:
    """LDFA on every layer that hands an error down, learnt locally, kernels in Q.

    The rank is lowered where a layer does not allow it: 8 in the first block.
    """
    pathway = LowRank(rank=rank, learning=Oja(), clip_rank=True)
    layers = ("conv_1_2", "conv_[2-4]_*", "hidden", "readout")
    return replace(small(), name=f"VGG, LDFA r={rank}", feedback=pathway, feedback_layers=layers)


def bp_cifar(folder: str = "cifar-10-batches-py") -> RunConfig:
    """Backpropagation, eight convolutions of 64 to 512 channels, 400 epochs. Your own files."""
    return RunConfig(
        name="VGG on CIFAR-10, BP",
        data=Cifar(path=folder, grey=False, normalise="dataset"),
        network=VGGConfig(),
        training=_hanut2025(num_epochs=400),
        measurement=Measurement(layers=()),
    )


def ldfa_cifar(folder: str = "cifar-10-batches-py", ratio: int = 4) -> RunConfig:
    """LDFA of the second generation, which reads W: rank = channels / ratio. Your own files.

    P and Q follow the normative rule at a rate of their own, 250 epochs. The head keeps
    backpropagation. Which rule the paper's later runs of this network used is not certain.
    """
    return replace(
        bp_cifar(folder),
        name=f"VGG on CIFAR-10, LDFA channels/{ratio}",
        feedback_overrides=_by_block(LowRank(rank=1, learning=Normative(), start="svd"), ratio),
        training=_hanut2025(num_epochs=250, feedback_rate=0.01),
    )


def ldfa_local_cifar(folder: str = "cifar-10-batches-py", ratio: int = 4) -> RunConfig:
    """LDFA of the first generation: Oja and Kolen-Pollack, rank = channels / ratio. Your own files.

    One Adam with one rate and one weight decay moves weights and feedback; the head keeps
    backpropagation.
    """
    return replace(
        bp_cifar(folder),
        name=f"VGG on CIFAR-10, local LDFA channels/{ratio}",
        feedback_overrides=_by_block(LowRank(rank=1, learning=Oja()), ratio),
    )


def _by_block(pathway: LowRank, ratio: int) -> dict[str, Feedback]:
    """Give every convolution but the first the pathway, with a rank by its channels."""
    patterns = ("conv_1_2", "conv_2_*", "conv_3_*", "conv_4_*")
    ranks = (width // ratio for width in VGGConfig().widths)
    return {
        pattern: dataclasses.replace(pathway, rank=rank, clip_rank=True)
        for pattern, rank in zip(patterns, ranks, strict=True)
    }


def _hanut2025(*, num_epochs: int, feedback_rate: float | None = None) -> TrainingConfig:
    """One rate and decay for all, or for P and Q a rate of their own without decay."""
    return TrainingConfig(
        num_steps=num_epochs * 704,
        batch_size=64,
        optimiser=Optimiser(
            name="Adam",
            learning_rate=5e-4,
            weight_decay=5e-5,
            decay_on="all",
            pathway_learning_rate=feedback_rate,
            pathway_weight_decay=None if feedback_rate is None else 0.0,
        ),
        schedule=Exponential(per_epoch=0.98),
        augmentation=Augmentation(rotate=False, flip=True, shift=4, fill="zero"),
        checkpoint_every=704,
    )
