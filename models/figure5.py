"""Studies after Hanut & Kadmon (2025) Fig. 5: which feedback makes which receptive fields.

Every function returns a `neurofb.study.Study`: conditions (runs of ``retina_vvs.py``) × seeds.
"""

from dataclasses import replace
from pathlib import Path

from neurofb.config import RunConfig
from neurofb.data import FashionMNIST, NaturalPatches
from neurofb.feedback import (
    FactoredKolenPollack,
    KolenPollack,
    LowRank,
    Oja,
    SvdRefresh,
)
from neurofb.recipes import load_recipe
from neurofb.study import Study


def demo() -> Study:
    """Show the four conditions on the default images, two seeds: five minutes on two cores."""
    return Study(name="Figure 5 in small", conditions=_conditions(), seeds=(0, 1))


def figure5() -> Study:
    """Both placements of the kernel, SVD and local learning, both controls of dLDFA, five seeds."""
    return Study(
        name="Figure 5: both placements, reference and local learning",
        conditions={
            "BP wide": _recipe("bp_wide"),
            **_ldfa("P", "svd"),
            **_ldfa("P", "local"),
            **_ldfa("Q", "svd"),
            **_ldfa("Q", "local"),
            "BP narrow": _recipe("bp_bottleneck"),
            "dLDFA narrow": _recipe("dldfa"),
            "dLDFA 10-d": _recipe("dldfa", rank=10, source="readout"),
        },
        seeds=(0, 1, 2, 3, 4),
    )


def attempts() -> Study:
    """Why a statement does not hold: start, noise, regularisation, learning rule; two seeds.

    Every changed LDFA (rank 1) and dLDFA stands beside BP with the same change.
    """
    local = _ldfa("P", "local") | _ldfa("Q", "local")
    base = {
        "BP wide": _recipe("bp_wide"),
        **{name: config for name, config in local.items() if "r=1," in name},
        "BP narrow": _recipe("bp_bottleneck"),
        "dLDFA narrow": _recipe("dldfa"),
    }
    conditions = {f"{name}, start ×0.5": _network(c, init_scale=0.5) for name, c in base.items()}
    conditions |= {f"{name}, noise 0.6": _network(c, input_noise=0.6) for name, c in base.items()}
    conditions |= {
        f"{name}, decay ×3": _decay(base[name], 3.0)
        for name in ("BP wide", "BP narrow", "dLDFA narrow")
    }
    factored = FactoredKolenPollack()
    conditions |= {
        "LDFA r=1, kernel in P, Kolen-Pollack": _learning(base, "P, local", learning=factored),
        "LDFA r=1, kernel in P, local, SVD start": _learning(base, "P, local", start="svd"),
        "LDFA r=1, kernel in Q, Kolen-Pollack": _learning(base, "Q, local", learning=factored),
        "LDFA r=1, kernel in Q, local, SVD start": _learning(base, "Q, local", start="svd"),
        "dLDFA narrow, P fixed": _learning(base, "dLDFA", learning=KolenPollack()),
    }
    return Study(name="Figure 5: attempts", conditions=conditions, seeds=(0, 1))


def direct_control() -> Study:
    """Direct error (dLDFA) with P fixed, Q alone learns: 64 hidden units against 10 outputs."""
    learning = KolenPollack()
    conditions = {"BP narrow": _recipe("bp_bottleneck")}
    for label, rank, source in (("64-d", 64, "hidden"), ("10-d", 10, "readout")):
        config = _recipe("dldfa", rank=rank, source=source)
        feedback = replace(config.feedback, learning=learning)
        conditions[f"dLDFA {label}, P fixed"] = replace(config, feedback=feedback)
    return Study(name="Figure 5d: P fixed", conditions=conditions, seeds=(0, 1, 2, 3, 4))


def natural_patches() -> Study:
    """Show the four conditions on natural-image patches ('which photograph?'), two seeds."""
    return _on(NaturalPatches(), "natural patches", num_steps=1000)


def fashion_mnist() -> Study:
    """Show the four conditions on Fashion-MNIST, two seeds (Debian: dataset-fashion-mnist)."""
    return _on(FashionMNIST(image_size=24, num_train=20_000), "Fashion-MNIST", num_steps=1000)


def _conditions() -> dict[str, RunConfig]:
    """Return the columns of the figure."""
    return {
        "BP wide": _recipe("bp_wide"),
        "LDFA r=4": _recipe("ldfa", rank=4),
        "LDFA r=2": _recipe("ldfa", rank=2),
        "LDFA r=1": _recipe("ldfa", rank=1),
        "BP narrow": _recipe("bp_bottleneck"),
        "dLDFA narrow": _recipe("dldfa"),
    }


def _ldfa(spatial_factor: str, learning: str) -> dict[str, RunConfig]:
    """Return LDFA at three ranks for one placement of the kernel and one way of learning."""
    label = f"kernel in {spatial_factor}, {'SVD' if learning == 'svd' else 'local'}"
    pathways = {
        "svd": LowRank(rank=1, learning=SvdRefresh(every=10), start="svd"),
        "local": LowRank(rank=1, learning=Oja()),
    }
    base = _recipe("ldfa")
    return {
        f"LDFA r={rank}, {label}": replace(
            base,
            name=f"LDFA r={rank}, {label}",
            feedback=replace(pathways[learning], rank=rank, spatial_factor=spatial_factor),
        )
        for rank in (4, 2, 1)
    }


def _network(config: RunConfig, **settings: float) -> RunConfig:
    """Return a run with settings of its network changed."""
    return replace(config, network=replace(config.network, **settings))


def _decay(config: RunConfig, decay: float) -> RunConfig:
    """Return a run with another weight decay."""
    optimiser = replace(config.training.optimiser, weight_decay=decay)
    return replace(config, training=replace(config.training, optimiser=optimiser))


def _learning(base: dict[str, RunConfig], part: str, **settings: object) -> RunConfig:
    """Return the run whose name contains `part`, with settings of its pathway changed."""
    config = next(config for name, config in base.items() if part in name)
    return replace(config, feedback=replace(config.feedback, **settings))


def _on(data: NaturalPatches | FashionMNIST, title: str, num_steps: int) -> Study:
    """Return the four conditions on other images."""
    num_classes = len(data.photographs) if isinstance(data, NaturalPatches) else 10
    conditions = {}
    for label, config in _conditions().items():
        training = replace(config.training, num_steps=num_steps)
        network = replace(config.network, num_classes=num_classes)
        conditions[label] = replace(config, data=data, network=network, training=training)
    return Study(name=f"Figure 5 on {title}", conditions=conditions, seeds=(1, 2))


def _recipe(name: str, **arguments: object) -> RunConfig:
    """Return a run of ``retina_vvs.py``, the file beside this one."""
    return load_recipe(f"{Path(__file__).with_name('retina_vvs.py')}::{name}")(**arguments)
