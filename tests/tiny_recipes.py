"""Recipes that take a second, for the tests (loaded by path, as a user's own are)."""

from neurofb.config import Measurement, RunConfig, replace
from neurofb.data import ShapesOnLeaves
from neurofb.feedback import Direct, DirectRandom, LowRank, SvdRefresh
from neurofb.networks import MLPConfig, RetinaVVSConfig
from neurofb.study import Study
from neurofb.training import Optimiser, TrainingConfig


def bp(bottleneck: int = 4, num_steps: int = 12) -> RunConfig:
    """Backpropagation."""
    return RunConfig(
        name="tiny BP",
        data=ShapesOnLeaves(num_train=64, num_validation=32, num_test=32, image_size=12),
        network=RetinaVVSConfig(
            image_size=12,
            kernel_size=3,
            retina_width=4,
            bottleneck=bottleneck,
            vvs_width=4,
            hidden=8,
        ),
        training=TrainingConfig(num_steps=num_steps, batch_size=16, checkpoint_every=5),
        measurement=Measurement(fits=False, num_probes=4, num_images=32),
        device="cpu",
    )


def low_rank() -> RunConfig:
    """LDFA on the way to the retina."""
    pathway = LowRank(rank=1, learning=SvdRefresh(every=2), spatial_factor="P", start="svd")
    return replace(bp(), name="tiny LDFA", feedback=pathway, feedback_layers=("vvs_1",))


def direct() -> RunConfig:
    """DLDFA to both layers of the retina."""
    return replace(
        bp(bottleneck=2),
        name="tiny dLDFA",
        feedback=Direct(source="hidden", rank=4),
        feedback_layers=("vvs_1", "retina_2"),
    )


def pair() -> Study:
    """Two conditions with different numbers of units, two seeds."""
    return Study(
        name="tiny", conditions={"BP wide": bp(), "BP narrow": bp(bottleneck=2)}, seeds=(0, 1)
    )


def mlp() -> RunConfig:
    """Any network: no receptive fields, alignment at start and end."""
    return replace(
        bp(),
        name="tiny MLP",
        network=MLPConfig(image_size=12, in_channels=1, hidden=(8, 8)),
        feedback=LowRank(rank=2),
        feedback_layers=("*",),
        measurement=Measurement(layers=(), alignment_images=16),
    )


def table() -> Study:
    """Two networks without receptive fields, of different depths and lengths, two seeds."""
    deep = MLPConfig(image_size=12, in_channels=1, hidden=(8, 6, 4))
    longer = TrainingConfig(num_steps=14, batch_size=16)
    direct = replace(
        mlp(),
        network=deep,
        training=longer,
        feedback=DirectRandom(signal="target"),
        feedback_layers=("hidden_*",),
    )
    return Study(name="table", conditions={"LDFA": mlp(), "DRTP": direct}, seeds=(0, 1))


def failing() -> Study:
    """One condition more, which cannot end well."""
    exploding = TrainingConfig(num_steps=12, batch_size=16, optimiser=Optimiser(learning_rate=1e30))
    conditions = {**pair().conditions, "exploding": replace(bp(), training=exploding)}
    return Study(name="failing", conditions=conditions, seeds=(0, 1))


def long() -> Study:
    """Two runs that are long enough to be killed."""
    return Study(name="long", conditions={"BP": bp(num_steps=300)}, seeds=(0, 1))


def needs_arguments(rank: int) -> RunConfig:
    """Not callable from the command line."""
    return replace(low_rank(), feedback=LowRank(rank=rank))


def returns_nothing() -> None:
    """Neither a run nor a study."""


def _private() -> RunConfig:
    return bp()
