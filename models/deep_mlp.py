"""Deep MLP on Fashion-MNIST: does feedback alignment's error lose dimensions, and what helps.

`run` is one of the runs; every other function returns a `neurofb.study.Study`. Six hidden layers of
256, 10 000 images, 4 epochs; every run records the ranks of errors, activities, gradients and
updates before and after each epoch (`neurofb.measures.error_rank`). The rates of `table`,
`crossing` and `causal` are those with the best validation accuracy in `rates`, `crossing_rates` and
`causal_rates`, one seed of its own. A run that diverges is kept as such: it has no accuracy.
"""

from dataclasses import replace
from typing import Any

from neurofb.config import Feedback, Measurement, RunConfig
from neurofb.data import Augmentation, FashionMNIST
from neurofb.feedback import LowRank, Normative, Oja, Random
from neurofb.networks import MLPConfig
from neurofb.study import Study
from neurofb.training import Cosine, Optimiser, TrainingConfig

#: learning rates that `rates`, `crossing_rates` and `causal_rates` try
RATES = {
    "SGD": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "Adam": (3e-4, 1e-3, 3e-3, 1e-2),
    "Muon": (3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "RankControlled": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
#: learning rate of every condition of `table` and `crossing`
CHOSEN = {
    "BP, SGD, none": 0.03,
    "BP, SGD, batch": 0.1,
    "BP, SGD, layer": 0.03,
    "BP, Adam, none": 0.001,
    "BP, Adam, batch": 0.003,
    "BP, Adam, layer": 0.001,
    "BP, Muon, none": 0.01,
    "BP, Muon, batch": 0.3,
    "BP, Muon, layer": 0.1,
    "FA, SGD, none": 0.001,
    "FA, SGD, batch": 0.1,
    "FA, SGD, layer": 0.03,
    "FA, Adam, none": 0.003,
    "FA, Adam, batch": 0.003,
    "FA, Adam, layer": 0.001,
    "FA, Adam, group": 0.001,
    "FA, Adam, centre": 0.003,
    "FA, Muon, none": 0.1,
    "FA, Muon, batch": 0.1,
    "FA, Muon, layer": 0.03,
    "FA orthogonal, SGD, none": 0.001,
    "FA orthogonal, Adam, none": 0.003,
    "LDFA r=4, local, Adam, none": 0.003,
    "LDFA r=4, local, Adam, batch": 0.001,
    "LDFA r=4, local, Muon, none": 0.01,
    "LDFA r=4, local, Muon, batch": 0.1,
    "LDFA r=10, local, Adam, none": 0.003,
    "LDFA r=10, local, Adam, batch": 0.01,
    "LDFA r=10, local, Muon, none": 0.01,
    "LDFA r=10, local, Muon, batch": 0.1,
    "LDFA r=32, local, Adam, none": 0.01,
    "LDFA r=32, local, Adam, batch": 0.003,
    "LDFA r=32, local, Muon, none": 0.01,
    "LDFA r=32, local, Muon, batch": 0.03,
    "LDFA r=10, normative, Adam, none": 0.001,
    "LDFA r=10, normative, Adam, batch": 0.003,
    "LDFA r=10, normative, Muon, none": 0.01,
    "LDFA r=10, normative, Muon, batch": 0.1,
}
#: learning rate of every condition of `causal`
CAUSAL = {
    "BP, none": 0.01,
    "BP, truncate 20": 0.03,
    "BP, truncate 10": 0.01,
    "BP, truncate 5": 0.03,
    "BP, truncate 2": 0.03,
    "BP, truncate 1": 0.03,
    "FA, none": 0.003,
    "FA, flat 0.1": 0.01,
    "FA, flat 0.25": 0.01,
    "FA, flat 0.5": 0.01,
    "FA, interpolate 0.25": 0.003,
    "FA, interpolate 0.5": 0.003,
    "FA, polar": 0.03,
}
#: layers whose error goes by the rule: all but the first, behind which nothing learns
LAYERS = ("hidden_[2-6]", "readout")
STEPS_PER_EPOCH, NUM_EPOCHS = 79, 4


def run(rule: str = "FA", optimiser: str = "Muon", normalisation: str = "batch") -> RunConfig:
    """One condition of `table` or `crossing` at its rate.

    Raises
    ------
    ValueError
        If it is no condition of theirs.
    """
    name = f"{rule}, {optimiser}, {normalisation}"
    if name not in CHOSEN:
        raise ValueError(f"{name!r} is no condition; those are: {'; '.join(CHOSEN)}")
    return _at_rate(_run(rule, optimiser, normalisation), CHOSEN[name])


def table() -> Study:
    """BP and FA × SGD, Adam, Muon × no, batch and layer normalisation, three seeds.

    Beside them, for FA with Adam: normalisation over groups, and the mean alone taken away;
    orthogonal feedback matrices without normalisation; and *FA slow*, with Muon at a tenth of the
    rate that is best for accuracy, because there the rank depends on the rate.
    """
    conditions = {name: _at_rate(run, CHOSEN[name]) for name, run in _table().items()}
    conditions["FA slow, Muon, none"] = _at_rate(conditions["FA, Muon, none"], 0.01)
    return Study(name="Rank of the error in a deep MLP", conditions=conditions, seeds=(0, 1, 2))


def rates() -> Study:
    """Every condition of `table` at four to seven rates, one seed: the search it stands on."""
    return _search(_table(), "Rates for the rank of the error")


def crossing() -> Study:
    """LDFA of rank 4, 10, 32 beside FA and BP, with Adam and Muon, without and with batch norm.

    Local LDFA has the gain of W, so that what differs is the rank of the feedback.
    """
    conditions = {name: _at_rate(run, CHOSEN[name]) for name, run in _crossing().items()}
    name = "Rank of the feedback and rank of the error"
    return Study(name=name, conditions=conditions, seeds=(0, 1, 2))


def crossing_rates() -> Study:
    """LDFA's conditions of `crossing` at the three middle rates, one seed."""
    runs = {name: run for name, run in _crossing().items() if name.startswith("LDFA")}
    return _search(runs, "Rates for low-rank feedback", slice(1, 4))


def causal() -> Study:
    """Take the rank of BP's update away, and give FA's back: momentum SGD, width 128, three seeds.

    Singular values of the momentum of every matrix but the readout's are changed, then its norm is
    restored: *truncate r* keeps the r largest, *flat f* makes the largest share f of them equal and
    the others 0, *interpolate t* goes a share t of the way to equal ones, *polar* all of it.
    """
    conditions = {name: _at_rate(run, CAUSAL[name]) for name, run in _causal().items()}
    return Study(name="Rank of the update, controlled", conditions=conditions, seeds=(0, 1, 2))


def causal_rates() -> Study:
    """Every condition of `causal` at five rates, one seed: the search it stands on."""
    return _search(_causal(), "Rates for updates of controlled rank")


def _causal() -> dict[str, RunConfig]:
    """Return the runs with controlled updates, their rates still those of `Optimiser`."""
    controls: dict[str, dict[str, Any]] = {"none": {"mode": "none"}}
    truncated = {
        f"truncate {rank}": {"mode": "truncate", "rank": rank} for rank in (20, 10, 5, 2, 1)
    }
    flat = {f"flat {share:g}": {"mode": "flat", "share": share} for share in (0.1, 0.25, 0.5)}
    between = {f"interpolate {t:g}": {"mode": "interpolate", "amount": t} for t in (0.25, 0.5)}
    conditions = {}
    for rule, more in (
        ("BP", truncated),
        ("FA", flat | between | {"polar": {"mode": "polar"}}),
    ):
        run = _runs(width=128)[rule]
        for control, options in (controls | more).items():
            optimiser = Optimiser(
                name="RankControlled",
                decay_on="weights",
                options={"momentum": 0.9, "match_norm": True} | options,
            )
            name = f"{rule}, {control}"
            training = replace(run.training, optimiser=optimiser)
            conditions[name] = replace(run, name=name, training=training)
    return conditions


def _table() -> dict[str, RunConfig]:
    """Return the runs of the table."""
    rows = [
        (rule, optimiser, normalisation)
        for rule in ("BP", "FA")
        for optimiser in ("SGD", "Adam", "Muon")
        for normalisation in ("none", "batch", "layer")
    ]
    rows += [("FA", "Adam", "group"), ("FA", "Adam", "centre")]
    rows += [("FA orthogonal", "SGD", "none"), ("FA orthogonal", "Adam", "none")]
    return {", ".join(row): _run(*row) for row in rows}


def _crossing() -> dict[str, RunConfig]:
    """Return the runs of the crossing."""
    rules = ("BP", "FA", *(f"LDFA r={r}, local" for r in (4, 10, 32)), "LDFA r=10, normative")
    return {
        f"{rule}, {optimiser}, {normalisation}": _run(rule, optimiser, normalisation)
        for rule in rules
        for optimiser in ("Adam", "Muon")
        for normalisation in ("none", "batch")
    }


def _run(rule: str, optimiser: str, normalisation: Any) -> RunConfig:
    """Return one run, its rate still that of `Optimiser`."""
    run = _runs(normalisation=normalisation)[rule]
    training = replace(run.training, optimiser=_optimiser(optimiser))
    return replace(run, name=f"{rule}, {optimiser}, {normalisation}", training=training)


def _runs(width: int = 256, normalisation: Any = "none") -> dict[str, RunConfig]:
    """Return the runs of all rules with one network."""
    num_steps = NUM_EPOCHS * STEPS_PER_EPOCH
    base = RunConfig(
        name="BP",
        data=FashionMNIST(num_train=10_000, normalise="dataset"),
        network=MLPConfig(
            image_size=28,
            in_channels=1,
            hidden=(width,) * 6,
            normalisation=normalisation,
            initialisation="he_normal",
        ),
        training=TrainingConfig(
            num_steps=num_steps,
            batch_size=128,
            schedule=Cosine(warmup_steps=0, final=0.0),
            augmentation=Augmentation(rotate=False, flip=False, shift=0),
            precision="float32",
            checkpoint_every=num_steps,
            on_divergence="keep",
            snapshot_steps=tuple(range(0, num_steps + 1, STEPS_PER_EPOCH)),
        ),
        measurement=Measurement(layers=(), rank_images=512),
    )
    rules: dict[str, tuple[Feedback, Feedback | None]] = {
        "FA": (Random(start="normal"), None),
        "FA orthogonal": (Random(start="orthogonal"), None),
        "LDFA r=10, normative": (
            LowRank(rank=10, learning=Normative(), start="svd", clip_rank=True),
            None,
        ),
    }
    for rank in (4, 10, 32):
        hidden, last = (
            LowRank(rank=rank, learning=Oja(drive=drive), clip_rank=True, match_energy=True)
            for drive in ("error", "target")
        )
        rules[f"LDFA r={rank}, local"] = (hidden, last)
    runs = {"BP": base}
    for rule, (hidden, last) in rules.items():
        overrides = {} if last is None else {"readout": last}
        runs[rule] = replace(
            base, feedback=hidden, feedback_layers=LAYERS, feedback_overrides=overrides
        )
    return runs


def _optimiser(name: str) -> Optimiser:
    """Return an optimiser without weight decay; with Muon, what is no hidden matrix has Adam."""
    if name == "SGD":
        return Optimiser(name=name, decay_on="weights", options={"momentum": 0.9})
    if name == "Adam":
        return Optimiser(name=name, decay_on="weights")
    return Optimiser(
        name=name,
        decay_on="weights",
        other_learning_rate=1e-3,
        pathway_learning_rate=1e-3,
        options={"scale": "original"},
    )


def _search(runs: dict[str, RunConfig], name: str, some: slice = slice(None)) -> Study:
    """Return runs at every rate of their optimiser, one seed of its own, nothing recorded."""
    conditions = {}
    for label, run in runs.items():
        plain = replace(
            run,
            measurement=Measurement(layers=()),
            training=replace(run.training, snapshot_steps=()),
        )
        for rate in RATES[run.training.optimiser.name][some]:
            conditions[f"{label}, rate {rate:g}"] = _at_rate(plain, rate)
    return Study(name=name, conditions=conditions, seeds=(100,))


def _at_rate(run: RunConfig, rate: float) -> RunConfig:
    """Return a run with a learning rate."""
    optimiser = replace(run.training.optimiser, learning_rate=rate)
    return replace(run, training=replace(run.training, optimiser=optimiser))
