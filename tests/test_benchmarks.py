"""Every benchmark runs at tiny size and records what it says; no time is asserted."""

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

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


@pytest.fixture
def run_here(benchmarks, monkeypatch, tmp_path):
    """Like `run`, in this process: importing torch anew takes longer than a tiny benchmark."""

    def run_one(name: str) -> dict:
        out = tmp_path / f"{name}.json"
        monkeypatch.setattr(sys, "argv", [name, "--tiny", "--out", str(out)])
        threads = torch.get_num_threads()
        try:
            importlib.import_module(name).main()
        finally:
            torch.set_num_threads(threads)
        return json.loads(out.read_text(encoding="utf-8"))

    return run_one


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


def check_scaling_with_exponents(result: dict, ways: set[str]) -> None:
    for series in result["scaling"].values():
        values = [row["value"] for row in series["rows"]]
        assert values == sorted(set(values))
        assert series["fits"].keys() == ways
        assert all(row[way] > 0 for row in series["rows"] for way in ways)


def test_balanced_network_time(run_here):
    result = run_here("balanced_network_time")
    assert result["peer"] == "not installed"
    assert [one["disorder"] for one in result["comparisons"]] == [0.0, 1.6]
    for one in result["comparisons"]:
        ways = {"ours, float32", "ours, float64", "numpy, all trials", "numpy, one trial"}
        assert one["times_faster"].keys() == ways
        assert all(speed > 0 for speed in one["trial_steps_per_second"].values())
        single, double = (one["estimates"][f"ours, float{bits}"] for bits in (32, 64))
        assert single["std"] == pytest.approx(double["std"], rel=1e-3)
    check_scaling_with_exponents(result, {"ours", "numpy"})


@pytest.mark.parametrize("trials", [(), (2,)])
def test_numpy_loop_of_balanced_networks_is_our_step(benchmarks, trials):
    from balanced_network_time import DRIVE, TIME_STEP, network_of, numpy_loop

    from neurofb.dynamics import simulate_balanced

    network = dataclasses.replace(network_of(30, disorder=1.6), noise=0.0)
    start = np.random.default_rng(5).standard_normal((*trials, 30))
    loop = numpy_loop(network, start, np.random.default_rng())
    expected = np.array([next(loop) for _ in range(60)]).reshape(60, -1)
    found = simulate_balanced(
        network,
        DRIVE,
        duration=60 * TIME_STEP,
        time_step=TIME_STEP,
        num_trials=max(trials, default=1),
        start=start,
        dtype="float64",
    )
    np.testing.assert_allclose(found["estimate"].values[0].T, expected, atol=1e-12)


STAND_IN = """#!{python}
import json, sys
if sys.argv[1] == "-c":
    sys.exit(sys.argv[2] != "import brian2")
case = json.loads(sys.argv[2])
print(json.dumps({{"version": "none", "numpy": "none"}}), flush=True)
for line in sys.stdin:
    moments = [0.1] * case["num_trials"]
    print(json.dumps({{"seconds": 1.0, "mean": moments, "std": moments}}), flush=True)
"""


def test_brian2_is_asked_in_a_process_of_its_own(benchmarks, tmp_path, capsys):
    import balanced_network_time as benchmark
    from peer_brian2 import Brian2, available

    assert not available(None)
    assert not available(tmp_path / "nowhere")
    assert capsys.readouterr().out.count("Brian2 is left out") == 2
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(python=sys.executable))
    python.chmod(0o755)
    assert available(python)
    one = benchmark.compare(10, 1.6, 3, 50, 2, python)
    # all trials at once by matrix products, one trial by synapses; a second each
    assert one["trial_steps_per_second"]["Brian2, matmul"] == pytest.approx(3 * 50)
    assert one["trial_steps_per_second"]["Brian2, C++"] == pytest.approx(50)
    assert one["estimates"]["Brian2, C++"]["std"] == pytest.approx(0.1)
    assert not one["same"]
    with pytest.raises(RuntimeError, match="Brian2 ended with status"):
        Brian2(Path(shutil.which("true") or "/bin/true"), "C++", {})


def test_exponents_of_power_laws(benchmarks):
    from exponents import with_exponents

    rows = [{"value": n, "ours": 3e-6 * n**1.5, "loop": 1e-5 * n} for n in (1, 10, 100, 1000)]
    rows[0]["ours"] = 1.0  # overhead
    del rows[-1]["loop"]
    fits = with_exponents({"rows": rows}, above=10)["fits"]
    assert fits["ours"]["exponent"] == pytest.approx(1.5)
    assert fits["ours"]["factor"] == pytest.approx(3e-6)
    assert fits["ours"]["values"] == [10, 1000]
    assert fits["loop"]["values"] == [10, 100]


def test_tensor_amp_time_and_the_figure_of_scaling(run_here, tmp_path):
    result = run_here("tensor_amp_time")
    cases = [(one["rank"], one["dtype"]) for one in result["comparisons"]]
    assert cases == [(rank, f"float{bits}") for rank in (1, 5) for bits in (32, 64)]
    for one in result["comparisons"]:
        assert one["passes_per_sweep"] == 1.5
        assert one["times_faster"].keys() == {"tensorly, numpy", "tensorly, torch"}
        assert one["bytes"] == 8**3 * int(one["dtype"][5:]) // 8
        limit = one["bytes"] / one["bandwidth_bytes_per_second"] * 1.5
        assert one["limit_milliseconds_per_sweep"] == pytest.approx(1e3 * limit)
    check_scaling_with_exponents(result, {"ours", "tensorly", "read once"})
    assert result["largest"]["side"] == 8
    import plot_scaling

    del result["scaling"]["side, rank 1"]["rows"][-1]["tensorly"]  # too large for it
    axes = plot_scaling.scaling_figure([result]).axes[0]
    lines = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
    ours, tensorly = (next(k for k in lines if k.startswith(way)) for way in ("ours:", "tensorly:"))
    assert (lines[ours], lines[tensorly]) == (2, 1)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    row = result["scaling"]["side, rank 1"]["rows"][0]
    assert dashed[0].get_ydata()[0] == pytest.approx(row["ours"])  # two points: a fit without error


def test_tensor_success(run_here):
    result = run_here("tensor_success")
    methods = {"AMP", "ALS, prior mean", "ALS, singular vectors", "ALS, random"}
    assert len(result["rows"]) == 4
    for row in result["rows"]:
        for method in methods:
            one = row[method]
            assert ("seconds" in one) == (one["first"] is not None)
            assert one["first"] is None or 1 <= one["first"] <= one["num_sweeps"] <= 20
    easy = result["summary"][0]
    assert easy["AMP"]["success_rate"] == 1
    assert easy["AMP"]["error"] < easy["target"]


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
        "balanced networks",
        "message passing",
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
