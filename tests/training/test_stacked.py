"""Networks trained as one stack against the same networks trained one by one."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neurofb import feedback as fb
from neurofb.data.augment import Augmentation, augment
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.networks import MLPConfig, RetinaVVSConfig, VGGConfig, ViTConfig
from neurofb.training import (
    NonFiniteLossError,
    Optimiser,
    TrainingConfig,
    TrainingResult,
    train,
    train_stacked,
    why_not_stacked,
)
from neurofb.training.order import augmentation_seed, batch_indices
from neurofb.training.stacked import ELEMENTWISE
from neurofb.training.stacked_batches import StackedBatches
from neurofb.training.stacked_session import StackedSession

SGD = Optimiser(name="SGD", learning_rate=0.05, weight_decay=0.1, options={"momentum": 0.9})
CONFIG = TrainingConfig(num_steps=9, batch_size=16, precision="float32", optimiser=SGD)
SEEDS = (3, 0, 7)

MLP = MLPConfig(image_size=6, in_channels=1, num_classes=3, hidden=(12, 10))
NOISY_MLP = dataclasses.replace(MLP, dropout=0.3)
VGG = VGGConfig(image_size=6, in_channels=1, num_classes=3, widths=(4, 6), hidden=5)
RETINA = RetinaVVSConfig(
    image_size=6,
    num_classes=3,
    kernel_size=3,
    retina_width=4,
    bottleneck=3,
    bottleneck_noise=0.1,
    vvs_width=4,
    hidden=5,
    dropout=0.3,
)

RULES: dict[str, fb.PathwaySpec] = {
    "exact": fb.Exact(),
    "FA": fb.Random(),
    "KP": fb.Random(learning=fb.KolenPollack()),
    "weight mirror": fb.Random(learning=fb.WeightMirror(num_samples=8)),
    "uSF": fb.SignSymmetric(),
    "brSF": fb.SignSymmetric(magnitude="batch_random"),
    "LDFA Oja": fb.LowRank(rank=2),
    "LDFA KP": fb.LowRank(rank=2, learning=fb.KolenPollack()),
    "LDFA fixed": fb.LowRank(rank=2, learning=fb.Fixed()),
    "LDFA subspace": fb.LowRank(rank=2, learning=fb.Subspace(), spatial_factor="P"),
    "LDFA normative": fb.LowRank(rank=2, learning=fb.Normative(), match_energy=True),
    "LDFA factored KP": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack()),
}


class Wide(nn.Module):
    """A network in float64 for images in float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.double()

    def forward(self, images):
        return self.network(images.double())


def toy(num_train: int = 40) -> ImageSplits:
    """Return images of three classes that do not divide into batches."""
    generator = torch.Generator().manual_seed(1)

    def some(number: int) -> ImageSet:
        return ImageSet(
            images=torch.randn(number, 1, 6, 6, generator=generator),
            labels=torch.randint(3, (number,), generator=generator),
        )

    return ImageSplits(
        train=some(num_train), validation=some(9), test=some(9), classes=("a", "b", "c"), name="toy"
    )


def make(config: Any, spec: fb.PathwaySpec | None, seed: int, wide: bool = True) -> nn.Module:
    network = config.build(seed)
    network = Wide(network) if wide else network
    if spec is not None:
        names = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        chosen = dict.fromkeys(names[1:], spec)
        fb.attach(network, chosen, example_input=toy().train.images[:2], seed=seed)
    return network


def both(
    config: Any,
    spec: fb.PathwaySpec | None = None,
    training: TrainingConfig = CONFIG,
    wide: bool = True,
) -> tuple[list[nn.Module], list[Any], list[nn.Module], list[Any]]:
    """Train one by one and as a stack."""
    alone, stacked = ([make(config, spec, seed, wide) for seed in SEEDS] for _ in range(2))
    first = [
        train(network, toy(), training, seed=seed, device="cpu", progress=False)
        for seed, network in zip(SEEDS, alone, strict=True)
    ]
    second = train_stacked(stacked, toy(), training, seeds=SEEDS, device="cpu")
    return alone, first, stacked, second


def distance(one: nn.Module, other: nn.Module) -> float:
    """Return the largest difference of two networks' tensors, relative to the tensor."""
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-3))
        for (_, a), b in pairs
        if isinstance(a, torch.Tensor) and a.numel()
    )


