"""SSA, learning in SVD space, on Fashion-MNIST: accuracy, what keeps it stable, and its terms.

`run` is one switch over the six methods; every other function returns a `neurofb.study.Study`.
SSA is the method of Roy et al. (2025, arXiv:2510.25594). Of the paper only the abstract and the
captions of figures were at hand, so weights of terms, feedback and schedules are reconstructions.

The network is 784-256-256-10 without normalisation, He initialisation, trained with Adam at 1e-3
falling to 0 along a cosine for six epochs of 20 000 images; `rates` asks whether that rate is fair
to all. Runs that diverge end there and have no test accuracy: that they do is a result.
"""

from dataclasses import replace
from typing import Literal, get_args

from neurofb.config import Measurement, RunConfig
from neurofb.data import Augmentation, FashionMNIST
from neurofb.feedback import DirectRandom, PathwaySpec, Random, SVDSpace, SVDSpaceDirect
from neurofb.networks import ConvNetConfig, Factorised, MLPConfig
from neurofb.study import Study
from neurofb.training import Cosine, Optimiser, RankSchedule, SVDSpaceTraining, TrainingConfig

Method = Literal["BP", "SVD-BP", "FA", "DFA", "SSA-FA", "SSA-DFA"]
Orthogonality = Literal["retract", "polar", "soft", "none"]
FACTORED = ("SVD-BP", "SSA-FA", "SSA-DFA")
#: method → pathway of the layers behind the first, and that of the readout
PATHWAYS: dict[str, tuple[PathwaySpec, PathwaySpec]] = {
    "FA": (Random(start="normal"), Random(start="normal")),
    "DFA": (DirectRandom(), Random(start="normal")),
    "SSA-FA": (SVDSpace(), SVDSpace()),
    "SSA-DFA": (SVDSpaceDirect(), SVDSpaceDirect()),
}
#: updates with 128 images in an epoch of 20 000
EPOCH = 157
ADAM = Optimiser(name="Adam", learning_rate=1e-3)
#: learning rates that `rates` tries
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
#: name → the terms of the loss in one row of the ablation; the first is what the others change
TERMS = {
    "retraction alone": SVDSpaceTraining(),
    "no orthogonality": SVDSpaceTraining(orthogonality="none"),
    "soft orthogonality 0.01": SVDSpaceTraining(orthogonality="soft", orthogonality_weight=0.01),
    "soft orthogonality 1": SVDSpaceTraining(orthogonality="soft", orthogonality_weight=1.0),
    "tangent projection": SVDSpaceTraining(tangent=True),
    "alignment 0.003": SVDSpaceTraining(alignment="subspace", alignment_weight=0.003),
    "alignment 0.3": SVDSpaceTraining(alignment="subspace", alignment_weight=0.3),
    "cosine 0.01": SVDSpaceTraining(cosine_weight=0.01),
    "Hoyer 0.001": SVDSpaceTraining(hoyer_weight=0.001),
    "soft 1, alignment, cosine, Hoyer": SVDSpaceTraining(
        orthogonality="soft",
        orthogonality_weight=1.0,
        alignment="subspace",
        alignment_weight=0.003,
        cosine_weight=0.01,
        hoyer_weight=0.001,
    ),
}


