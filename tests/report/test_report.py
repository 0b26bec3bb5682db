import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from neurofb import labels
from neurofb.config import from_json
from neurofb.gather import side_by_side
from neurofb.plot import example_study
from neurofb.report import report, write_report

ROOT = Path(__file__).parents[2]
#: the beginning of what the fixture puts into texts, see conftest.EVIL
SCRIPT = "<script>document"


def images(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def texts(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))


def check_alone(page: str) -> None:
    """Nothing is fetched: no source but inline images, links within and to references only."""
    assert all(
        src.startswith("data:image/png;base64,") for src in re.findall(r'src="([^"]*)"', page)
    )
    links = re.findall(r'href="([^"]*)"', page)
    allowed = ("#", "https://arxiv.org/abs/", "https://doi.org/")
    assert all(link.startswith(allowed) for link in links)
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    style = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]


def test_a_scan_has_all_parts_in_the_order_of_a_reader(scan: xr.Dataset) -> None:
    page = report(scan)
    check_alone(page)
    parts = ["Figures", "Cells", "Failures", "Configuration", "Provenance", "What the file holds"]
    assert re.findall(r"<h2>(.*?)</h2>", page) == parts
    assert "<h1>RF symmetry over bottleneck and rank</h1>" in page
    assert len(images(page)) == 4  # status, two measures, the loss
    said = texts(page)
    assert "59 cells" in said
    for words in ("54 done", "3 failed", "2 pending"):
        assert words in said
    assert "varies: 4, 8, 16" in said
    assert "models/retina_vvs.py::ldfa" in said
    assert scan.attrs["git_commit"] in page
    assert 'href="https://arxiv.org/abs/1901.00945"' in page
    assert 'href="https://doi.org/10.1038/nature14539"' in page


def test_figures_say_in_words_what_they_show(scan: xr.Dataset) -> None:
    page = report(scan)
    alt = re.findall(r'<img [^>]*alt="([^"]+)"', page)
    assert len(alt) == len(re.findall("<figcaption>", page)) == 4
    assert "54 of 59 cells are done" in page
    assert "Grey: the untrained network." in page


def test_what_comes_from_data_is_text(scan: xr.Dataset) -> None:
    scan = scan.rename(rotational_symmetry="<b>symmetry").assign_attrs(title=SCRIPT)
    scan["<b>symmetry"].attrs["long_name"] = "<i>long</i>"
    scan = scan.assign_coords(rule=["<u>rule</u>"])
    scan["rule"].attrs = {"setting": "<s>setting</s>", "long_name": '" onload="x'}
    page = report(scan)
    for code in (SCRIPT, "<b>sym", "<i>long", "<u>rule", "<s>set", "<img src=x", '"" onload'):
        assert code not in page
    assert "&lt;script&gt;document" in page
    assert "&lt;u&gt;rule" in page
    check_alone(page)


def test_numbers_of_the_table_are_those_of_the_scan(scan: xr.Dataset) -> None:
    page = report(scan)
    rows = re.findall(r"<tr>(.*?)</tr>", page[page.index('id="cells"') :], flags=re.DOTALL)[:60]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert [re.sub("<.*?>", "", name) for name in cells[0]] == [
        "bottleneck", "rank", "rule", "seed", "status", "seconds", "rotational_symmetry",
        "test_accuracy",
    ]  # fmt: skip
    at = {"bottleneck": 8, "rank": 2, "rule": "low_rank", "seed": 3}
    (row,) = [row for row in cells[1:] if row[:4] == ["8", "2", "low_rank", "3"]]
    assert "done" in row[4]
    assert float(row[6]) == pytest.approx(float(scan["rotational_symmetry"].sel(at)), rel=1e-3)
    failed = [row for row in cells[1:] if "failed" in row[4]]
    assert "ArithmeticError: loss is nan at step 40" in failed[0][6]


def test_failures_that_are_alike_stand_together(scan: xr.Dataset) -> None:
    page = report(scan)
    part = page[page.index('id="failures"') : page.index('id="configuration"')]
    assert part.count("<h3>") == part.count("<details>") == 2
    assert "2 cells" in part
    assert "bottleneck 4, rank 32, rule low_rank, seed 1" in part
    assert "neurofb/training/loop.py" in part


def test_many_cells_are_capped_failed_ones_first(make_scan) -> None:
    scan = make_scan(bottlenecks=6, ranks=5, rules=3, seeds=8, curves=False)
    page = report(scan)
    assert "The first 500 of 719 cells, failed ones first" in page
    body = page[page.index('<table id="cells"') :].partition("</table>")[0]
    found = re.findall(r'class="badge (\w+)"', body)
    assert len(found) == 500
    assert found[:6] == ["failed"] * 3 + ["pending"] * 2 + ["done"]


def test_a_scan_of_layers_has_a_figure_a_layer(scan: xr.Dataset) -> None:
    names = ["rotational_symmetry", "rotational_symmetry_untrained"]
    layered = scan[names].expand_dims(layer=["retina_1", "retina_2"], axis=-1)
    page = report(scan.drop_vars(names).merge(layered).assign_attrs(scan.attrs))
    assert len(images(page)) == 5
    assert "Rotational symmetry, retina_2" in page
    assert "rotational_symmetry, retina_1" in page  # a column of the table


