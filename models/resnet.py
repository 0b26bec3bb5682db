"""Residual networks: He et al. (2016) on CIFAR-10 with several rules, in small on Fashion-MNIST.

Every function returns a complete run; vary it with ``--set`` or `neurofb.config.replace`.

The CIFAR runs read your own files. As in He et al., section 4.2, 45 000 images train and 5000
validate, SGD makes 64 000 steps of 128 images from a rate of 0.1. Differs: the rate falls by half a
cosine instead of two steps; shift and mirror image are the same for all images of a batch.

The CIFAR-100 runs are those of ResNet-18 that Boeshertz, Pascanu & Clopath (2026, arXiv:2606.11123)
look at: feedback alignment with Muon and normalisation. We know their abstract only; batches,
length and rates are ours, and nobody has run these at full length yet.
"""

from typing import Literal

from neurofb.config import Feedback, Measurement, RunConfig, replace
from neurofb.data import Augmentation, Cifar, FashionMNIST
from neurofb.feedback import LowRank, Normative, Oja, Random
from neurofb.networks import ResNetConfig
from neurofb.training import Cosine, Optimiser, TrainingConfig


def small() -> RunConfig:
    """Backpropagation through ResNet-20 on 20 000 Fashion-MNIST images, 2 epochs."""
    return RunConfig(
        name="ResNet-20, BP",
        data=FashionMNIST(num_train=20_000, normalise="dataset"),
        network=ResNetConfig(image_size=28, in_channels=1),
        training=TrainingConfig(
            num_steps=2 * 157,
            batch_size=128,
            optimiser=Optimiser(learning_rate=3e-3),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
        ),
        measurement=Measurement(layers=()),
    )


def ldfa(rank: int = 10) -> RunConfig:
    """LDFA on every layer behind the stem, learnt locally, kernels in Q."""
    pathway = LowRank(rank=rank, learning=Oja(), clip_rank=True)
    return _taught(small(), pathway, f"ResNet-20, LDFA r={rank}")


def bp_cifar(folder: str = "cifar-10-batches-py", depth: Literal[18, 20, 32, 56] = 20) -> RunConfig:
    """Backpropagation through a ResNet of 18, 20, 32 or 56 layers. Your own files."""
    optimiser = Optimiser(
        name="SGD",
        learning_rate=0.1,
        weight_decay=1e-4,
        decay_on="all",
        options={"momentum": 0.9},
        pathway_weight_decay=0.0,
    )
    return RunConfig(
        name=f"ResNet-{depth} on CIFAR-10, BP",
        data=Cifar(path=folder, grey=False, normalise="dataset"),
        network=ResNetConfig(depth=depth),
        training=TrainingConfig(
            num_steps=64_000,
            batch_size=128,
            optimiser=optimiser,
            schedule=Cosine(warmup_steps=0, final=0.0),
            augmentation=Augmentation(rotate=False, flip=True, shift=4, fill="zero"),
            checkpoint_every=1000,
        ),
        measurement=Measurement(layers=()),
    )


def fa_cifar(folder: str = "cifar-10-batches-py", depth: Literal[18, 20, 32, 56] = 20) -> RunConfig:
    """Feedback alignment on every layer behind the stem. Your own files."""
    return _taught(bp_cifar(folder, depth), Random(), f"ResNet-{depth} on CIFAR-10, FA")


def ldfa_cifar(
    folder: str = "cifar-10-batches-py", rank: int = 16, depth: Literal[18, 20, 32, 56] = 20
) -> RunConfig:
    """LDFA by the normative rule, which reads W, from the SVD of W. Your own files."""
    pathway = LowRank(rank=rank, learning=Normative(), start="svd", clip_rank=True)
    name = f"ResNet-{depth} on CIFAR-10, LDFA r={rank}"
    return _taught(bp_cifar(folder, depth), pathway, name)


def bp_cifar100(folder: str = "cifar-100-python") -> RunConfig:
    """Backpropagation with Adam through ResNet-18 on 100 classes, 100 epochs. Your own files."""
    return _cifar100(folder, "BP", Optimiser(name="Adam", learning_rate=1e-3))


def bp_muon_cifar100(folder: str = "cifar-100-python") -> RunConfig:
    """Backpropagation with Muon through ResNet-18 on 100 classes. Your own files."""
    return _cifar100(folder, "BP, Muon", _MUON)


def fa_cifar100(folder: str = "cifar-100-python") -> RunConfig:
    """Feedback alignment with Adam through ResNet-18 on 100 classes. Your own files."""
    config = _cifar100(folder, "BP", Optimiser(name="Adam", learning_rate=1e-3))
    return _taught(config, Random(start="normal"), "ResNet-18 on CIFAR-100, FA")


def fa_muon_cifar100(
    folder: str = "cifar-100-python",
    normalisation: Literal["none", "batch", "layer", "group", "centre"] = "batch",
) -> RunConfig:
    """Feedback alignment with Muon through ResNet-18 on 100 classes. Your own files."""
    config = _cifar100(folder, "BP, Muon", _MUON)
    config = replace(
        config, network=ResNetConfig(depth=18, num_classes=100, normalisation=normalisation)
    )
    return _taught(config, Random(start="normal"), "ResNet-18 on CIFAR-100, FA, Muon")


#: Muon for kernels, Adam for the readout and all vectors
_MUON = Optimiser(
    name="Muon", learning_rate=0.02, other_learning_rate=1e-3, options={"scale": "original"}
)


def _cifar100(folder: str, name: str, optimiser: Optimiser) -> RunConfig:
    """Return a run of ResNet-18 on CIFAR-100; ranks are measured at the start and the end."""
    return RunConfig(
        name=f"ResNet-18 on CIFAR-100, {name}",
        data=Cifar(path=folder, classes=100, grey=False, normalise="dataset"),
        network=ResNetConfig(depth=18, num_classes=100),
        training=TrainingConfig(
            num_steps=100 * 352,
            batch_size=128,
            optimiser=optimiser,
            schedule=Cosine(warmup_steps=0, final=0.0),
            augmentation=Augmentation(rotate=False, flip=True, shift=4, fill="zero"),
            checkpoint_every=352,
        ),
        measurement=Measurement(layers=(), rank_images=512),
    )


def _taught(config: RunConfig, pathway: Feedback, name: str) -> RunConfig:
    layers = ("blocks.*", "readout")
    return replace(config, name=name, feedback=pathway, feedback_layers=layers)
