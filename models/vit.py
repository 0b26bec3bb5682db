"""Vision transformer: Hanut & Kadmon (2025) on CIFAR-10, and in small on Fashion-MNIST.

Every function returns a complete run; vary it with ``--set`` or `neurofb.config.replace`.

The CIFAR runs read your own files. They differ from the authors' scripts: a tenth of the training
images is held out for validation; the augmentation, not known to us, is shift and mirroring, the
same for all images of a batch; rates warm up from zero. The pathway on a fused map of queries, keys
and values has three times the rank.
"""

import dataclasses

from neurofb.config import Measurement, RunConfig, replace
from neurofb.data import Augmentation, Cifar, FashionMNIST
from neurofb.feedback import FactoredKolenPollack, LowRank, Normative, Oja
from neurofb.networks import ViTConfig
from neurofb.training import Cosine, Optimiser, TrainingConfig


def small() -> RunConfig:
    """Backpropagation, 2 blocks of 64 dimensions, on 20 000 Fashion-MNIST images, 6 epochs.

    In float32: on CPUs torch's attention with few dimensions a head is slower in bfloat16.
    """
    return RunConfig(
        name="ViT, BP",
        data=FashionMNIST(num_train=20_000, normalise="dataset"),
        network=ViTConfig(
            image_size=28,
            in_channels=1,
            patch=7,
            dim=64,
            depth=2,
            heads=4,
            dropout=0.0,
            drop_path=0.0,
            fused_qkv=False,
        ),
        training=TrainingConfig(
            num_steps=6 * 157,
            batch_size=128,
            optimiser=Optimiser(learning_rate=1e-3),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
            precision="float32",
        ),
        measurement=Measurement(layers=()),
    )


def ldfa(rank: int = 10) -> RunConfig:
    """LDFA on every linear map of the blocks and on the readout, learnt locally.

    The rank of the readout is at most the number of classes.
    """
    return _taught(small(), LowRank(rank=rank, learning=Oja()), f"ViT, LDFA r={rank}")


def bp_cifar(folder: str = "cifar-10-batches-py") -> RunConfig:
    """Backpropagation, 8 blocks of 384 dimensions, patch 4, 250 epochs. Your own files."""
    return RunConfig(
        name="ViT on CIFAR-10, BP",
        data=Cifar(path=folder, grey=False, normalise="dataset"),
        network=ViTConfig(),
        training=_hanut2025(learning_rate=3e-4),
        measurement=Measurement(layers=()),
    )


def ldfa_cifar(folder: str = "cifar-10-batches-py", rank: int = 36) -> RunConfig:
    """LDFA of the second generation, from the SVD of W, normative rule. Your own files.

    P and Q have a rate of their own and no decay. The authors also reset Q P to the SVD of W every
    half epoch; whether this or the factored Kolen-Pollack rule made the published table is not
    certain.
    """
    pathway = LowRank(rank=rank, learning=Normative(), start="svd")
    training = _hanut2025(learning_rate=3e-4, feedback_rate=0.03)
    config = replace(bp_cifar(folder), training=training)
    return _taught(config, pathway, f"ViT on CIFAR-10, LDFA r={rank}")


def ldfa_local_cifar(folder: str = "cifar-10-batches-py", rank: int = 32) -> RunConfig:
    """LDFA by the factored Kolen-Pollack rule, never reset to W. Your own files.

    One rate and one decay for weights and feedback, which start at random here (from the SVD of W
    in the authors' script).
    """
    pathway = LowRank(rank=rank, learning=FactoredKolenPollack())
    config = replace(bp_cifar(folder), training=_hanut2025(learning_rate=5e-4))
    return _taught(config, pathway, f"ViT on CIFAR-10, local LDFA r={rank}")


def _taught(config: RunConfig, pathway: LowRank, name: str) -> RunConfig:
    """Put the pathway on all linear maps, with 3 r on fused ones and all classes at most."""
    overrides = {"readout": dataclasses.replace(pathway, clip_rank=True)}
    assert isinstance(config.network, ViTConfig)
    if config.network.fused_qkv:
        overrides["*.qkv"] = dataclasses.replace(pathway, rank=3 * pathway.rank)
    return replace(
        config,
        name=name,
        feedback=pathway,
        feedback_layers=("blocks.*",),
        feedback_overrides=overrides,
    )


def _hanut2025(*, learning_rate: float, feedback_rate: float | None = None) -> TrainingConfig:
    """One rate and decay for all, or for P and Q a rate of their own without decay."""
    steps_per_epoch = 176
    return TrainingConfig(
        num_steps=250 * steps_per_epoch,
        batch_size=256,
        optimiser=Optimiser(
            learning_rate=learning_rate,
            weight_decay=0.1,
            decay_on="weights",
            pathway_learning_rate=feedback_rate,
            pathway_weight_decay=None if feedback_rate is None else 0.0,
        ),
        schedule=Cosine(warmup_steps=10 * steps_per_epoch, final=0.0),
        augmentation=Augmentation(rotate=False, flip=True, shift=4, fill="zero"),
        checkpoint_every=steps_per_epoch,
    )
