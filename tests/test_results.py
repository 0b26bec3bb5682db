"""What the pages and recipes say of the committed results is what the results say."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from neurofb import labels
from neurofb.recipes import load_recipe

ROOT = Path(__file__).parents[1]


def test_the_tables_rates_are_those_with_the_best_validation_accuracy(capsys):
    chosen = runpy.run_path(str(ROOT / "models/feedback_rules.py"))["CHOSEN"]
    analyse = load_recipe(f"{ROOT / 'analyses/feedback_rules.py'}::analyse_rates")
    found, _ = analyse(labels.load(ROOT / "results/feedback_rules_rates.nc"))
    rates = found["chosen_rate"]
    assert int(rates.notnull().sum()) == len(chosen)
    for label, rate in chosen.items():
        network, rule = label.split(", ", 1)
        assert float(rates.sel(network=network, rule=rule)) == pytest.approx(rate), label
    assert "17 of 49 chosen rates lie at the edge" in capsys.readouterr().out


def test_the_readmes_table_of_rules_is_the_dataset():
    study = labels.load(ROOT / "results/feedback_rules.nc").to_dataset()["test_accuracy"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    checked = 0
    for rule, *cells in rows:
        for network, cell in zip(("MLP", "VGG", "ViT"), cells, strict=True):
            label = f"{network}, {rule.strip()}"
            numbers = re.findall(r"\d+\.\d+", cell)
            if label not in study["condition"].values or len(numbers) != 2:
                continue
            seeds = 100 * study.sel(condition=label).values
            np.testing.assert_allclose(
                [float(n) for n in numbers], [seeds.mean(), seeds.std(ddof=1)], atol=0.06
            )
            checked += 1
    assert checked == study.sizes["condition"]


def test_the_readmes_statements_on_the_surface_are_the_datasets(capsys):
    analyse = load_recipe(f"{ROOT / 'analyses/symmetry_surface.py'}::analyse")
    analyse(labels.load(ROOT / "results/symmetry_surface.nc"))
    said = re.findall(
        r"^(.*): (holds|does not hold) \((\d of \d) seeds; (.*)\)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.*) \| \**(holds|does not hold)\** \| (\d of 5) \| (.*) \|$", text, re.MULTILINE
    )
    assert len(said) == 8
    assert {row[1:] for row in said} <= {row[1:] for row in rows}
