"""Random settings, pathways and damaged results: they work or end in a ValueError of ours."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofb.config import RunConfig, change, from_json, to_json
from neurofb.feedback import (
    Direct,
    Exact,
    Fixed,
    LowRank,
    Normative,
    Oja,
    Random,
    SvdRefresh,
    attach,
    feedback_layers,
)
from neurofb.networks import RetinaVVSConfig
from neurofb.recipes import call_recipe
from neurofb.run import run

RECIPES = Path(__file__).with_name("tiny_recipes.py")


def _names(tree, prefix=""):
    for name, node in tree.items():
        yield f"{prefix}{name}"
        if isinstance(node, dict):
            yield from _names(node, f"{prefix}{name}.")


BASE = call_recipe(f"{RECIPES}::low_rank")
NAMES = st.sampled_from(sorted(_names(json.loads(to_json(BASE)))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rule", "rank", "source", "name"]), inner, max_size=3)
    ),
    max_leaves=5,
)
VALUES = st.text(max_size=8) | JSON.map(json.dumps)


@settings(max_examples=200)
@given(st.dictionaries(NAMES | st.text(max_size=8), VALUES, min_size=1, max_size=3))
def test_settings_give_a_run_or_a_value_error(changes):
    try:
        config = change(BASE, changes)
    except ValueError:
        return
    assert isinstance(config, RunConfig)
    assert from_json(to_json(config)) == config


RANKS = st.sampled_from([-1, 0, 1, 2, 3, 8, 10**9])
LEARNING = st.sampled_from([Fixed(), Oja(), Normative(), SvdRefresh()])
LAYERS = st.sampled_from(
    [
        "retina_1",
        "retina_2",
        "vvs_1",
        "vvs_*",
        "*",
        "hidden",
        "readout",
        "dropout",
        "",
        "x*",
        "[",
        "?",
    ]
)


@settings(max_examples=60)
@given(st.data())
def test_pathways_attach_or_leave_the_network_as_it_was(data):
    draw = data.draw
    network = RetinaVVSConfig(
        image_size=6, kernel_size=3, retina_width=2, bottleneck=2, vvs_width=2, hidden=3
    ).build(seed=0)
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    kinds = {name: type(module) for name, module in network.named_modules()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        pathways = {}
        for name in draw(st.lists(LAYERS, min_size=1, max_size=3)):
            rank, clip = draw(RANKS), draw(st.booleans())
            kind = draw(st.sampled_from(["exact", "random", "low", "direct"]))
            if kind == "low":
                pathway = LowRank(
                    rank=rank,
                    learning=draw(LEARNING),
                    clip_rank=clip,
                    spatial_factor=draw(st.sampled_from(["Q", "P"])),
                )
            elif kind == "direct":
                pathway = Direct(source=draw(LAYERS), rank=rank, clip_rank=clip)
            else:
                pathway = Exact() if kind == "exact" else Random()
            pathways[name] = pathway
        attach(network, pathways, example_input=images)
    except ValueError:
        assert {name: type(module) for name, module in network.named_modules()} == kinds
        after = network.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        return
    assert feedback_layers(network)
    network(images).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


SMALL = st.integers(-1, 4)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "image_size": st.integers(-1, 9),
            **{
                name: SMALL
                for name in (
                    "in_channels",
                    "num_classes",
                    "kernel_size",
                    "retina_width",
                    "retina_layers",
                    "bottleneck",
                    "vvs_layers",
                    "vvs_width",
                    "pool",
                    "hidden",
                )
            },
            **{
                name: st.floats(-1, 2) | st.sampled_from([float("nan"), float("inf")])
                for name in ("input_noise", "bottleneck_noise", "dropout", "init_scale")
            },
            "init": st.sampled_from(["glorot", "torch"]),
        },
    )
)
def test_networks_run_or_are_refused(fields):
    small = {"image_size": 6, "kernel_size": 3, "retina_width": 2, "vvs_width": 2, "hidden": 3}
    try:
        config = RetinaVVSConfig(**{**small, **fields})
    except ValueError:
        return
    images = torch.zeros(2, config.in_channels, config.image_size, config.image_size)
    logits = config.build(seed=0)(images)
    assert logits.shape == (2, config.num_classes)
    assert torch.isfinite(logits).all()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(BASE, folder, progress=False)
    return folder


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_results_are_read_or_refused(finished, tmp_path, data):
    """Resuming a finished run reads its configuration and its result, and nothing else."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy)
    files = [copy / "config.json", copy / "result.zarr" / "zarr.json"]
    files += sorted((copy / "result.zarr").rglob("zarr.json"))[:20]
    files += sorted(path for path in (copy / "result.zarr").rglob("c*") if path.is_file())[:20]
    _damage(data.draw(st.sampled_from(files), label="file"), data.draw)
    try:
        tree = run(BASE, copy, resume=True, progress=False)
    except ValueError as error:
        message = str(error)
    else:
        assert tree.children
        return
    assert str(copy) in message


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_checkpoints_are_refused(finished, tmp_path, data):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "result.zarr")
    path = copy / "checkpoint.pt"
    before = path.read_bytes()
    _damage(path, data.draw)
    if path.read_bytes() == before:
        return
    with pytest.raises(ValueError, match=r"checkpoint\.pt is (damaged|no checkpoint)"):
        run(BASE, copy, resume=True, progress=False)


def _damage(path, draw):
    """Cut a file, fill it with other bytes, or change one."""
    content = bytearray(path.read_bytes())
    how = draw(st.sampled_from(["cut", "replace", "flip"]), label="how")
    if how == "replace" or not content:
        content = bytearray(draw(st.binary(max_size=40), label="bytes"))
    else:
        place = draw(st.integers(0, len(content) - 1), label="place")
        if how == "cut":
            del content[place:]
        else:
            content[place] ^= draw(st.integers(1, 255), label="bits")
    path.write_bytes(bytes(content))
