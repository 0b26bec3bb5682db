"""Settings of a run: round trip, change by name, one line for every mistake."""

import json
from pathlib import Path

import pytest

from neurofb.config import Measurement, RunConfig, change, difference, from_json, replace, to_json
from neurofb.data import Cifar, FashionMNIST, Idx, ImageFolder, NaturalPatches, Npz
from neurofb.feedback import Direct, Exact, FactoredKolenPollack, Fixed, LowRank, Random
from neurofb.networks import MLPConfig, ResNetConfig, RetinaVVSConfig, VGGConfig, ViTConfig
from neurofb.training import Constant, Optimiser, TrainingConfig

PLAIN = RunConfig(name="plain")
CONFIGS = [
    PLAIN,
    RunConfig(name="Größe ∆ 'q' \"", seed=2**32 - 1, feedback_layers=("vvs_*", "readout")),
    RunConfig(name="f", feedback=LowRank(rank=2, learning=Fixed()), feedback_layers=("vvs_1",)),
    RunConfig(name="k", feedback=LowRank(rank=3, learning=FactoredKolenPollack())),
    RunConfig(name="d", feedback=Direct(source="hidden", rank=4)),
    RunConfig(name="r", feedback=Random()),
    RunConfig(
        name="o",
        feedback=Random(),
        feedback_layers=("*",),
        feedback_overrides={"vvs_*": LowRank(rank=2), "hidden": Exact()},
    ),
    RunConfig(name="a", measurement=Measurement(layers=(), alignment_images=8)),
    RunConfig(name="w", network=MLPConfig(hidden=(8, 4))),
    RunConfig(name="v", network=VGGConfig()),
    RunConfig(name="s", network=ResNetConfig()),
    RunConfig(name="i", network=ViTConfig()),
    RunConfig(name="n", data=NaturalPatches(), measurement=Measurement(layers=("hidden",))),
    RunConfig(name="m", data=FashionMNIST()),
    RunConfig(name="c", data=Cifar(path="some/folder", classes=100, labels="coarse")),
    RunConfig(
        name="t",
        training=TrainingConfig(
            optimiser=Optimiser(name="Adam", options={"betas": (0.5, 0.9), "amsgrad": True}),
            schedule=Constant(),
            channels_last=True,
            validate_every=3,
            snapshot_steps=(0, 5),
        ),
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_json_round_trip(config):
    text = to_json(config)
    assert from_json(text) == config
    assert to_json(from_json(text)) == text
    assert "\n" not in text


@pytest.mark.parametrize("source", [Idx, ImageFolder, Npz])
def test_json_round_trip_of_every_reader(source):
    text = to_json(PLAIN)
    try:
        data = source(path=Path("some/where"))
    except TypeError:
        data = source(folder=Path("some/where"))
    config = replace(PLAIN, data=data)
    assert from_json(to_json(config)) == config
    assert to_json(config) != text


def test_change_by_dotted_name():
    config = change(
        PLAIN,
        {
            "training.num_steps": "10",
            "training.optimiser.learning_rate": "0.5",
            "training.optimiser.options": '{"eps": 0.1, "betas": [0.5, 0.9]}',
            "measurement.fits": "False",
            "measurement.layers": '["retina_1"]',
            "feedback": '{"rule": "low_rank", "rank": 2, "learning": {"rule": "fixed"}}',
            "feedback.rank": "3",
            "feedback_layers": '["vvs_1"]',
            "data.background": "photographs",
            "name": "new name",
            "seed": "7",
        },
    )
    assert config.training.num_steps == 10
    assert config.training.optimiser.learning_rate == 0.5
    assert config.training.optimiser.options == {"eps": 0.1, "betas": (0.5, 0.9)}
    assert config.measurement == Measurement(fits=False, layers=("retina_1",))
    assert config.feedback == LowRank(rank=3, learning=Fixed())
    assert config.feedback_layers == ("vvs_1",)
    assert config.data.background == "photographs"
    assert (config.name, config.seed) == ("new name", 7)
    assert change(PLAIN, {}) == PLAIN


def test_change_leaves_the_original_as_it_was():
    before = to_json(PLAIN)
    change(PLAIN, {"training.num_steps": "10"})
    assert to_json(PLAIN) == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("training.nm_steps", "3", r"'training.nm_steps' does not exist; training has: num_steps"),
        ("trainig.num_steps", "3", r"'trainig.num_steps' does not exist; a run has: training$"),
        ("feedback.rank", "3", r"feedback has: rule$"),
        ("training.num_steps.x", "3", r"training.num_steps has: $"),
        ("", "3", r"setting '' does not exist"),
        ("training.num_steps", "ten", r"^training.num_steps: .*integer.*given: 'ten'"),
        ("training.num_steps", "0", r"num_steps=0 must be an integer >= 1"),
        ("training.num_steps", "1.5", r"^training.num_steps: .*integer"),
        ("training.num_steps", "NaN", r"^training.num_steps: .*finite"),
        ("training", "3", r"^training: .*object"),
        ("training.optimiser.name", "Bogus", r"name='Bogus' is no optimiser"),
        ("network.kernel_size", "4", r"kernel_size=4 must be odd"),
        ("network.init_scale", "Infinity", r"init_scale=inf must be a finite"),
        ("feedback", "low_rank", r"^feedback: .*object.*given: 'low_rank'"),
        ("feedback", '{"rule": "bogus"}', r"^feedback: .*'bogus'.*'low_rank'"),
        ("feedback", '{"rule": "low_rank", "rank": 0}', r"rank=0"),
        ("data.source", "cifar", r"^data.cifar.*"),
        ("measurement.probe_std", "Infinity", r"probe_std=inf must be positive and finite"),
        ("measurement.probe_std", "NaN", r"probe_std=nan must be positive"),
        ("measurement.num_probes", "0", r"num_probes=0 must be at least 1"),
        ("measurement.alignment_images", "-1", r"alignment_images=-1 must be at least 0"),
        (
            "feedback_overrides",
            '{"vvs_*": {"rule": "bogus"}}',
            r"^feedback_overrides.vvs_\*: .*'bogus'.*'low_rank'",
        ),
        ("seed", "-1", r"seed=-1 must be at least 0"),
        ("seed", str(2**32), r"seed=4294967296 must be at least 0 and below 2\*\*32"),
        ("seed", "1" * 5000, r"^seed: "),
        ("name", "[" * 100_000, r"^name: |^Invalid JSON|name"),
    ],
)
def test_change_refuses_in_one_line(name, value, message):
    if value.startswith("[["):  # too deep for JSON: a string like any other
        assert change(PLAIN, {name: value}).name == value
        return
    with pytest.raises(ValueError, match=message) as caught:
        change(PLAIN, {name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), "bogus"),
        (("data",), "data.shapes.bogus"),
        (("network",), "network.retina_vvs.bogus"),
        (("feedback",), "feedback.low_rank.bogus"),
        (("feedback", "learning"), "feedback.low_rank.learning.oja.bogus"),
        (("training",), "training.bogus"),
        (("training", "optimiser"), "training.optimiser.bogus"),
        (("training", "schedule"), "training.schedule.cosine.bogus"),
        (("training", "augmentation"), "training.augmentation.bogus"),
        (("measurement",), "measurement.bogus"),
    ],
)
def test_extra_keys_are_refused_at_every_depth(path, place):
    tree = json.loads(to_json(replace(PLAIN, feedback=LowRank(rank=1))))
    node = tree
    for part in path:
        node = node[part]
    node["bogus"] = 1
    with pytest.raises(ValueError, match=f"^{place}: Unexpected keyword argument"):
        from_json(json.dumps(tree))


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "3", "{}", '{"name": 3}', '{"name": null}'])
def test_from_json_refuses_in_one_line(text):
    with pytest.raises(ValueError, match=r".") as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


