"""Retina → ventral stream: the four conditions of Hanut & Kadmon (2025) Fig. 5, and two presets.

Every function returns a complete run; vary it with ``--set`` or `neurofb.config.replace`.
"""

from neurofb.config import RunConfig
from neurofb.data import Augmentation, Cifar
from neurofb.feedback import Direct, LowRank, Oja, SvdRefresh
from neurofb.networks import RetinaVVSConfig, hanut2025, lindsey2019
from neurofb.training import Exponential, InverseTime, Optimiser, TrainingConfig


def bp_wide() -> RunConfig:
    """Backpropagation, retina as wide as the cortex (32 outputs): oriented fields expected."""
    return RunConfig(name="BP wide", network=RetinaVVSConfig(bottleneck=32))


def bp_bottleneck(bottleneck: int = 4) -> RunConfig:
    """Backpropagation, narrow retinal output: centre-surround expected (Lindsey et al. 2019)."""
    return RunConfig(name="BP narrow", network=RetinaVVSConfig(bottleneck=bottleneck))


def ldfa(rank: int = 4) -> RunConfig:
    """LDFA: wide retina, but the error reaches it through `rank` dimensions at every pixel.

    The pathway lies on vvs_1, so it carries the error to the retinal output. The kernel sits in P;
    Q P is reset to the SVD of the weight every 10 steps (weight transport, the reference).
    """
    pathway = LowRank(rank=rank, learning=SvdRefresh(every=10), spatial_factor="P", start="svd")
    return RunConfig(name=f"LDFA r={rank}", feedback=pathway, feedback_layers=("vvs_1",))


def ldfa_local(rank: int = 4) -> RunConfig:
    """LDFA as `ldfa`, learnt locally: Oja for the channels, Kolen-Pollack for the kernel."""
    pathway = LowRank(rank=rank, learning=Oja(), spatial_factor="P")
    return RunConfig(name=f"LDFA r={rank}, local", feedback=pathway, feedback_layers=("vvs_1",))


def dldfa(rank: int = 64, source: str = "hidden") -> RunConfig:
    """dLDFA: narrow retina, both layers taught by a learnt map straight from the hidden layer."""
    return RunConfig(
        name="dLDFA narrow",
        network=RetinaVVSConfig(bottleneck=4),
        feedback=Direct(source=source, rank=rank, learning=Oja()),
        feedback_layers=("vvs_1", "retina_2"),
    )


def lindsey2019_cifar(folder: str = "cifar-10-batches-py", bottleneck: int = 1) -> RunConfig:
    """Lindsey et al. 2019 as published: grey CIFAR-10 in [0, 1], RMSprop. Your own files.

    Differs from the paper: torch instead of Keras; the shift fills with edge pixels by whole
    pixels, where Keras interpolates.
    """
    return RunConfig(
        name=f"Lindsey 2019, N={bottleneck}",
        data=Cifar(path=folder, classes=10, grey=True, normalise="none"),
        network=lindsey2019(bottleneck=bottleneck),
        training=TrainingConfig(
            num_steps=15_640,
            batch_size=64,
            optimiser=Optimiser(
                name="RMSprop", learning_rate=1e-4, options={"alpha": 0.9, "eps": 1e-7}
            ),
            schedule=InverseTime(decay=1e-6),
            augmentation=Augmentation(rotate=False, flip=True, shift=3),
        ),
    )


def hanut2025_cifar(folder: str = "cifar-10-batches-py", rank: int = 4) -> RunConfig:
    """Hanut & Kadmon 2025 Fig. 5c as far as known: rank-r error to the retina. Your own files.

    Differs from the authors' script: no 10 degree rotations; only the map to the retina learns by
    Oja and Kolen-Pollack (theirs has full-rank pathways of the same kind on the other layers).
    """
    return RunConfig(
        name=f"Hanut 2025, r={rank}",
        data=Cifar(path=folder, classes=10, grey=True, normalise="none"),
        network=hanut2025(bottleneck=32),
        feedback=LowRank(rank=rank, learning=Oja(), spatial_factor="Q"),
        feedback_layers=("vvs_1",),
        training=TrainingConfig(
            num_steps=120 * 782,
            batch_size=64,
            optimiser=Optimiser(
                name="RMSprop", learning_rate=4e-4, weight_decay=1e-4, decay_on="all"
            ),
            schedule=Exponential(per_epoch=0.975),
            augmentation=Augmentation(rotate=False, flip=True, shift=0),
        ),
    )
