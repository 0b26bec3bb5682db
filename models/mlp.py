"""Multilayer perceptron: Hanut & Kadmon (2025) on CIFAR-10, and in small on Fashion-MNIST.

Every function returns a complete run; vary it with ``--set`` or `neurofb.config.replace`.

The CIFAR runs read your own files. They differ from the authors' script: a tenth of the training
images is held out for validation, the test set is used once, at the end (the authors keep the best
epoch on it), and augmentation is mirroring alone (theirs also turns by up to 10 degrees).
"""

from neurofb.config import Measurement, RunConfig, replace
from neurofb.data import Augmentation, Cifar, FashionMNIST
from neurofb.feedback import Direct, LowRank, Oja
from neurofb.networks import MLPConfig
from neurofb.training import Exponential, Optimiser, TrainingConfig


def small() -> RunConfig:
    """Backpropagation through three hidden layers of 512 on 20 000 Fashion-MNIST images."""
    return RunConfig(
        name="MLP, BP",
        data=FashionMNIST(num_train=20_000, normalise="dataset"),
        network=MLPConfig(image_size=28, in_channels=1),
        training=TrainingConfig(
            num_steps=10 * 157,
            batch_size=128,
            optimiser=Optimiser(learning_rate=1e-3),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
        ),
        measurement=Measurement(layers=()),
    )


def ldfa(rank: int = 10) -> RunConfig:
    """LDFA on every layer that hands an error down, learnt locally; the readout's by the targets.

    The rank of the readout is at most the number of classes.
    """
    return _ldfa(small(), rank, f"MLP, LDFA r={rank}")


def bp_cifar(folder: str = "cifar-10-batches-py") -> RunConfig:
    """Backpropagation, 3072-512-512-512-10 with batch normalisation, 160 epochs. Your own files."""
    return RunConfig(
        name="MLP on CIFAR-10, BP",
        data=Cifar(path=folder, grey=False, normalise="dataset"),
        network=MLPConfig(),
        training=_hanut2025(learning_rate=5e-4),
        measurement=Measurement(layers=()),
    )


def ldfa_cifar(folder: str = "cifar-10-batches-py", rank: int = 10) -> RunConfig:
    """LDFA of the first generation: Oja for P, Kolen-Pollack for Q. Your own files.

    One Adam with one rate and one weight decay moves weights and feedback.
    """
    config = replace(bp_cifar(folder), training=_hanut2025(learning_rate=6e-4))
    return _ldfa(config, rank, f"MLP on CIFAR-10, LDFA r={rank}")


def dldfa_cifar(
    folder: str = "cifar-10-batches-py", rank: int = 10, source: str = "readout"
) -> RunConfig:
    """dLDFA: hidden layers taught straight from the readout, or from hidden_3. Your own files.

    What hands the source's error down (readout and, for hidden_3, hidden_3) carries LDFA.
    """
    config = ldfa_cifar(folder, rank)
    direct = Direct(source=source, rank=rank, learning=Oja(), clip_rank=True)
    taught = ("hidden_2", "hidden_3") if source == "readout" else ("hidden_2",)
    return replace(
        config,
        name=f"MLP on CIFAR-10, dLDFA r={rank}",
        feedback_overrides=dict.fromkeys(taught, direct) | dict(config.feedback_overrides),
    )


def _ldfa(config: RunConfig, rank: int, name: str) -> RunConfig:
    return replace(
        config,
        name=name,
        feedback=LowRank(rank=rank, learning=Oja()),
        feedback_layers=("hidden_[2-9]",),
        feedback_overrides={
            "readout": LowRank(rank=rank, learning=Oja(drive="target"), clip_rank=True)
        },
    )


def _hanut2025(*, learning_rate: float) -> TrainingConfig:
    return TrainingConfig(
        num_steps=160 * 1407,
        batch_size=32,
        optimiser=Optimiser(
            name="Adam",
            learning_rate=learning_rate,
            weight_decay=4e-4,
            decay_on="all",
            options={"amsgrad": True},
        ),
        schedule=Exponential(per_epoch=0.975),
        augmentation=Augmentation(rotate=False, flip=True, shift=0),
        checkpoint_every=1407,
    )