def assert_same_runs(alone, first, stacked, second, tolerance: float) -> None:
    for network, result, other, answer in zip(alone, first, stacked, second, strict=True):
        assert isinstance(answer, TrainingResult)
        assert distance(network, other) < tolerance
        assert fb.fired(network) == fb.fired(other)
        assert not other.training
        for name in ("learning_rate", "batch_checksum", "epoch_at_step", "step_at_epoch"):
            np.testing.assert_array_equal(result.history[name], answer.history[name])
        for name in ("loss", "validation_loss"):
            np.testing.assert_allclose(result.history[name], answer.history[name], rtol=1e-5)
        for name in ("accuracy", "validation_accuracy"):
            np.testing.assert_allclose(result.history[name], answer.history[name], atol=1e-6)
        assert result.history.sizes == answer.history.sizes == {"step": 9, "epoch": 3}
        assert result.history.attrs == answer.history.attrs
        for name, values in result.history.variables.items():
            assert values.attrs == answer.history[name].attrs
            assert values.dtype == answer.history[name].dtype


@pytest.mark.parametrize("network", [MLP, NOISY_MLP, VGG, RETINA], ids=lambda c: c.network)
def test_backpropagation_is_the_loops_to_rounding(network):
    assert_same_runs(*both(network), tolerance=1e-12)


@pytest.mark.parametrize("spec", RULES.values(), ids=RULES)
def test_rules_are_the_loops_to_rounding(spec):
    alone, first, stacked, second = both(NOISY_MLP, spec)
    assert_same_runs(alone, first, stacked, second, tolerance=1e-12)
    assert set(fb.fired(stacked[0]).values()) == {9}


@pytest.mark.parametrize("name", ["FA", "KP", "LDFA Oja", "LDFA subspace", "brSF"])
@pytest.mark.parametrize("network", [VGG, RETINA], ids=["vgg", "retina"])
def test_rules_on_convolutions(network, name):
    assert_same_runs(*both(network, RULES[name]), tolerance=1e-12)


def test_targets_are_shown_to_the_rule_that_wants_them():
    spec = fb.LowRank(rank=2, learning=fb.Oja(drive="target"))
    networks = [[make(MLP, None, seed) for seed in SEEDS] for _ in range(2)]
    for network, seed in zip((n for group in networks for n in group), SEEDS * 2, strict=True):
        fb.attach(network, {"network.readout": spec}, seed=seed)
    alone, stacked = networks
    for network, seed in zip(alone, SEEDS, strict=True):
        train(network, toy(), CONFIG, seed=seed, device="cpu", progress=False)
    train_stacked(stacked, toy(), CONFIG, seeds=SEEDS, device="cpu")
    assert max(map(distance, alone, stacked)) < 1e-12


def test_float32_and_bfloat16():
    quick = both(MLP, RULES["LDFA Oja"], wide=False)
    assert_same_runs(*quick, tolerance=2e-5)
    training = dataclasses.replace(CONFIG, precision="bfloat16")
    alone, first, stacked, second = both(VGG, RULES["KP"], training, wide=False)
    for result, answer in zip(first, second, strict=True):
        np.testing.assert_allclose(result.history["loss"], answer.history["loss"], rtol=0.02)
        assert answer.arithmetic.precision == "bfloat16"
    untrained = [make(VGG, RULES["KP"], seed, wide=False) for seed in SEEDS]
    for network, other, start in zip(alone, stacked, untrained, strict=True):
        moved = flat(network) - flat(start)
        assert (flat(other) - flat(network)).norm() < 0.1 * moved.norm()


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_optimiser_that_is_allowed(name):
    decay = 0.0 if name == "Rprop" else 0.1
    training = dataclasses.replace(
        CONFIG, optimiser=Optimiser(name=name, learning_rate=1e-3, weight_decay=decay)
    )
    plain = dataclasses.replace(MLP, normalisation="none")  # a bias before batch norm has no slope
    assert_same_runs(*both(plain, RULES["KP"], training), tolerance=1e-9)


