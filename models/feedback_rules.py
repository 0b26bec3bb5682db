"""Rules × networks on Fashion-MNIST: which way of the error costs how much accuracy.

Every function returns a `neurofb.study.Study`. The rates of `table` were chosen with `rates`: one
seed of its own, by the accuracy on validation images.
"""

from dataclasses import replace
from typing import Literal

from neurofb.config import Measurement, RunConfig
from neurofb.data import Augmentation, FashionMNIST
from neurofb.feedback import (
    Direct,
    DirectRandom,
    KolenPollack,
    LowRank,
    Normative,
    Oja,
    PathwaySpec,
    Random,
    SignSymmetric,
    WeightMirror,
)
from neurofb.networks import MLPConfig, VGGConfig, ViTConfig
from neurofb.study import Study
from neurofb.training import Optimiser, TrainingConfig

#: learning rates that `rates` tries for every rule and network
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
#: ranks of the low-rank rules; the last one is clipped to what each layer allows
RANKS = {"r=4": 4, "r=10": 10, "r=32": 32, "full": 10**6}

#: small networks for 28 × 28 grey images, and numbers of updates with 128 images (157 an epoch)
NETWORKS = {
    "MLP": (MLPConfig(image_size=28, in_channels=1), 785),
    "VGG": (
        VGGConfig(
            image_size=28,
            in_channels=1,
            widths=(16, 32, 64, 128),
            layers_per_block=1,
            hidden=64,
            dropout=0.0,
        ),
        471,
    ),
    "ViT": (
        ViTConfig(
            image_size=28,
            in_channels=1,
            patch=7,
            dim=64,
            depth=4,
            heads=4,
            dropout=0.0,
            drop_path=0.0,
        ),
        785,
    ),
}
#: learning rate of every rule on every network, by the validation accuracy of `rates`
CHOSEN = {
    "MLP, BP": 0.001,
    "MLP, DFA": 0.003,
    "MLP, FA": 0.001,
    "MLP, KP": 0.001,
    "MLP, LDFA full, local": 0.001,
    "MLP, LDFA full, normative": 0.001,
    "MLP, LDFA r=10, local": 0.001,
    "MLP, LDFA r=10, local, gain of W": 0.001,
    "MLP, LDFA r=10, normative": 0.003,
    "MLP, LDFA r=32, local": 0.001,
    "MLP, LDFA r=32, normative": 0.0003,
    "MLP, LDFA r=4, local": 0.001,
    "MLP, LDFA r=4, normative": 0.0003,
    "MLP, WM": 0.001,
    "MLP, dLDFA r=10": 0.003,
    "MLP, uSF": 0.003,
    "VGG, BP": 0.01,
    "VGG, DFA": 0.01,
    "VGG, FA": 0.01,
    "VGG, KP": 0.01,
    "VGG, LDFA full, local": 0.01,
    "VGG, LDFA full, normative": 0.01,
    "VGG, LDFA r=10, local": 0.01,
    "VGG, LDFA r=10, local, gain of W": 0.003,
    "VGG, LDFA r=10, normative": 0.01,
    "VGG, LDFA r=32, local": 0.01,
    "VGG, LDFA r=32, normative": 0.01,
    "VGG, LDFA r=4, local": 0.003,
    "VGG, LDFA r=4, normative": 0.01,
    "VGG, dLDFA r=10": 0.01,
    "VGG, uSF": 0.01,
    "ViT, BP": 0.001,
    "ViT, DFA": 0.001,
    "ViT, FA": 0.003,
    "ViT, KP": 0.003,
    "ViT, LDFA full, local": 0.001,
    "ViT, LDFA full, local, gain of W": 0.001,
    "ViT, LDFA full, normative": 0.003,
    "ViT, LDFA r=10, local": 0.001,
    "ViT, LDFA r=10, local, gain of W": 0.003,
    "ViT, LDFA r=10, normative": 0.001,
    "ViT, LDFA r=32, local": 0.001,
    "ViT, LDFA r=32, local, gain of W": 0.003,
    "ViT, LDFA r=32, normative": 0.001,
    "ViT, LDFA r=4, local": 0.003,
    "ViT, LDFA r=4, local, gain of W": 0.0003,
    "ViT, LDFA r=4, normative": 0.003,
    "ViT, dLDFA r=10": 0.0003,
    "ViT, uSF": 0.003,
}
#: layers whose error goes by the rule: all but the first, behind which nothing learns
LAYERS = {
    "MLP": ("hidden_[23]", "readout"),
    "VGG": ("conv_[234]_1", "hidden", "readout"),
    "ViT": ("blocks.*", "readout"),
}
#: modules whose input gets the error directly; a block of the ViT learns inside by backpropagation
DIRECT = {
    "MLP": ("hidden_[23]",),
    "VGG": ("conv_[234]_1", "hidden"),
    "ViT": ("blocks.[0123]",),
}


