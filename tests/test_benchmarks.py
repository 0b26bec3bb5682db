"""Every benchmark runs at tiny size and records what it says; no time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {"commit", "cpu", "cores", "threads", "torch", "date", "load_average"}


def run(name: str, out: Path, *arguments: str) -> dict:
    command = [sys.executable, ROOT / "benchmarks" / name, "--tiny", "--out", out, *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["machine"].keys() >= MACHINE
    return result


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_scan_overhead(tmp_path):
    result = run("scan_overhead.py", tmp_path / "scan_overhead.json")
    assert result["serial"]["seconds_per_cell"] > 0
    assert result["many"]["cells"] == 16
    assert result["many"]["seconds"].keys() > {"open", "open_dask", "status", "resume"}


def test_effective_rank_time(tmp_path):
    result = run("effective_rank_time.py", tmp_path / "effective_rank_time.json")
    assert [row["dtype"] for row in result["results"]] == ["float32", "float64"]
    for row in result["results"]:
        assert row["same_rank"]
        assert row["times_faster"]["torch svdvals"] > 0


def test_linear_network_time_and_the_figure_of_scaling(tmp_path):
    out = tmp_path / "linear_network_time.json"
    result = run("linear_network_time.py", out)
    found = result["comparison"]
    assert found["same"]
    assert found["networks"] == len(found["case"]["ranks"]) * found["case"]["seeds"]
    assert found["times_faster"] > 0
    for series in result["scaling"].values():
        values = [row["value"] for row in series["rows"]]
        assert values == sorted(set(values))
        assert all(row["ours"] > 0 and row["loop"] > 0 for row in series["rows"])
    figure = tmp_path / "scaling.png"
    command = [sys.executable, ROOT / "benchmarks/plot_scaling.py", out, "--out", figure]
    subprocess.run(command, check=True, capture_output=True)
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "other"), [("curl_descent_time", "loop"), ("lyapunov_time", "jvp")]
)
def test_curl_descent_and_lyapunov_time(name, other, tmp_path):
    result = run(f"{name}.py", tmp_path / f"{name}.json")
    for one in result["comparisons"]:
        assert one["same"]
        assert one["times_faster"] > 0
        assert one["seconds_per_step"].keys() == {"ours", other}
    for series in result["scaling"].values():
        values = [row["value"] for row in series["rows"]]
        assert values == sorted(set(values))
        assert all(row["ours"] > 0 and row[other] > 0 for row in series["rows"])


def test_muon_time(tmp_path):
    result = run("muon_time.py", tmp_path / "muon_time.json")
    assert result["results"].keys() == {"all", "AVX512_CORE"}
    for parts in result["results"].values():
        for part in parts.values():
            times = part["against_torch"]["times"]
            assert times.keys() == {"torch", "ours", "ours, bfloat16", "ours, medium"}
            assert all(row["largest_difference_to_ours"] < 0.1 for row in times.values())
            shares = part["training_step"]["share_of_training_step"]
            assert all(0 < share < 1 for share in shares.values())


def test_stacked_seeds(tmp_path):
    result = run("stacked_seeds.py", tmp_path / "stacked_seeds.json")
    for case in result["cases"]:
        assert case["speedup"] > 0
        assert case["timed"].keys() == {"stack", "loop"}


def test_step_time(tmp_path):
    result = run("step_time.py", tmp_path / "step_time.json", "--no-memory")
    assert {row["network"] for row in result["timings"]} == {"mlp", "vgg", "vit", "retina"}
    assert result["peer"] == "not installed"
    for timing in result["timings"]:
        counts = result["flops"][timing["network"]]
        assert timing["variants"].keys() == counts.keys() > {"DFA", "dLDFA Oja", "LDFA normative"}
        assert timing["learning"].keys() > {"LDFA Oja", "LDFA normative"}
        assert timing["learning"]["LDFA fixed"]["ratio"] == 1
        for name, row in timing["variants"].items():
            assert row.keys() >= {"ratio", "ratio_quartiles", "cpu_ratio", "seconds", "repeats"}
            assert len(row["rounds"]) == row["repeats"] == 2
            assert counts[name].keys() >= {"needed", "counted", "needed_ratio", "counted_ratio"}
    for counts in result["flops"].values():
        backpropagation = counts["BP"]
        for name in ("exact", "FA"):
            assert counts[name]["counted"] == backpropagation["counted"]
        fixed = counts["LDFA fixed"]
        for parts in ("needed_parts", "counted_parts"):
            assert fixed[parts]["error"] < backpropagation[parts]["error"]
            assert fixed[parts]["pathway_learning"] == 0
    # Without attention what the equations need is what torch runs.
    for network in ("mlp", "vgg", "retina"):
        for name in ("BP", "FA", "LDFA fixed", "LDFA factored KP", "DFA"):
            row = result["flops"][network][name]
            assert row["needed"] == pytest.approx(row["counted"], rel=2e-3)


def test_gpu_on_the_cpu(tmp_path):
    result = run("gpu.py", tmp_path / "gpu.json", "--device", "cpu")
    assert result["ran_on_gpu"] is False
    assert {row["dtype"] for row in result["timings"]} == {"float32", "bf16"}
    networks = {"mlp", "vgg", "vit", "retina", "retina_full_head"}
    assert {row["network"] for row in result["parity"]} == networks
    for row in result["parity"]:
        assert len(row["losses"]["device"]) == 5
        assert row["largest_loss_difference"] < 1e-4
        assert row["largest_gradient_difference"] < 1e-3
        matrices = [
            n for n in row["gradient_relative_difference"] if n.endswith(("way.Q", "way.P"))
        ]
        learns = row["variant"] not in ("BP", "exact", "FA", "LDFA fixed", "DFA")
        assert bool(matrices) == learns
    assert [row["simulation"] for row in result["dynamics"]] == [
        "linear networks",
        "curl descent, linear",
        "curl descent, tanh",
    ]
    for row in result["dynamics"]:
        assert row["seconds_per_step"].keys() == {"cpu", "cpu, float32"}
        assert 0 < max(row["largest_difference"].values()) < 1e-3


LAYERS = """
from torch import nn