def test_groups_are_those_of_one_network(monkeypatch: pytest.MonkeyPatch):
    seen = []
    update = StackedSession.update

    def noting(self, step):
        seen.append(self.optimiser.param_groups)
        update(self, step)

    monkeypatch.setattr(StackedSession, "update", noting)
    optimiser = dataclasses.replace(SGD, decay_on="weights", pathway_weight_decay=0.02)
    training = dataclasses.replace(CONFIG, optimiser=optimiser)
    networks = [make(MLP, RULES["KP"], seed, wide=False) for seed in SEEDS]
    groups = {group["name"]: group for group in optimiser.build(networks[0]).param_groups}
    train_stacked(networks, toy(), training, seeds=SEEDS, device="cpu")
    assert [group["name"] for group in seen[0]] == ["weights", "no_decay", "pathways"]
    for group in seen[0]:
        alone = groups[group["name"]]
        assert group["weight_decay"] == alone["weight_decay"]
        shapes = [tuple(p.shape) for p in group["params"]]
        assert shapes == [(3, *p.shape) for p in alone["params"]]


@pytest.mark.parametrize("spec", [None, RULES["LDFA Oja"], RULES["brSF"]])
def test_neighbours_in_the_stack_do_not_matter(spec):
    results = {}
    for seeds in ((3,), (3, 0, 1, 2), (2, 1, 0, 3)):
        networks = {seed: make(RETINA, spec, seed) for seed in seeds}
        train_stacked(list(networks.values()), toy(), CONFIG, seeds=seeds, device="cpu")
        results[seeds] = networks[3]
    one, *others = results.values()
    assert max(distance(one, other) for other in others) < 1e-12
    assert distance(one, make(RETINA, spec, 3)) > 1e-3