def test_a_string_is_no_tuple_of_layers():
    with pytest.raises(ValueError, match=r"^feedback_layers: .*array.*given: 'vvs_1'"):
        change(PLAIN, {"feedback_layers": "vvs_1"})


def test_overrides_are_set_as_json_and_keep_their_order():
    text = '{"vvs_2": {"rule": "exact"}, "vvs_*": {"rule": "low_rank", "rank": 2}}'
    overrides = change(PLAIN, {"feedback_overrides": text}).feedback_overrides
    assert overrides == {"vvs_2": Exact(), "vvs_*": LowRank(rank=2)}
    assert list(overrides) == ["vvs_2", "vvs_*"]


def test_another_network_is_set_as_json():
    config = change(PLAIN, {"network": '{"network": "mlp", "hidden": [8, 4]}'})
    assert config.network == MLPConfig(hidden=(8, 4))
    with pytest.raises(ValueError, match=r"^network: .*'bogus'.*'retina_vvs', 'mlp'"):
        change(PLAIN, {"network.network": "bogus"})


def test_a_stored_network_without_a_tag_is_the_retina():
    tree = json.loads(to_json(replace(PLAIN, network=RetinaVVSConfig(hidden=7))))
    del tree["network"]["network"], tree["feedback_overrides"]
    assert from_json(json.dumps(tree)).network == RetinaVVSConfig(hidden=7)


def test_snapshots_of_nothing_are_refused():
    nothing = Measurement(layers=())
    training = TrainingConfig(snapshot_steps=(0,))
    with pytest.raises(ValueError, match=r"snapshot_steps=\(0,\) would hold nothing"):
        RunConfig(name="x", measurement=nothing, training=training)
    aligned = Measurement(layers=(), alignment_images=2)
    assert RunConfig(name="x", measurement=aligned, training=training).measurement == aligned


def test_difference_names_what_changed_appeared_and_went():
    old, new = to_json(PLAIN), to_json(change(PLAIN, {"seed": "3", "network.hidden": "8"}))
    assert difference(old, old) == []
    assert difference(old, new) == ["network.hidden: 64 → 8", "seed: 0 → 3"]
    assert difference(new, old) == ["network.hidden: 8 → 64", "seed: 3 → 0"]
    assert difference('{"a": {"b": null}}', '{"a": {}}') == ["a.b: None → absent"]
    swapped = difference(old, to_json(replace(PLAIN, feedback=LowRank(rank=2))))
    assert "feedback.rank: absent → 2" in swapped
    with pytest.raises(ValueError, match="'nonsense' is no configuration"):
        difference("nonsense", old)
    with pytest.raises(ValueError, match="is no configuration"):
        difference(old, "[]")