def table() -> Study:
    """All rules on MLP, VGG and ViT at the rates chosen, three seeds."""
    conditions = {
        f"{network}, {rule}": _at_rate(config, CHOSEN[f"{network}, {rule}"])
        for network in NETWORKS
        for rule, config in _rules(network).items()
    }
    return Study(name="Feedback rules on Fashion-MNIST", conditions=conditions, seeds=(0, 1, 2))


def rates() -> Study:
    """Every rule on every network at four rates, one seed: the search that `table` stands on."""
    conditions = {
        f"{network}, {rule}, rate {rate:g}": _at_rate(config, rate)
        for network in NETWORKS
        for rule, config in _rules(network).items()
        for rate in RATES
    }
    return Study(name="Learning rates by validation", conditions=conditions, seeds=(100,))


def class_numbers() -> Study:
    """LDFA's rank against the number of classes, at two widths of the MLP, three seeds.

    Rank 0 is the null: no error reaches the layers below the last hidden one.
    """
    conditions = {}
    for classes in (2, 5, 10):
        for width in (64, 512):
            base = _mlp(width, FashionMNIST(num_train=10_000, num_classes=classes))
            start = f"{classes} classes, width {width}"
            conditions[f"{start}, BP"] = base
            nothing = DirectRandom(density=1e-12)  # B = 0: only the last two layers learn
            conditions[f"{start}, LDFA r=0"] = _with(base, "MLP", nothing, DIRECT["MLP"])
            for rank in (1, 2, 3, 5, 10, 20):
                conditions[f"{start}, LDFA r={rank}"] = _ldfa(base, rank)
    return Study(name="Rank and number of classes", conditions=conditions, seeds=(0, 1, 2))


def widths() -> Study:
    """Set a narrow network by BP against a wide one by a low-rank error, three seeds."""
    conditions = {}
    for width in (10, 16, 32, 64, 128, 256, 512):
        base = _mlp(width, FashionMNIST(num_train=10_000))
        conditions[f"width {width}, BP"] = base
        conditions[f"width {width}, LDFA r=10"] = _ldfa(base, 10)
    for rank in (16, 32, 64):
        base = _mlp(512, FashionMNIST(num_train=10_000))
        conditions[f"width 512, LDFA r={rank}"] = _ldfa(base, rank)
    return Study(name="Narrow network or narrow error", conditions=conditions, seeds=(0, 1, 2))


def alignment() -> Study:
    """Follow how the feedback of the MLP aligns with its weights, three seeds."""
    chosen = ("FA", "uSF", "KP", "WM", "DFA", "LDFA r=10, local", "LDFA r=10, normative")
    rules = _rules("MLP")
    conditions = {
        f"MLP, {rule}": _aligned(_at_rate(rules[rule], CHOSEN[f"MLP, {rule}"])) for rule in chosen
    }
    return Study(name="Alignment with backpropagation", conditions=conditions, seeds=(0, 1, 2))