def run(
    method: Method = "SSA-DFA",
    rank: float = 0.5,
    orthogonality: Orthogonality = "retract",
    orthogonality_weight: float = 0.01,
    optimiser: Optimiser = ADAM,
    svd_space: SVDSpaceTraining | None = None,
) -> RunConfig:
    """One method on the MLP; rank is the share of the full one, that of the readout stays full.

    `svd_space` goes before `orthogonality` and its weight, which only "soft" has.
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} must be one of {', '.join(get_args(Method))}")
    if svd_space is None:
        weight = orthogonality_weight if orthogonality == "soft" else 0.0
        svd_space = SVDSpaceTraining(orthogonality=orthogonality, orthogonality_weight=weight)
    config = RunConfig(
        name=f"{method} r={rank:g}" if method in FACTORED else method,
        data=FashionMNIST(num_train=20_000, normalise="dataset"),
        network=MLPConfig(
            image_size=28,
            in_channels=1,
            hidden=(256, 256),
            normalisation="none",
            initialisation="he_normal",
        ),
        training=_training(6, EPOCH, 128, optimiser),
        measurement=Measurement(layers=(), rank_images=512),
    )
    return _with(config, method, rank, svd_space, ("hidden_2",))


def accuracy() -> Study:
    """All methods, SSA at several ranks and with feedback that follows the weights, 3 seeds."""
    conditions = {
        "BP": run("BP"),
        "SVD-BP r=0.5": run("SVD-BP", 0.5),
        "FA": run("FA"),
        "DFA": run("DFA"),
        "SSA-DFA r=0.5": run("SSA-DFA", 0.5),
        "SSA-DFA r=0.25": run("SSA-DFA", 0.25),
        "SSA-DFA r=0.1": run("SSA-DFA", 0.1),
        "SSA-FA r=0.5": run("SSA-FA", 0.5),
        "SSA-FA r=0.1": run("SSA-FA", 0.1),
        "SSA-FA r=0.5, tracking": run(
            "SSA-FA", 0.5, svd_space=SVDSpaceTraining(feedback="track", feedback_rate=0.01)
        ),
    }
    return Study(name="SSA: accuracy and parameters", conditions=conditions, seeds=(0, 1, 2))


def rates() -> Study:
    """Every method at four rates, one seed of its own, to see whom Adam at 1e-3 wrongs."""
    conditions = {
        f"{method}, rate {rate:g}": run(method, optimiser=replace(ADAM, learning_rate=rate))
        for method in get_args(Method)
        for rate in RATES
    }
    return Study(name="SSA: learning rates by validation", conditions=conditions, seeds=(100,))


def orthogonality() -> Study:
    """Ways to keep U and V orthonormal, under random feedback and BP, Adam and SGD, 3 seeds."""
    none, retract, polar = (("none", 0.0), ("retract", 0.0), ("polar", 0.0))
    weak, middle, strong = (("soft", weight) for weight in (0.01, 0.1, 1.0))
    fast, slow = (_sgd(rate) for rate in (0.02, 0.002))
    rows: list[tuple[Method, Optimiser, tuple]] = [
        *(("SSA-DFA", ADAM, control) for control in (none, weak, strong, retract, polar)),
        *(("SSA-FA", ADAM, control) for control in (none, weak, strong, retract)),
        *(("SVD-BP", ADAM, control) for control in (none, weak, retract)),
        *(("SSA-DFA", sgd, control) for sgd in (fast, slow) for control in (middle, retract)),
        *(("SSA-FA", sgd, control) for sgd in (fast, slow) for control in (middle, retract)),
        *(("SVD-BP", fast, control) for control in (middle, retract)),
    ]
    conditions = {}
    for method, optimiser, (control, weight) in rows:
        name = f"{control} {weight:g}" if control == "soft" else control
        label = f"{method}, {optimiser.name} {optimiser.learning_rate:g}, {name}"
        conditions[label] = run(method, 0.5, control, weight, optimiser)
    return Study(name="SSA: what keeps it orthogonal", conditions=conditions, seeds=(0, 1, 2))


def ablation() -> Study:
    """Each term of the loss alone beside retraction, for both readings of SSA, 3 seeds."""
    methods: tuple[Method, ...] = ("SSA-DFA", "SSA-FA")
    conditions = {
        f"{method}, {name}": run(method, svd_space=terms)
        for method in methods
        for name, terms in TERMS.items()
    }
    return Study(name="SSA: each term of the loss", conditions=conditions, seeds=(0, 1, 2))


def schedules() -> Study:
    """Cuts of the rank from full on: none, after every epoch, in the first half only, 3 seeds."""
    cuts = {
        "no cuts": None,
        "to the end": RankSchedule(factor=0.75, minimum=32, energy=0.9, until=1.0),
        "first half": RankSchedule(factor=0.6, minimum=32, energy=0.9, until=0.5),
        "first half, energy 0.5": RankSchedule(factor=0.6, minimum=32, energy=0.5, until=0.5),
    }
    methods: tuple[Method, ...] = ("SSA-DFA", "SSA-FA", "SVD-BP")
    conditions = {
        f"{method}, {name}": run(method, 1.0, svd_space=SVDSpaceTraining(rank_schedule=schedule))
        for method in methods
        for name, schedule in cuts.items()
    }
    return Study(name="SSA: when ranks are cut", conditions=conditions, seeds=(0, 1, 2))


def convolution() -> Study:
    """All methods on three convolutions with batch normalisation, 10 000 images, 2 seeds."""
    conditions = {
        f"{method} r=0.5" if method in FACTORED else method: _convolutional(method)
        for method in get_args(Method)
    }
    return Study(name="SSA with convolutions", conditions=conditions, seeds=(0, 1))


def _convolutional(method: Method) -> RunConfig:
    """Return one method on three convolutions; the first, of one grey channel, stays dense."""
    config = RunConfig(
        name=f"ConvNet, {method}",
        data=FashionMNIST(num_train=10_000, normalise="dataset"),
        network=ConvNetConfig(
            image_size=28,
            in_channels=1,
            channels=(16, 32, 64),
            strides=(2, 2, 1),
            normalisation="batch",
        ),
        training=_training(4, EPOCH, 64, ADAM),
        measurement=Measurement(layers=(), rank_images=256),
    )
    config = _with(config, method, 0.5, SVDSpaceTraining(), ("conv_[23]",))
    if config.factorised is None:
        return config
    layers = ("conv_[23]", "readout")
    return replace(config, factorised=replace(config.factorised, layers=layers))


def _with(
    config: RunConfig,
    method: Method,
    rank: float,
    svd_space: SVDSpaceTraining,
    layers: tuple[str, ...],
) -> RunConfig:
    """Return a run by a method: its pathways, and its layers in factors."""
    if method in FACTORED:
        config = replace(
            config,
            factorised=Factorised(rank=rank),
            training=replace(config.training, svd_space=svd_space),
        )
    if method not in PATHWAYS:
        return config
    hidden, last = PATHWAYS[method]
    overrides = {"readout": last}
    return replace(config, feedback=hidden, feedback_layers=layers, feedback_overrides=overrides)


def _training(epochs: int, epoch: int, batch_size: int, optimiser: Optimiser) -> TrainingConfig:
    """Return training over epochs, looked at after each; a run that diverges keeps its curves."""
    num_steps = epochs * epoch
    return TrainingConfig(
        num_steps=num_steps,
        batch_size=batch_size,
        optimiser=optimiser,
        schedule=Cosine(warmup_steps=0, final=0.0),
        augmentation=Augmentation(rotate=False, flip=False, shift=0),
        precision="float32",
        checkpoint_every=num_steps,
        snapshot_steps=tuple(range(0, num_steps + 1, epoch)),
        on_divergence="keep",
    )


def _sgd(rate: float) -> Optimiser:
    return Optimiser(name="SGD", learning_rate=rate, options={"momentum": 0.9})
