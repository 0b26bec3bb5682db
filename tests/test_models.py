"""Every recipe in models/ and analyses/, executed at tiny size."""

from pathlib import Path

import numpy as np
import pytest

from neurofb.config import RunConfig, change, replace
from neurofb.plot import example_study
from neurofb.recipes import call_recipe, recipe_names
from neurofb.run import run
from neurofb.study import Study

ROOT = Path(__file__).parents[1]
RETINA, FIGURE = ROOT / "models" / "retina_vvs.py", ROOT / "models" / "figure5.py"
TINY = {
    "training.num_steps": "2",
    "training.batch_size": "8",
    "network.kernel_size": "3",
    "network.retina_width": "4",
    "network.vvs_width": "4",
    "network.hidden": "8",
    "measurement.fits": "false",
    "measurement.num_probes": "2",
    "measurement.num_images": "8",
    "device": "cpu",
}
SHAPES = {"data.num_train": "32", "data.num_validation": "16", "data.num_test": "16"}


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Make a folder in CIFAR-10's binary layout with 8 images a file."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        rows = rng.integers(0, 256, size=(10, 1 + 3072), dtype=np.uint8)
        rows[:, 0] = np.arange(10)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n")
    return folder


@pytest.mark.parametrize("name", recipe_names(RETINA))
def test_runs_of_the_retina(name, request):
    config = call_recipe(f"{RETINA}::{name}")
    assert isinstance(config, RunConfig)
    if name.endswith("_cifar"):
        settings = {"data.path": str(request.getfixturevalue("cifar"))}
    else:
        settings = dict(SHAPES)
    if name == "dldfa":
        settings["feedback.rank"] = "8"
    tree = run(change(config, {**TINY, **settings}), progress=False)
    assert tree["receptive_field/retina_2"].sizes["unit"] == config.network.bottleneck
    assert np.isfinite(tree["test_loss"])


@pytest.mark.parametrize("name", recipe_names(FIGURE))
def test_studies_of_the_figure(name):
    study = call_recipe(f"{FIGURE}::{name}")
    assert isinstance(study, Study)
    assert len(study.seeds) >= (5 if name == "figure5" else 2)
    if name not in ("demo", "figure5", "natural_patches", "fashion_mnist"):
        return
    feedback = {config.feedback.rule for config in study.conditions.values()}
    assert feedback == {"exact", "low_rank", "direct"}
    ranks = {getattr(c.feedback, "rank", None) for c in study.conditions.values()}
    assert {1, 2, 4} <= ranks


def test_conditions_of_the_full_figure_run():
    """Both placements of the kernel, learnt both ways (the others are those of the retina file)."""
    study = call_recipe(f"{FIGURE}::figure5")
    for condition, config in study.conditions.items():
        if "r=2, kernel" in condition:
            tree = run(replace(change(config, {**TINY, **SHAPES}), seed=1), progress=False)
            assert np.isfinite(tree["test_loss"]), condition


def test_analysis_of_receptive_fields(capsys):
    study = example_study(num_seeds=2)
    study["dc_ratio"] = study["rotational_symmetry"] * 0
    medians = call_recipe(f"{ROOT}/analyses/receptive_fields.py::table", _medians(study))
    assert "BP narrow" in medians


def _medians(study):
    from neurofb.measures import population_medians

    return population_medians(study)