class Linear(nn.Linear):
    def forward(self, x):
        assert x.dim() == 2
        return super().forward(x)

class Conv2d(nn.Conv2d):
    pass
"""


def test_peer_takes_the_place_of_our_layers(benchmarks, tmp_path, capsys):
    import peer
    from cases import make_trainee, vit

    assert peer.load(None) is None
    assert peer.load(tmp_path / "nowhere") is None
    assert capsys.readouterr().out.count("BioTorch is left out") == 2
    layers = ModuleType("layers")
    exec(LAYERS, vars(layers))
    case = vit(dim=16, depth=1, heads=2, batch=2, image_size=8)
    ours = make_trainee(case, "FA")
    theirs = make_trainee(case, "BP", change=peer.replace_layers(layers, ours.network))
    kinds = [type(m).__name__ for m in theirs.network.modules() if type(m) in vars(layers).values()]
    assert kinds == ["Linear"] * 5
    assert theirs.loss().item() == pytest.approx(ours.loss().item(), rel=1e-5)
    theirs.step()


def test_peak_memory_counts_the_step(benchmarks):
    from cases import make_trainee, mlp
    from memory import peak_memory

    peak = peak_memory(make_trainee(mlp(width=64, batch=8, rank=4), "LDFA Oja"))
    weights = 4 * 64 * 64 * 4
    assert 2 * weights < peak["allocated"]


def test_interleave_gives_ratios_within_rounds(benchmarks):
    from machine import interleave, summarise

    calls = []
    names = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    rows = interleave(names, 3, warmup=1)
    assert sorted(calls) == ["a"] * 4 + ["b"] * 4
    assert rows["a"]["ratio"] == 1
    assert rows["b"]["repeats"] == 3
    rows = summarise({"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]})
    assert rows["b"]["ratio"] == 1.0
    assert rows["b"]["ratio_quartiles"] == [0.75, 1.5]
    with pytest.raises(ValueError, match="repeats=0 must be at least 1"):
        interleave(names, 0)