def test_a_scan_that_has_only_begun(scan: xr.Dataset) -> None:
    empty = scan.copy(deep=True)
    empty["status"][:] = 0
    for name in ("rotational_symmetry", "rotational_symmetry_untrained", "test_accuracy", "loss"):
        empty[name][:] = np.nan
    empty["cell_seconds"][:] = np.nan
    page = report(empty)
    assert len(images(page)) == 1
    assert "rotational_symmetry has no value" in page
    assert "60 pending" in page
    assert "No cell failed." in page


@pytest.mark.slow
def test_a_real_scan(tmp_path: Path) -> None:
    from neurofb.scan import Scan, run_scan

    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "import xarray as xr\n"
        "def toy(rank: int = 1, seed: int = 0) -> xr.Dataset:\n"
        "    if rank == 4 and seed == 1:\n"
        "        raise ValueError('no <b>such</b> rank')\n"
        "    about = {'units': '1', 'long_name': 'symmetry'}\n"
        "    return xr.Dataset({'symmetry': ((), 1.0 / rank + seed / 10, about)})\n"
    )
    store = tmp_path / "toy.zarr"
    axes = {"rank": [1, 2, 4], "seed": range(3)}
    with pytest.warns(UserWarning, match="1 of 9 cells failed"):
        run_scan(Scan(name="toy", recipe=f"{recipe}::toy", axes=axes), store)
    page = write_report(store, tmp_path / "toy.html").read_text(encoding="utf-8")
    check_alone(page)
    assert len(images(page)) == 2
    assert "8 done" in page
    assert "ValueError: no &lt;b&gt;such&lt;/b&gt; rank" in page


def test_a_run(tiny_run: Path, tmp_path: Path) -> None:
    page = write_report(tiny_run, tmp_path / "new" / "run.html").read_text(encoding="utf-8")
    check_alone(page)
    assert "<h1>tiny, seed 0</h1>" in page
    assert len(images(page)) == 5  # learning; fields and measures of two layers
    assert "Not drawn" not in page
    assert re.findall(r"<dt>num_steps</dt><dd>(.*?)</dd>", page) == ["20"]
    assert "/receptive_field/retina_2/untrained" in page


def test_a_study_with_fields(tiny_run: Path) -> None:
    run = labels.load(tiny_run / "result.zarr")
    config = from_json(run.attrs["neurofb_config"])
    conditions = {"first": config, "<second>": config}
    runs = {(name, seed): run for name in conditions for seed in (0, 1)}
    study = side_by_side("pair", conditions, runs)
    del study["retina_1"]  # drawing takes its time
    page = report(study)
    check_alone(page)
    assert "<strong>4 runs</strong>: 2 conditions × 2 seeds." in page
    assert "<second>" not in page
    assert "figure5 of layer retina_2" in page
    assert "Not drawn" not in page


@pytest.mark.parametrize("name", ["widths", "alignment"])
def test_studies_of_the_repository(name: str, tmp_path: Path) -> None:
    page = write_report(ROOT / "results" / f"{name}.nc", tmp_path / "a.html").read_text("utf-8")
    check_alone(page)
    assert len(images(page)) >= 3
    assert "Not drawn" not in page
    assert "What differs between the conditions" in page


def test_a_run_whose_configuration_is_unknown_still_has_a_page(tiny_run: Path) -> None:
    run = labels.load(tiny_run / "result.zarr")
    run.attrs["neurofb_config"] = '{"name": "old", "gone": 1}'
    page = report(run)
    assert "Not drawn: the run&#x27;s configuration cannot be read" in page
    assert "test_accuracy" in page


def test_a_synthetic_study_and_any_result() -> None:
    study = report(example_study())
    assert len(images(study)) >= 2
    other = report(xr.Dataset({"loss": ("step", [1.0])}), title="<other>")
    assert "<h1>&lt;other&gt;</h1>" in other
    check_alone(other)


def test_the_same_result_gives_the_same_page(scan: xr.Dataset) -> None:
    assert report(scan) == report(scan)


def test_written_whole_or_not_at_all(scan_store: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "page" / "report.html"
    out.parent.mkdir()
    out.write_text("old")

    def full(self: Path, *args: object, **kwargs: object) -> None:
        with self.open("w") as file:
            file.write("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        write_report(scan_store, out)
    monkeypatch.undo()
    assert out.read_text() == "old"
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_what_is_no_result_is_refused(tmp_path: Path, scan_store: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(ValueError, match="does not exist"):
        write_report(tmp_path / "nothing.zarr", out)
    with pytest.raises(ValueError, match=r"holds none of study\.zarr, result\.zarr"):
        write_report(tmp_path, out)
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(ValueError, match=r"must end in \.zarr or \.nc"):
        write_report(tmp_path / "text.txt", out)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="is not a readable result"):
        write_report(tmp_path / "empty.zarr", out)
    broken = tmp_path / "broken.zarr"
    shutil.copytree(scan_store, broken)
    (broken / "status" / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="is not a readable scan"):
        write_report(broken, out)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"must be a file that ends in \.html"):
        write_report(scan_store, tmp_path / "report.pdf")
