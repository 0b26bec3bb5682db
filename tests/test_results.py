"""What the pages and recipes say of the committed results is what the results say."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from neurofb import labels
from neurofb.recipes import load_recipe
from neurofb.tensor_study import signal_found

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


@pytest.mark.parametrize(
    ("recipe", "chosen", "results"),
    [
        ("deep_mlp", "CHOSEN", "error_rank_rates"),
        ("deep_mlp", "CHOSEN", "error_rank_crossing_rates"),
        ("deep_mlp", "CAUSAL", "error_rank_causal_rates"),
        ("deep_cnn", "CHOSEN", "error_rank_cnn_rates"),
    ],
)
def test_rates_are_those_with_the_best_validation_accuracy(recipe, chosen, results):
    settled = runpy.run_path(str(ROOT / f"models/{recipe}.py"))[chosen]
    settled = settled.get("conv net", settled)
    study = labels.load(ROOT / f"results/{results}.nc").to_dataset()
    tried: dict[str, dict[float, float]] = {}
    for condition in study["condition"].values:
        name, rate = condition.rsplit(", rate ", 1)
        one = study.sel(condition=condition).squeeze("seed")
        last = one["validation_accuracy"].dropna("epoch")
        if one["diverged_at"].isnull() and last.size:
            tried.setdefault(name, {})[float(rate)] = float(last[-1])
    assert len(tried) >= 8
    for name, accuracies in tried.items():
        assert accuracies[settled[name]] >= max(accuracies.values()) - 1e-3, name  # ties


@pytest.mark.parametrize("results", ["error_rank", "error_rank_cnn", "error_rank_resnet"])
def test_the_tables_of_error_ranks_are_the_datasets(results):
    study = labels.load(ROOT / f"results/{results}.nc")
    accuracy = 100 * study["test_accuracy"]
    ranks = study["error_rank"].to_dataset().sel(definition="entropy", view="sample")
    ranks = ranks.isel(epoch=-1).mean("seed")
    text = (ROOT / "docs/error_rank.md").read_text(encoding="utf-8")
    checked = 0
    for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE):
        cells = row.split(" | ")
        label = ", ".join(cells[:3])
        if len(cells) != 6 or label not in accuracy["condition"].values:
            continue
        seeds = accuracy.sel(condition=label).values
        layers = [name for name in ranks["layer"].values if name != "readout"]
        normalised, raw = ([int(rank) for rank in cell.split()] for cell in cells[4:])
        if len(raw) != len(layers):
            continue  # of the study with another number of layers
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", cells[3])]
        expected = [seeds.mean(), seeds.std(ddof=1)]
        np.testing.assert_allclose(numbers, expected, atol=0.06)
        here = ranks.sel(condition=label, layer=layers)
        np.testing.assert_allclose(normalised, here["error_rank_normalised"], atol=0.51)
        np.testing.assert_allclose(raw, here["error_rank"], atol=0.51)
        checked += 1
    assert checked == accuracy.sizes["condition"]


def test_the_readmes_table_of_error_ranks_is_the_dataset():
    study = labels.load(ROOT / "results/error_rank.nc")
    accuracy = 100 * study["test_accuracy"]
    at = {"definition": "entropy", "view": "sample", "layer": "hidden_6"}
    ranks = study["error_rank/error_rank_normalised"].sel(at).isel(epoch=-1).mean("seed")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (SGD|Adam|Muon) \| (\w+) \| (\d+) \| (\d+) \| (.+) \|$", text, re.MULTILINE
    )
    assert len(rows) == 9
    for optimiser, normalisation, *rank, cells in rows:
        names = [f"{rule}, {optimiser}, {normalisation}" for rule in ("BP", "FA")]
        np.testing.assert_allclose([int(n) for n in rank], ranks.sel(condition=names), atol=0.51)
        seeds = accuracy.sel(condition=names)
        expected = np.stack([seeds.mean("seed"), seeds.std("seed", ddof=1)], axis=1).ravel()
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", cells)]
        np.testing.assert_allclose(numbers, expected, atol=0.06)


def test_the_table_of_ssa_is_the_dataset():
    study = labels.load(ROOT / "results/ssa.nc")
    accuracy, parameters = 100 * study["test_accuracy"], study["num_parameters"]
    angles = study["error_rank/gradient_angle"].isel(epoch=-1).mean("seed")
    text = (ROOT / "docs/ssa.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+) \| (.+) ± (.+) \| ([\d ]+) \| (\d+), (\d+) \|$", text, re.MULTILINE
    )
    assert len(rows) == accuracy.sizes["condition"]
    for label, mean, sd, size, *degrees in rows:
        seeds = accuracy.sel(condition=label).values
        np.testing.assert_allclose(
            [float(mean), float(sd)], [seeds.mean(), seeds.std(ddof=1)], atol=0.06
        )
        assert int(size.replace(" ", "")) == parameters.sel(condition=label)
        expected = angles.sel(condition=label, layer=["hidden_1", "hidden_2"])
        np.testing.assert_allclose([int(angle) for angle in degrees], expected, atol=0.51)


def test_the_table_of_low_rank_feedback_is_the_dataset():
    study = labels.load(ROOT / "results/error_rank_crossing.nc")
    at = {"definition": "entropy", "view": "sample", "layer": "hidden_6"}
    ranks = study["error_rank/error_rank_normalised"].sel(at).isel(epoch=-1).mean("seed")
    text = (ROOT / "docs/error_rank.md").read_text(encoding="utf-8")
    cell = r"(\d+\.\d) ± (\d+\.\d) \((\d+)\)"
    rows = re.findall(rf"^\| (.+?) \| {' [|] '.join([cell] * 4)} \|$", text, re.MULTILINE)
    assert len(rows) == 6
    columns = ("Adam, none", "Adam, batch", "Muon, none", "Muon, batch")
    for rule, *numbers in rows:
        for i, column in enumerate(columns):
            label = f"{rule}, {column}"
            seeds = 100 * study["test_accuracy"].sel(condition=label).values
            expected = [seeds.mean(), seeds.std(ddof=1)]
            np.testing.assert_allclose(
                [float(n) for n in numbers[3 * i : 3 * i + 2]], expected, atol=0.06
            )
            assert int(numbers[3 * i + 2]) == pytest.approx(
                float(ranks.sel(condition=label)), abs=0.51
            )


def test_the_table_of_controlled_updates_is_the_dataset():
    study = labels.load(ROOT / "results/error_rank_causal.nc")
    ranks = study["error_rank"].to_dataset().sel(definition="entropy", view="sample")
    ranks = ranks.isel(epoch=-1).mean("seed")
    hidden = [name for name in ranks["layer"].values if name != "readout"]
    update = ranks["update_rank"].sel(layer=hidden).mean("layer")
    text = (ROOT / "docs/error_rank.md").read_text(encoding="utf-8")
    pattern = r"^\| (BP|FA) \| ([^|]+) \| ([\d.]+) ± ([\d.]+) \| (\d+) \| (\d+) \|$"
    rows = re.findall(pattern, text, re.MULTILINE)
    assert len(rows) == study.sizes["condition"]
    for rule, control, *numbers in rows:
        at = {"condition": f"{rule}, {control}"}
        seeds = 100 * study["test_accuracy"].sel(at).values
        error = ranks["error_rank_normalised"].sel(at).sel(layer=hidden[-1])
        expected = [seeds.mean(), seeds.std(ddof=1), float(update.sel(at)), float(error)]
        found = [float(number) for number in numbers]
        np.testing.assert_allclose(found[:2], expected[:2], atol=0.06)
        np.testing.assert_allclose(found[2:], expected[2:], atol=0.51)


@pytest.mark.parametrize("results", ["linear_modes", "linear_modes_oja"])
def test_the_tables_of_linear_modes_are_the_datasets(results):
    ends = load_recipe(f"{ROOT / 'analyses/linear_modes.py'}::ends")
    found = ends(labels.load(ROOT / f"results/{results}.nc").to_dataset())
    text = (ROOT / "docs/linear_modes.md").read_text(encoding="utf-8")
    text = text.split("<!-- oja -->")[results.endswith("oja")]
    number = r"([\d.]*)"
    pattern = rf"^\| (.+) \| {number} \({number} to {number}\)" + rf" \| {number}" * 5 + r" \|$"
    rows = re.findall(pattern, text, re.MULTILINE)
    assert [row[0] for row in rows] == list(found["condition"].values)
    for name, *cells in rows:
        one = found.sel(condition=name)
        loss = one["final_loss"]
        shares = [one[f"{which}_overlap"].median() for which in ("mean", "leading", "other")]
        numbers = [float(cell or "nan") for cell in cells]
        expected = [loss.median(), loss.min(), loss.max(), *shares]
        np.testing.assert_allclose(numbers[:6], expected, atol=0.006)
        np.testing.assert_allclose(
            numbers[6:], [one["distance"].max(), one["distance_of_mean"]], atol=6e-4
        )


def test_what_is_said_of_the_distance_of_linear_modes_to_theory():
    distance = labels.load(ROOT / "results/linear_modes_seeds.nc").to_dataset()["distance"]
    text = " ".join((ROOT / "docs/linear_modes.md").read_text(encoding="utf-8").split())
    above, medians = int((distance > 0.03).sum()), distance.median("seed")
    assert f"{above} of {distance.size} runs lie above, up to {float(distance.max()):.3f}" in text
    assert f"medians {float(medians.min()):.3f} to {float(medians.max()):.3f} by rank" in text


@pytest.mark.parametrize("layer", ["hidden", "readout"])
def test_the_tables_of_curl_descents_boundaries_are_the_datasets(layer, capsys):
    phase = load_recipe(f"{ROOT / 'analyses/curl_descent.py'}::phase")
    found, _ = phase(labels.load(ROOT / f"results/curl_{layer}.nc"))
    said = capsys.readouterr().out
    assert (found.sizes["ratio"], found.sizes["seed"]) == (14 if layer == "hidden" else 12, 5)
    text = (ROOT / "docs/curl_descent.md").read_text(encoding="utf-8")
    part = text.split("### Flips of ")[1 if layer == "hidden" else 2].split("### Near")[0]
    number = r"([+-]?[\d.]+)"
    spread = rf"{number} \({number} to {number}\)"
    pattern = rf"^\| {number} \| {number} \| {spread} \| {spread} \| {number} \| {number} \|$"
    rows = np.array(re.findall(pattern, part, re.MULTILINE), dtype=float)
    expected = [found["ratio"], found["critical_fraction"]]
    for name in ("boundary", "boundary_norms"):
        expected += [found[name].median("seed"), found[name].min("seed"), found[name].max("seed")]
    expected += [found[f"distance_{axis}"].median("seed") for axis in ("ratio", "fraction")]
    np.testing.assert_allclose(rows, np.stack(expected, axis=1), atol=6e-4)
    unstable = int((found["growth_start"] > 0).sum())
    assert f"of {unstable} runs from unstable solutions" in part
    for words in ("with kept norms", "of -X"):
        count = re.search(rf"eigenvalue {words} foretells (\d+) of", said)
        assert count is not None
        assert count[1] in part
    if layer == "hidden":
        median, seed = (abs(v).max() for v in (rows[:, 8], found["distance_ratio"].values))
        assert f"**{median:.3f} in c**" in part
        assert f"{seed:.3f} for single seeds" in part
        assert int(found["recovered"].sum()) == 2
    else:
        assert f"{int(found['recovered'].sum())} ended with a small loss" in part


def test_the_table_of_escape_times_is_the_dataset():
    study = labels.load(ROOT / "results/curl_escape.nc").to_dataset()
    text = (ROOT / "docs/curl_descent.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (tanh|linear|relu), g = (\d) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 6
    for activation, gain, cells in rows:
        one = study.sel(activation=activation, gain=float(gain))
        for flip, cell in zip(one["flip"].values, cells.split(" | "), strict=True):
            times = one["hit_epoch"].sel(flip=flip).values
            cut = one["censored"].sel(flip=flip).values == 1
            median = np.median(np.where(cut, np.inf, times))
            shown = [
                f"{'> ' if late else ''}{time:.0f}" for time, late in zip(times, cut, strict=True)
            ]
            first = f"{median:.0f}" if np.isfinite(median) else f"> {times.max():.0f}"
            assert cell == f"**{first}**: {', '.join(shown)}", (activation, gain, flip)


def test_the_tables_of_exponents_and_sizes_are_the_datasets():
    text = (ROOT / "docs/curl_descent.md").read_text(encoding="utf-8")
    analyse = load_recipe(f"{ROOT / 'analyses/curl_descent.py'}::lyapunov")
    found, _ = analyse(labels.load(ROOT / "results/curl_lyapunov.nc"))
    rows = re.findall(
        r"^\| (20-\d+-1, .+?) \| (.+) \| (.+) \| .+ \| (\d) of 5 \|$", text, re.MULTILINE
    )
    assert [row[0] for row in rows] == found["condition"].values.tolist()
    for name, exponents, half, chaotic in rows:
        one = found.sel(condition=name)
        numbers = np.array(re.findall(r"[\d.]+", exponents), dtype=float).reshape(-1, 2)
        np.testing.assert_allclose(numbers[:, 0], abs(one["exponent"]), atol=6e-5)
        np.testing.assert_allclose(numbers[:, 1], one["standard_error"], atol=6e-5)
        halves = np.array(half.split(", "), dtype=float)
        np.testing.assert_allclose(halves, abs(one["exponent_half"]), atol=6e-5)
        assert int(chaotic) == int(one["chaotic"].sum())
    size = labels.load(ROOT / "results/curl_size.nc").to_dataset()
    pattern = r"^  \| ([\d.]+)" + r" \| ([+-][\d.]+) ± ([\d.]+)" * 4 + r" \|$"
    table = np.array(re.findall(pattern, text, re.MULTILINE), dtype=float)
    gap = (size["boundary"].mean("seed") - size["critical_fraction"]).values
    np.testing.assert_allclose(table[:, 1::2], gap, atol=6e-4)


def _balanced(name, results):
    """Return a study of balanced coding beside its theory, and the page."""
    analyse = load_recipe(f"{ROOT / 'analyses/balanced_coding.py'}::{name}")
    found, _ = analyse(labels.load(ROOT / f"results/{results}.nc"))
    return found, (ROOT / "docs/balanced_coding.md").read_text(encoding="utf-8")


def _numbers(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def test_the_table_of_balances_is_the_dataset(capsys):
    found, text = _balanced("against_balance", "balanced_against_balance")
    rows = re.findall(r"^\| (noise|chaos, g = [\d.]+) \| ([\d.]+) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 5 + 4 + 4
    for source, balance, cells in rows:
        one = found.sel(source=source, balance=float(balance))
        expected = []
        if float(one["drive"]):
            expected = [one["bias"].median(), one["bias_theory"]]
        std = 1000 * one["std"]
        expected += [std.median(), std.min(), std.max()]
        expected += [1000 * one[f"std_{end}"] for end in ("pooled", "pooled_error", "theory")]
        np.testing.assert_allclose(_numbers(cells), [float(v) for v in expected], rtol=0.02)
        if source == "noise":
            assert float(one["std"].median() / one["std_theory"]) == pytest.approx(1, abs=0.0125)
            assert float(one["bias"].median() / one["bias_theory"]) == pytest.approx(1, abs=3e-3)
        else:
            gap = float(one["std_pooled"] - one["std_theory"])
            assert abs(gap) < 2 * float(one["std_pooled_error"])
    for slope in ("-0.451 (-0.454 to -0.445), theory -0.451",):
        assert slope in capsys.readouterr().out
        assert slope.replace("-", "−") in text


def test_the_table_of_exponents_is_the_dataset():
    found, text = _balanced("scaling", "balanced_scaling")
    rows = re.findall(r"^\| (b = \S+) \| (.+) \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == found["law"].values.tolist()
    for law, cells in rows:
        one = found.sel(law=law)
        expected = [
            float(one[f"{name}_slope{end}"])
            for name in ("bias", "std", "rmse")
            for end in ("", "_low", "_high", "_theory")
        ]
        np.testing.assert_allclose(_numbers(cells), expected, atol=6e-4)
    for name, limits in (("bias", (0, -0.5, -1)), ("std", (-0.5, -0.75, -1))):
        np.testing.assert_allclose(found[f"{name}_slope"], limits, atol=0.05)


def test_the_tables_of_delayed_networks_are_the_datasets():
    found, text = _balanced("delay_phase", "balanced_delay")
    part = text.split("### A delay")[1].split("### ")[0]
    rows = np.array([_numbers(row) for row in re.findall(r"^\| \d.+$", part, re.MULTILINE)])
    first = found["oscillation"].where(found["balance"] == found["crossing_high"]).max("balance")
    median = found["std"].median("trial")
    expected = [
        *(found["delay"], found["critical_balance"], found["crossing"].median("trial")),
        *(found["crossing_low"].min("trial"), found["crossing_high"].max("trial")),
        *(found["critical_frequency"], first.median("trial"), found["optimal_balance"]),
        *(median.idxmin("balance"), 1000 * found["std_theory"].min("balance")),
        1000 * median.min("balance"),
    ]
    np.testing.assert_allclose(rows, np.stack(expected, axis=1), rtol=2e-3)
    np.testing.assert_allclose(rows[:, 6], rows[:, 5], rtol=0.02)  # the frequency is theory's
    assert ((rows[:, 3] <= rows[:, 1]) & (rows[:, 1] <= rows[:, 4])).all()

    found, text = _balanced("noise_stabilises", "balanced_noise")
    part = text.split("### Noise stabilises")[1].split("### ")[0]
    rows = [_numbers(row) for row in re.findall(r"^\| \d.+$", part, re.MULTILINE)]
    assert len(rows) == found.sizes["noise"]
    for row, noise in zip(rows, found["noise"].values, strict=True):
        one = found.sel(noise=noise)
        error = one["rmse"]
        expected = [noise, one["critical_balance"], error.median(), error.min(), error.max()]
        expected += [one["rmse_theory"]] if one["rmse_theory"].notnull() else []
        np.testing.assert_allclose(row, [float(v) for v in expected], rtol=2e-3)


def test_what_is_said_of_ramps_and_moving_signals_is_in_the_datasets():
    found, text = _balanced("hysteresis", "balanced_hysteresis")
    said = " ".join(text.split("### Up and down")[1].split("### ")[0].split())
    for source in ("noise", "chaos"):
        one = found.sel(source=source)
        assert f"{float(one['critical_balance']):.2f}" in said
        for ramp in ("up", "down"):
            at = one["crossing"].sel(ramp=ramp)
            spread = f"{float(at.median()):.1f} ({float(at.min()):.1f} to {float(at.max()):.1f})"
            assert spread in said, (source, ramp)
    found, text = _balanced("tracking", "balanced_tracking")
    for name, largest in (("response", 0.259), ("tracking_error", 0.17)):
        gap = abs(found[name].median("trial") - found[f"{name}_theory"])
        assert float(gap.where(found["delay"] == 0).max()) < 0.0095
        assert float(gap.max()) < largest
    assert "theory holds** to 0.009" in text


def test_the_table_and_numbers_of_the_activity_tensor_are_the_datasets():
    study = labels.load(ROOT / "results/activity_tensor.nc").to_dataset()
    text = " ".join((ROOT / "docs/activity_tensor.md").read_text(encoding="utf-8").split("\n"))
    pattern = r"\| ([a-z ]+) \| (\d+) \|" + r" ([\d. ]+) \|" * 4
    rows = re.findall(pattern, text)
    assert len(rows) == study.sizes["condition"] * study.sizes["noise_ratio"]
    errors, null = (study[name].median("seed") for name in ("held_out_error", "error_of_mean"))
    for condition, ratio, *cells, mean in rows:
        at = {"condition": condition, "noise_ratio": float(ratio)}
        found = [[float(number) for number in cell.split()] for cell in cells]
        expected = errors.sel(at).transpose("algorithm", "rank")
        np.testing.assert_allclose(found, expected, atol=6e-4)
        assert float(mean) == pytest.approx(float(null.sel(at)), abs=6e-4)
    best = study["held_out_error"].min("rank")
    gain = best.drop_sel(algorithm="AMP").min("algorithm") - best.sel(algorithm="AMP")
    assert float(abs(gain.sel(condition=["trained", "along training"], noise_ratio=0)).max()) < 6e-3
    for condition, ratio, low, high in (
        *(("trained", 10, 0.05, 0.18), ("trained", 100, 0.46, 0.71)),
        *(("along training", 10, 0.10, 0.16), ("along training", 100, 0.55, 0.88)),
    ):
        one = gain.sel(condition=condition, noise_ratio=ratio)
        np.testing.assert_allclose([one.min(), one.max()], [low, high], atol=6e-3)
    share = 100 * study["converged"].sel(algorithm="AMP").mean(("condition", "seed", "rank"))
    assert [round(float(each)) for each in share] == [46, 35, 24]
    assert "46, 35 and 24 %" in text
    halves = study[["difference", "predicted_difference"]].median("seed").sel(noise_ratio=10)
    assert halves["difference"].values.round(3).tolist() == [0.202, 0.018, 0.3]
    assert halves["predicted_difference"].values.round(3).tolist() == [0.227, 0.048, 0.331]
    first = study["held_out_error"].sel(seed=0, condition="along training", noise_ratio=0)
    first = first.sel(algorithm="AMP", rank=[2, 4]).values.round(2)
    assert first.tolist() == [0.52, 0.28]


def _spread(values):
    """Return median, smallest and largest."""
    return [float(values.median()), float(values.min()), float(values.max())]


@pytest.mark.parametrize("name", ["large", "against_als", "mixed"])
def test_the_tables_of_tensors_are_the_datasets(name):
    study = labels.load(ROOT / f"results/tensor_{name}.nc").to_dataset()
    text = (ROOT / "docs/tensor_phases.md").read_text(encoding="utf-8")
    heads = {"large": "Large", "against_als": "Against", "mixed": "Other"}
    part = text.split(f"### {heads[name]}")[1].split("### ")[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.+) \|$", part, re.MULTILINE)][1:]
    done = study["tensor_error"].notnull().any(("seed", "algorithm"))
    assert len(rows) == int(done.sum())
    for row in rows:
        one = study
        if name == "mixed":
            one, row = study.sel(condition=row[0]), row[1:]
        one = one.sel(noise_variance=float(row[0]))
        numbers = [float(number) for cell in row[1:] for number in re.findall(r"\d[\d.]*", cell)]
        expected = one["error_theory"].sel(start=["prior", "truth"]).values.tolist()
        for error in one["tensor_error"].transpose("algorithm", "seed"):
            found = error < 0.9 * float(study["mean_error"].max())
            expected += _spread(error) if name != "against_als" else []
            expected += [float(error.median()), int(found.sum())] if name == "against_als" else []
        np.testing.assert_allclose(numbers, expected, atol=6e-4, err_msg=str(row))


def test_what_is_said_of_phases_and_schedules_of_tensors(capsys):
    text = " ".join((ROOT / "docs/tensor_phases.md").read_text(encoding="utf-8").split())
    analyses = ROOT / "analyses/tensor_phases.py"
    found = {}
    for name in ("phases", "shapes", "large", "against_als", "schedules"):
        result = labels.load(ROOT / f"results/tensor_{name}.nc")
        found[name] = load_recipe(f"{analyses}::{name}")(result)[0]
    printed = capsys.readouterr().out
    for words in (
        "hard: AMP finds the signal in 5 of 279 runs",
        "hard: AMP from the truth finds the signal in 259 of 279 runs",
        "impossible: AMP finds the signal in 0 of 39 runs",
        "above the spinodal: AMP finds the signal in 0 of 213 runs",
        "above the spinodal: AMP from the truth finds the signal in 47 of 213 runs",
        "hard: AMP finds the signal in 26 of 140 runs",
        "hard: AMP from the truth finds the signal in 131 of 140 runs",
        "the hard phase is widest, 0.1230, at a ratio of 1.000",
    ):
        assert words in printed, words
    phases = found["phases"]
    share = phases["noise_variance"] / phases["algorithmic"]
    solved = signal_found(phases).sel(algorithm="AMP")
    for low, high, said in ((0, 0.5, "75 of 75"), (0.5, 0.75, "46 of 48"), (0.75, 1, "25 of 48")):
        here = (share >= low) & (share < high) & solved.notnull()
        assert said == f"{int((solved & here).sum())} of {int((here & (solved | ~solved)).sum())}"
        assert f"{said} " in text
    large = found["large"].sel(noise_variance=0.22)["tensor_error"] < 0.9
    assert large.sum("seed").values.tolist() == [1, 5]
    compared = found["against_als"]["tensor_error"]
    amp, als = (compared.sel(algorithm=f"{name} from the truth") for name in ("AMP", "ALS"))
    assert bool((amp < als).all())
    kept = (1 - amp / als).where((amp < 0.9) & (als < 0.9)).median("seed").values[:5]
    assert [round(100 * float(one)) for one in kept] == [14, 25, 31, 36, 44]
    null = found["against_als"]["null_size"].median("seed")
    assert null.sel(algorithm="AMP").max().item() == pytest.approx(0.016, abs=6e-4)
    assert found["schedules"]["converged"].sum(("noise_variance", "seed")).values.tolist() == [
        8,
        0,
        9,
    ]
    sweeps = found["schedules"]["num_sweeps"].median("seed").isel(schedule=[0, 2]).values.T
    assert sweeps.tolist() == [[11, 15, 19], [39, 58, 104]]
