"""Rank of the error in convolutional networks on Fashion-MNIST: five convolutions, and ResNet-8.

`run` is one of the runs; every other function returns a `neurofb.study.Study`. 8000 images, batches
of 64; every run records the ranks of errors, activities, gradients and updates before and after
each epoch in three views of a map's errors (`neurofb.measures.error_rank`). The rates of `table`
are those with the best validation accuracy in `rates`, one seed of its own; those of `resnet` were
not searched (`resnet_rates` would).
"""

from dataclasses import replace
from typing import Any

from neurofb.config import Measurement, Network, RunConfig
from neurofb.data import Augmentation, FashionMNIST
from neurofb.feedback import Random
from neurofb.networks import ConvNetConfig, ResNetConfig
from neurofb.study import Study
from neurofb.training import Cosine, Optimiser, TrainingConfig

#: learning rates that `rates` tries
RATES = {"Adam": (3e-4, 1e-3, 3e-3, 1e-2), "Muon": (3e-3, 1e-2, 3e-2, 1e-1)}
#: learning rate of every condition of `table` (no, batch) and of `resnet` (batch, group)
CHOSEN = {
    "conv net": {
        "BP, Adam, none": 0.003,
        "BP, Adam, batch": 0.01,
        "BP, Muon, none": 0.03,
        "BP, Muon, batch": 0.1,
        "FA, Adam, none": 0.01,
        "FA, Adam, batch": 0.01,
        "FA, Muon, none": 0.01,
        "FA, Muon, batch": 0.1,
    },
    "ResNet-8": {
        "BP, Adam, batch": 0.003,
        "BP, Adam, group": 0.003,
        "BP, Muon, batch": 0.03,
        "BP, Muon, group": 0.03,
        "FA, Adam, batch": 0.003,
        "FA, Adam, group": 0.003,
        "FA, Muon, batch": 0.03,
        "FA, Muon, group": 0.03,
    },
}
#: layers whose error goes by the rule: all but the first, behind which nothing learns
LAYERS = {"conv net": ("conv_[2-5]", "readout"), "ResNet-8": ("blocks.*", "readout")}
STEPS_PER_EPOCH = 125


def run(
    rule: str = "FA",
    optimiser: str = "Muon",
    normalisation: str = "batch",
    network: str = "conv net",
) -> RunConfig:
    """One condition of `table` ("conv net") or of `resnet` ("ResNet-8"), at its rate.

    Raises
    ------
    ValueError
        If it is no condition of theirs.
    """
    name = f"{rule}, {optimiser}, {normalisation}"
    if network not in CHOSEN:
        raise ValueError(f"network={network!r} must be one of {', '.join(CHOSEN)}")
    if name not in CHOSEN[network]:
        known = "; ".join(CHOSEN[network])
        raise ValueError(f"{name!r} is no condition of the {network}; those are: {known}")
    return _at_rate(_runs(network)[name], CHOSEN[network][name])


def table() -> Study:
    """BP and FA × Adam and Muon × no and batch normalisation, five convolutions, two seeds."""
    return _study("conv net", "Rank of the error in five convolutions")


def resnet() -> Study:
    """BP and FA × Adam and Muon × batch and group normalisation, ResNet-8, two seeds."""
    return _study("ResNet-8", "Rank of the error in a ResNet")


def rates() -> Study:
    """Every condition of `table` at four rates, one seed: the search it stands on."""
    return _search("conv net", "Rates for five convolutions")


def resnet_rates() -> Study:
    """Every condition of `resnet` at four rates, one seed: the search it stands on."""
    return _search("ResNet-8", "Rates for a ResNet")


def _study(network: str, name: str) -> Study:
    """Return a network's conditions at the rates chosen."""
    runs = _runs(network)
    conditions = {label: _at_rate(runs[label], rate) for label, rate in CHOSEN[network].items()}
    return Study(name=name, conditions=conditions, seeds=(0, 1))


def _search(network: str, name: str) -> Study:
    """Return a network's conditions at every rate of their optimiser, nothing recorded."""
    conditions = {}
    for label, run in _runs(network).items():
        plain = replace(
            run,
            measurement=Measurement(layers=()),
            training=replace(run.training, snapshot_steps=()),
        )
        for rate in RATES[run.training.optimiser.name]:
            conditions[f"{label}, rate {rate:g}"] = _at_rate(plain, rate)
    return Study(name=name, conditions=conditions, seeds=(100,))


def _runs(network: str) -> dict[str, RunConfig]:
    """Return the runs of a network, their rates still those of `Optimiser`."""
    runs = {}
    for label in CHOSEN[network]:
        rule, optimiser, normalisation = label.split(", ")
        run = _base(network, normalisation, optimiser)
        if rule == "FA":
            run = replace(run, feedback=Random(start="normal"), feedback_layers=LAYERS[network])
        runs[label] = replace(run, name=f"{network}, {label}")
    return runs


def _base(network: str, normalisation: Any, optimiser: str) -> RunConfig:
    """Return a network's run by backpropagation."""
    settings: Network
    if network == "conv net":
        num_epochs = 5
        settings = ConvNetConfig(image_size=28, in_channels=1, normalisation=normalisation)
    else:
        num_epochs = 3
        settings = ResNetConfig(image_size=28, in_channels=1, depth=8, normalisation=normalisation)
    num_steps = num_epochs * STEPS_PER_EPOCH
    muon: dict[str, Any] = {"other_learning_rate": 1e-3, "options": {"scale": "original"}}
    return RunConfig(
        name=network,
        data=FashionMNIST(num_train=8000, normalise="dataset"),
        network=settings,
        training=TrainingConfig(
            num_steps=num_steps,
            batch_size=64,
            optimiser=Optimiser(
                name=optimiser, decay_on="weights", **(muon if optimiser == "Muon" else {})
            ),
            schedule=Cosine(warmup_steps=0, final=0.0),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
            precision="float32",
            channels_last=False,
            checkpoint_every=num_steps,
            on_divergence="keep",
            snapshot_steps=tuple(range(0, num_steps + 1, STEPS_PER_EPOCH)),
        ),
        measurement=Measurement(layers=(), rank_images=256),
    )


def _at_rate(run: RunConfig, rate: float) -> RunConfig:
    """Return a run with a learning rate."""
    optimiser = replace(run.training.optimiser, learning_rate=rate)
    return replace(run, training=replace(run.training, optimiser=optimiser))