def test_networks_are_independent_afterwards():
    networks = [MLP.build(seed) for seed in (0, 1)]
    before = networks[0].readout.weight
    state = torch.get_rng_state()
    train_stacked(networks, toy(), CONFIG, seeds=(0, 1), device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert networks[0].readout.weight is before
    size = before.numel() * before.element_size()
    assert before.untyped_storage().nbytes() == size  # not that of the whole stack
    weight = networks[1].readout.weight.detach().clone()
    with torch.no_grad():
        before.zero_()
    assert torch.equal(weight, networks[1].readout.weight)


def test_one_diverging_seed_leaves_the_others_alone():
    networks = [make(MLP, RULES["LDFA Oja"], seed, wide=False) for seed in SEEDS]
    calm = [make(MLP, RULES["LDFA Oja"], seed, wide=False) for seed in SEEDS]
    with torch.no_grad():
        networks[1].readout.bias[0] = math.inf
    first, bad, last = train_stacked(networks, toy(), CONFIG, seeds=SEEDS, device="cpu")
    assert isinstance(bad, NonFiniteLossError)
    assert str(bad) == ("the loss is nan at step 0 (learning_rate=0.05); no checkpoint was written")
    right = train_stacked(calm, toy(), CONFIG, seeds=SEEDS, device="cpu")
    for number, result in ((0, first), (2, last)):
        assert result.history.equals(right[number].history)
        assert torch.equal(flat(networks[number]), flat(calm[number]))


def test_all_diverging_ends_early(monkeypatch: pytest.MonkeyPatch):
    optimiser = Optimiser(name="SGD", learning_rate=1e30)
    training = dataclasses.replace(CONFIG, num_steps=500, optimiser=optimiser)
    steps = []
    update = StackedSession.update
    monkeypatch.setattr(
        StackedSession, "update", lambda self, step: (steps.append(step), update(self, step))
    )
    networks = [make(MLP, None, seed, wide=False) for seed in SEEDS]
    results = train_stacked(networks, toy(), training, seeds=SEEDS, device="cpu")
    assert all(isinstance(result, NonFiniteLossError) for result in results)
    assert len(steps) <= 50


@pytest.mark.parametrize("fill", ["edge", "zero"])
def test_batches_are_those_of_the_loop(fill):
    generator = torch.Generator().manual_seed(0)
    images = ImageSet(images=torch.randn(37, 3, 8, 8, generator=generator), labels=torch.arange(37))
    augmentation = Augmentation(fill=fill)
    seeds = tuple(range(20))
    batches = StackedBatches(images, seeds, batch_size=10, augmentation=augmentation)
    for step in range(60):
        indices = batches.indices(step)
        varied, labels = batches.at(step, indices)
        for place, seed in enumerate(seeds):
            own = batch_indices(seed, step, 37, 10)
            assert torch.equal(indices[place], own)
            assert torch.equal(labels[place], images.labels[own])
            draws = torch.Generator().manual_seed(augmentation_seed(seed, step))
            right = augment(images.images[own], generator=draws, **dataclasses.asdict(augmentation))
            assert torch.equal(varied[place], right)
    assert len(batches.maps) == 200  # all turns, mirrorings and shifts have been met


class Fused(nn.Module):
    """Draws in its own forward pass."""

    def __init__(self):
        super().__init__()
        self.readout = nn.Linear(36, 3)

    def forward(self, images):
        h = nn.functional.dropout(images.flatten(1), 0.5, self.training)
        return self.readout(h)


def refused() -> dict[str, tuple[nn.Module, dict[str, Any], str]]:
    plain = MLP.build(0)
    vit = ViTConfig(
        image_size=6, in_channels=1, num_classes=3, patch=3, dim=4, depth=1, heads=1, dropout=0.0
    )
    direct = fb.attach(
        MLP.build(0),
        {"hidden_2": fb.Direct(source="readout", rank=2)},
        example_input=toy().train.images[:2],
    )
    svd = fb.LowRank(rank=2, learning=fb.SvdRefresh())
    refreshed = fb.attach(MLP.build(0), {"hidden_2": svd})
    return {
        "snapshots": (plain, {"snapshot_steps": (0,)}, r"snapshot_steps=\(0,\)"),
        "Muon": (plain, {"optimiser": Optimiser(name="Muon")}, "optimiser.name='Muon'"),
        "Adafactor": (
            plain,
            {"optimiser": Optimiser(name="Adafactor")},
            "optimiser.name='Adafactor'",
        ),
        "direct": (direct, {}, r"layer 'hidden_2': the rule direct .* takes a direct route"),
        "SVD": (refreshed, {}, r"layer 'hidden_2': the rule low_rank r=2 \[svd_refresh\]"),
        "own draws": (Fused(), {}, "Fused does not run inside torch.func.vmap: .*random"),
        "attention": (vit.build(0), {}, "ViT does not run inside torch.func.vmap"),
    }


@pytest.mark.parametrize("name", refused())
def test_what_cannot_be_stacked_is_refused_by_name(name):
    network, settings, message = refused()[name]
    training = dataclasses.replace(CONFIG, **settings)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    with pytest.raises(ValueError, match=f"cannot be stacked, train them one by one: {message}"):
        train_stacked([network], toy(), training, seeds=(0,), device="cpu")
    assert why_not_stacked(network, training, toy().train.images[:2])
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())


def test_what_can_is_not_refused_and_not_changed():
    network = make(RETINA, RULES["LDFA Oja"], 0, wide=False)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    assert why_not_stacked(network, CONFIG, toy().train.images[:2]) == ""
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    assert set(fb.fired(network).values()) == {0}


def test_networks_and_seeds_must_fit():
    one, other = MLP.build(0), dataclasses.replace(MLP, hidden=(12, 11)).build(0)
    quiet = {"device": "cpu"}
    with pytest.raises(ValueError, match=r"seeds=\(0, 1\) must be one for each network"):
        train_stacked([one], toy(), CONFIG, seeds=(0, 1), **quiet)
    with pytest.raises(ValueError, match="given twice"):
        train_stacked([one, one], toy(), CONFIG, seeds=(0, 1), **quiet)
    with pytest.raises(ValueError, match=r"networks\[1\] is no copy of networks\[0\]: 'hidden_2'"):
        train_stacked([one, other], toy(), CONFIG, seeds=(0, 1), **quiet)
    with pytest.raises(ValueError, match=r"seeds=\(-1,\)"):
        train_stacked([one], toy(), CONFIG, seeds=(-1,), **quiet)
    loose = [MLP.build(0), MLP.build(1)]
    for network in loose:
        object.__setattr__(network, "scale", torch.ones(1))
    with pytest.raises(ValueError, match="tensors that are no buffers"):
        train_stacked(loose, toy(), CONFIG, seeds=(0, 1), **quiet)