def _rules(network: str) -> dict[str, RunConfig]:
    """Return the runs of a network, rule by rule."""
    base = _base(network)
    rules = {
        "BP": base,
        "FA": _with(base, network, Random()),
        "uSF": _with(base, network, SignSymmetric()),
        "KP": _with(base, network, Random(learning=KolenPollack())),
    }
    if network == "MLP":
        rules["WM"] = _with(base, network, Random(learning=WeightMirror()))
    dfa, dldfa = DirectRandom(), Direct(source="readout", rank=10, learning=KolenPollack())
    rules["DFA"] = _with(base, network, dfa, DIRECT[network], readout=Random())
    for label, rank in RANKS.items():
        local, last = _local(rank), _local(rank, drive="target")
        rules[f"LDFA {label}, local"] = _with(base, network, local, readout=last)
    for label, rank in RANKS.items():
        if rank == 10 or network == "ViT":  # whose weights start far below the pathway's gain
            local = _local(rank, match_energy=True)
            last = _local(rank, drive="target", match_energy=True)
            rules[f"LDFA {label}, local, gain of W"] = _with(base, network, local, readout=last)
    for label, rank in RANKS.items():
        pathway = LowRank(rank=rank, learning=Normative(), start="svd", clip_rank=True)
        rules[f"LDFA {label}, normative"] = _with(base, network, pathway)
    last = LowRank(rank=10, learning=KolenPollack())
    rules["dLDFA r=10"] = _with(base, network, dldfa, DIRECT[network], readout=last)
    return {label: replace(run, name=f"{network}, {label}") for label, run in rules.items()}


def _base(network: str) -> RunConfig:
    """Return a network's run by backpropagation."""
    config, num_steps = NETWORKS[network]
    return RunConfig(
        name=network,
        data=FashionMNIST(num_train=20_000),
        network=config,
        measurement=Measurement(layers=()),
        training=TrainingConfig(
            num_steps=num_steps,
            batch_size=128,
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
            precision="bfloat16" if network == "VGG" else "float32",
            channels_last=network == "VGG",
            checkpoint_every=num_steps,
        ),
    )


def _mlp(width: int, data: FashionMNIST) -> RunConfig:
    """Return the MLP of another width by backpropagation, on other data, for five epochs."""
    base = _base("MLP")
    network = replace(NETWORKS["MLP"][0], hidden=(width,) * 3, num_classes=data.num_classes or 10)
    training = replace(base.training, num_steps=395, checkpoint_every=395)
    return _at_rate(replace(base, data=data, network=network, training=training), 1e-3)


def _ldfa(config: RunConfig, rank: int) -> RunConfig:
    """Return an MLP's run with local LDFA of one rank, all ranks with the gain of W."""
    pathway, last = (_local(rank, drive, match_energy=True) for drive in ("error", "target"))
    return _with(config, "MLP", pathway, readout=last)


def _aligned(config: RunConfig) -> RunConfig:
    """Return a run whose alignment is measured at the start and after every epoch."""
    steps = tuple(range(0, config.training.num_steps + 1, 157))
    return replace(
        config,
        measurement=Measurement(layers=(), alignment_images=512),
        training=replace(config.training, snapshot_steps=steps),
    )


def _local(
    rank: int, drive: Literal["error", "target"] = "error", match_energy: bool = False
) -> LowRank:
    """Return LDFA of the first generation: Oja for P, Kolen-Pollack for Q."""
    return LowRank(rank=rank, learning=Oja(drive=drive), clip_rank=True, match_energy=match_energy)


def _with(
    config: RunConfig,
    network: str,
    pathway: PathwaySpec,
    layers: tuple[str, ...] | None = None,
    readout: PathwaySpec | None = None,
) -> RunConfig:
    """Return a run with a pathway on the layers, and another one on the last layer."""
    overrides = {} if readout is None else {"readout": readout}
    return replace(
        config,
        feedback=pathway,
        feedback_layers=LAYERS[network] if layers is None else layers,
        feedback_overrides=overrides,
    )


def _at_rate(config: RunConfig, rate: float) -> RunConfig:
    """Return a run with one learning rate for weights and feedback matrices (ε of Adam: 1e-6)."""
    optimiser = Optimiser(
        learning_rate=rate, weight_decay=0.01, decay_on="weights", options={"eps": 1e-6}
    )
    return replace(config, training=replace(config.training, optimiser=optimiser))
