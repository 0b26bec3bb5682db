"""What the page on costs says is what the benchmarks wrote."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/two_theories_costs.md").read_text(encoding="utf-8")


def result(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


def row(label):
    """Return the numbers of the table's row of this label."""
    (cells,) = re.findall(rf"^\| {re.escape(label)} \| (.*) \|$", PAGE, re.MULTILINE)
    return [float(number) for number in re.findall(r"\d+\.?\d*", cells)]


def test_balanced_networks():
    cases = result("balanced_network_time")["comparisons"]
    assert all(case["same"] for case in cases)
    for way in cases[0]["trial_steps_per_second"]:
        expected = [c[k][way] for c in cases for k in ("trial_steps_per_second", "times_faster")]
        assert row(way) == pytest.approx(expected, rel=0.02)
    assert cases[0]["times_faster"]["Brian2, C++"] > 5
    assert cases[1]["times_faster"]["Brian2, C++"] > 5 > cases[1]["times_faster"]["Brian2, matmul"]


def test_message_passing():
    met = {}
    for case in result("tensor_amp_time")["comparisons"]:
        label, faster = f"{case['rank']}, {case['dtype']}", case["times_faster"]
        times = case["milliseconds_per_sweep"].values()
        limit = case["limit_milliseconds_per_sweep"]
        assert row(label) == pytest.approx([*times, limit, *faster.values()], abs=0.051)
        met[label] = min(faster.values()) >= {1: 4, 5: 2}[case["rank"]]
    assert [label for label, is_met in met.items() if not is_met] == ["1, float32"]


def test_to_the_same_error():
    ways = ("AMP", "ALS, prior mean", "ALS, singular vectors", "ALS, random")
    for case in result("tensor_success")["summary"]:
        expected = [case["target"]]
        for way in ways:
            expected += [100 * case[way]["success_rate"]]
            seconds = case[way].get("seconds")
            expected += [] if seconds is None else [1e3 * seconds]
        assert row(str(case["noise_variance"])) == pytest.approx(expected, abs=0.51)


def test_exponents():
    balanced, tensors = (result(f"{n}_time")["scaling"] for n in ("balanced_network", "tensor_amp"))
    said = [
        series["fits"]["ours"]["exponent"] for series in (*balanced.values(), *tensors.values())
    ]
    found = re.search(
        r"N\^(\S+) without .* N\^(\S+) with .*\n.* to the (\S+) \(rank 1\) and (\S+) \(", PAGE
    )
    assert [float(number) for number in found.groups()] == pytest.approx(said, abs=0.0051)
