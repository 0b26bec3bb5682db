import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import neurofb.plot
from neurofb.plot import learning_curves, save_figure, symmetry_against_rank
from neurofb.plot.style import condition_colours, wrap_condition


def test_importing_the_room_loads_no_matplotlib() -> None:
    code = "import sys, neurofb.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_list() -> None:
    assert dir(neurofb.plot) == sorted(neurofb.plot.__all__)
    for name in neurofb.plot.__all__:
        assert callable(getattr(neurofb.plot, name))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = neurofb.plot.nonsense  # pyright: ignore


def test_drawing_leaves_no_global_state(study: xr.Dataset) -> None:
    before = dict(mpl.rcParams)
    symmetry_against_rank(study)
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_colours_are_darker_for_lower_rank_and_all_different(study: xr.Dataset) -> None:
    colours = {name: mpl.colors.to_rgb(c) for name, c in condition_colours(study).items()}
    assert len(set(colours.values())) == 6
    bright = [sum(colours[f"LDFA r={rank}"]) for rank in (4, 2, 1)]
    assert bright == sorted(bright, reverse=True)


def test_long_names_break() -> None:
    assert wrap_condition("dLDFA narrow") == "dLDFA\nnarrow"


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_file_names_its_dataset_and_is_reproducible(
    study: xr.Dataset, tmp_path: Path, suffix: str
) -> None:
    paths = [tmp_path / "new" / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        assert save_figure(learning_curves(study), path, study, dpi=50) == path
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(p.name for p in paths[0].parent.iterdir()) == [f"0{suffix}", f"1{suffix}"]
    if suffix == ".png":
        with Image.open(paths[0]) as image:
            text = dict(image.info)
        assert text["title"] == text["Title"] == study.attrs["title"]
        assert text["created"] == study.attrs["created"]
        assert text["neurofb_version"] == study.attrs["neurofb_version"]
    else:
        content = paths[0].read_bytes()
        assert b"created 2026-01-01T00:00:00Z, neurofb 0" in content
        assert b"synthetic study, not a result" in content


def test_picture_is_not_empty(study: xr.Dataset, tmp_path: Path) -> None:
    path = save_figure(learning_curves(study), tmp_path / "a.png", study, dpi=60)
    assert np.ptp(matplotlib.image.imread(path)) > 0.9


def test_save_errors(study: xr.Dataset, tmp_path: Path) -> None:
    figure = learning_curves(study)
    with pytest.raises(ValueError, match=r"must end in \.png or \.pdf"):
        save_figure(figure, tmp_path / "a.jpg", study)
    del study.attrs["created"]
    with pytest.raises(ValueError, match="no attribute 'created'"):
        save_figure(figure, tmp_path / "a.png", study)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(
    study: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, figure = tmp_path / "a.png", learning_curves(study)
    path.write_bytes(b"old")

    def fail(target: Path, **settings: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path, study)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
