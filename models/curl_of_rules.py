"""How far each learning rule is from a gradient, along training: curl index of BP, FA, LDFA, flips.

Every function returns a `neurofb.study.Study`. A small network on Fashion-MNIST (the 12 × 12 pixels
about the centre; 144-24-24-10, tanh, 4 330 parameters) is trained by SGD, with one rate for all
layers and for feedback matrices, and after each epoch the Jacobian of the update of 256 images is
probed (`neurofb.measures.rule_curl`). The rates of `table` are those with the best validation
accuracy in `rates`, one seed of its own. What diverges is kept as such.
"""

from dataclasses import replace

from neurofb.config import Measurement, RunConfig
from neurofb.data import Augmentation, FashionMNIST
from neurofb.feedback import (
    DirectRandom,
    Fixed,
    KolenPollack,
    LowRank,
    Normative,
    Oja,
    PathwaySpec,
    Random,
    SvdRefresh,
    SVDSpace,
    SVDSpaceDirect,
)
from neurofb.networks import Factorised, MLPConfig
from neurofb.study import Study
from neurofb.training import Cosine, FlipSpec, Optimiser, SVDSpaceTraining, TrainingConfig

#: learning rates that `rates` tries
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
#: learning rate of every rule, by the validation accuracy of `rates`
CHOSEN = {
    "BP": 1.0,
    "FA": 3.0,
    "DFA": 3.0,
    "KP": 1.0,
    "LDFA r=1, fixed": 3.0,
    "LDFA r=2, fixed": 3.0,
    "LDFA r=4, fixed": 3.0,
    "LDFA r=8, fixed": 3.0,
    "LDFA full, fixed": 1.0,
    "LDFA r=1, local": 0.1,
    "LDFA r=2, local": 0.1,
    "LDFA r=4, local": 0.3,
    "LDFA r=8, local": 0.3,
    "LDFA full, local": 0.3,
    "LDFA r=1, normative": 0.3,
    "LDFA r=2, normative": 0.3,
    "LDFA r=4, normative": 0.3,
    "LDFA r=8, normative": 0.3,
    "LDFA full, normative": 0.3,
    "LDFA r=1, refreshed": 1.0,
    "LDFA r=2, refreshed": 1.0,
    "LDFA r=4, refreshed": 1.0,
    "LDFA r=8, refreshed": 3.0,
    "LDFA full, refreshed": 1.0,
    "SVD-BP r=0.5": 0.3,
    "SSA-FA r=0.5": 0.3,
    "SSA-DFA r=0.5": 0.3,
    "flips, 1 unit": 1.0,
    "flips, 10 %": 1.0,
    "flips, 50 %": 0.3,
    "flips, all": 0.3,
}
#: ranks of LDFA; the last one is clipped to what each layer allows
RANKS = {"r=1": 1, "r=2": 2, "r=4": 4, "r=8": 8, "full": 10**6}
#: updates with 50 images in an epoch of 5 000
EPOCH = 100


def table(num_epochs: int = 6) -> Study:
    """All rules at their rates, five seeds; the curl before training and after each epoch."""
    conditions = {name: _at_rate(run, CHOSEN[name]) for name, run in _rules(num_epochs).items()}
    return Study(name="Curl of learning rules", conditions=conditions, seeds=(0, 1, 2, 3, 4))


def rates(num_epochs: int = 6) -> Study:
    """Every rule at five rates, one seed of its own, by validation; no curl."""
    conditions = {
        f"{name}, rate {rate:g}": _at_rate(_unmeasured(run), rate)
        for name, run in _rules(num_epochs).items()
        for rate in RATES
    }
    return Study(name="Learning rates by validation", conditions=conditions, seeds=(100,))


def _rules(num_epochs: int) -> dict[str, RunConfig]:
    """Return the run of each rule."""
    base = _base(num_epochs)
    kp = Random(learning=KolenPollack())
    rules = {
        "BP": base,
        "FA": _with(base, Random(), Random()),
        "DFA": _with(base, DirectRandom(), Random()),
        "KP": _with(base, kp, kp),
    }
    for label, rank in RANKS.items():
        fixed = LowRank(rank=rank, learning=Fixed(), clip_rank=True)
        rules[f"LDFA {label}, fixed"] = _with(base, fixed, fixed)
    for label, rank in RANKS.items():
        hidden = LowRank(rank=rank, learning=Oja(), clip_rank=True)
        last = LowRank(rank=rank, learning=Oja(drive="target"), clip_rank=True)
        rules[f"LDFA {label}, local"] = _with(base, hidden, last)
    for label, rank in RANKS.items():
        normative = LowRank(rank=rank, learning=Normative(), start="svd", clip_rank=True)
        rules[f"LDFA {label}, normative"] = _with(base, normative, normative)
    for label, rank in RANKS.items():
        refresh = LowRank(rank=rank, learning=SvdRefresh(every=1), start="svd", clip_rank=True)
        rules[f"LDFA {label}, refreshed"] = _with(base, refresh, refresh)
    factors = replace(
        base,
        factorised=Factorised(rank=0.5),
        training=replace(base.training, svd_space=SVDSpaceTraining()),
    )
    rules |= {
        "SVD-BP r=0.5": factors,
        "SSA-FA r=0.5": _with(factors, SVDSpace(), SVDSpace()),
        "SSA-DFA r=0.5": _with(factors, SVDSpaceDirect(), SVDSpaceDirect()),
    }
    flips = {
        "1 unit": FlipSpec(layer="readout", count=1),
        "10 %": FlipSpec(layer="readout", fraction=0.1),
        "50 %": FlipSpec(layer="readout", fraction=0.5),
        "all": FlipSpec(layer="readout", fraction=1.0),
    }
    for label, flip in flips.items():
        training = replace(base.training, flips=(flip,))
        rules[f"flips, {label}"] = replace(base, training=training)
    return {label: replace(run, name=label) for label, run in rules.items()}


def _base(num_epochs: int) -> RunConfig:
    """Return the run by backpropagation."""
    num_steps = num_epochs * EPOCH
    return RunConfig(
        name="BP",
        data=FashionMNIST(num_train=5_000, num_validation=1_000, image_size=12),
        network=MLPConfig(
            image_size=12,
            in_channels=1,
            hidden=(24, 24),
            normalisation="none",
            activation="tanh",
            initialisation="glorot",
        ),
        measurement=Measurement(layers=(), curl_images=256, curl_probes=50),
        training=TrainingConfig(
            num_steps=num_steps,
            batch_size=50,
            schedule=Cosine(warmup_steps=0, final=0.0),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
            precision="float32",
            checkpoint_every=num_steps,
            snapshot_steps=tuple(range(0, num_steps + 1, EPOCH)),
            on_divergence="keep",
        ),
    )


def _with(config: RunConfig, hidden: PathwaySpec, last: PathwaySpec) -> RunConfig:
    """Return a run with pathways on the second hidden layer and on the readout."""
    return replace(
        config,
        feedback=hidden,
        feedback_layers=("hidden_2",),
        feedback_overrides={"readout": last},
    )


def _unmeasured(config: RunConfig) -> RunConfig:
    """Return a run of which the curl is not measured."""
    training = replace(config.training, snapshot_steps=())
    return replace(config, training=training, measurement=Measurement(layers=()))


def _at_rate(config: RunConfig, rate: float) -> RunConfig:
    """Return a run by SGD with one rate for weights and feedback matrices (decay 10⁻³ for both)."""
    optimiser = Optimiser(name="SGD", learning_rate=rate, weight_decay=1e-3, decay_on="weights")
    return replace(config, training=replace(config.training, optimiser=optimiser))
