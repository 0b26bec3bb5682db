"""The notebook runs from top to bottom, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
#: name -> number of pictures, and what is printed
EXPECTED = {
    "activity_tensor.ipynb": (
        2,
        ("trials, units, times, gratings: (4,", "factors: ['unit_factor'", "ALS, SVD start"),
    ),
    "balanced_coding.ipynb": (
        5,
        ("oscillates from B = 16.35 on", "least variance at B = 7.13", "lowest error at σ"),
    ),
    "curl_of_rules.ipynb": (1, ("players curl index 1.0", "B = W: cosine 1.000")),
    "error_rank.ipynb": (
        3,
        ("4, 2, 1, 1           numerical 4.00, entropy 3.36", "FA, Muon, none"),
    ),
    "linear_modes.ipynb": (
        3,
        ("largest difference to the formula 0.00", "differ by at most 0.01", "FA r=2     2.0"),
    ),
    "curl_descent.ipynb": (
        3,
        ("critical hidden fraction  [1.    1.    0.559", "update / gradient: [[ 0.1 -0.1 -0.1]]"),
    ),
    "receptive_fields.ipynb": (3, ("low_rank r=2", "<xarray.Dataset>")),
    "scan.ipynb": (3, ("26 done, 0 failed", "seed 0 were left alone: True", "rounder than exact")),
    "feedback_rules.ipynb": (2, ("low_rank r=10", "dLDFA r=10   test accuracy")),
    "tensor_phases.ipynb": (
        4,
        (
            "error of the tensor 0.223, state evolution 0.190",
            "algorithmic=0.1533",
            "1.00         0.2           0.123",
            "noise 0.3 means [[0.6",
        ),
    ),
    "ssa.ipynb": (1, ("SSA-DFA   22200 parameters", "nothing    test accuracy")),
}


def test_there_are_notebooks():
    assert {path.name for path in NOTEBOOKS} == set(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_thin_and_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "In this notebook you will" in notebook.cells[0].source
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 20
    assert all(" def " not in f" {cell.source}" for cell in code), "code belongs into neurofb/"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_runs_and_draws(path, monkeypatch, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("NEUROFB_SMALL", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.get("text", "") for output in outputs)
    num_pictures, texts = EXPECTED[path.name]
    assert len(pictures) == num_pictures
    assert [text for text in texts if text not in printed] == []
