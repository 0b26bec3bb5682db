import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofb.data import ShapesOnLeaves, default_cache

SMALL = ShapesOnLeaves(num_train=20, num_validation=3, num_test=3)


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_second_load_reads_the_same_images(tmp_path: Path) -> None:
    first = SMALL.load(tmp_path)
    before = only_file(tmp_path).stat().st_mtime_ns
    second = SMALL.load(tmp_path)
    assert only_file(tmp_path).stat().st_mtime_ns == before
    assert first.checksum == second.checksum == SMALL.load().checksum
    assert torch.equal(first.test.images, second.test.images)
    assert first.classes == second.classes


def test_the_file_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL.load(tmp_path)

    def fail(self: ShapesOnLeaves) -> None:
        raise AssertionError("built although cached")

    monkeypatch.setattr(ShapesOnLeaves, "_build", fail)
    SMALL.load(tmp_path)
    dataclasses.replace(SMALL, normalise="whiten").load(tmp_path)  # one file serves them all


def test_other_settings_take_another_file(tmp_path: Path) -> None:
    for source in (
        SMALL,
        dataclasses.replace(SMALL, seed=2),
        dataclasses.replace(SMALL, jitter=0.0),
    ):
        source.load(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_no_folder_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROFB_CACHE", str(tmp_path / "cache"))
    SMALL.load()
    assert default_cache() == tmp_path / "cache"
    assert not default_cache().exists()
    monkeypatch.delenv("NEUROFB_CACHE")
    assert default_cache() == Path.home() / ".cache" / "neurofb"


def test_one_changed_pixel_is_found_and_mended(tmp_path: Path) -> None:
    good = SMALL.load(tmp_path)
    file = only_file(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + b"\x55" + content[len(content) // 2 + 1 :])
    with pytest.warns(UserWarning, match="made the cached images anew: .* is damaged"):
        again = SMALL.load(tmp_path)
    assert again.checksum == good.checksum
    assert SMALL.load(tmp_path).checksum == good.checksum


def test_a_valid_archive_with_other_images_is_found(tmp_path: Path) -> None:
    SMALL.load(tmp_path)
    with np.load(only_file(tmp_path)) as file:
        arrays = dict(file)
    arrays["train_images"] = arrays["train_images"] + 1
    np.savez(only_file(tmp_path), **arrays)
    with pytest.warns(UserWarning, match="its checksum does not fit its images"):
        SMALL.load(tmp_path)
    np.savez(only_file(tmp_path), x=np.zeros(3))
    with pytest.warns(UserWarning, match=r"holds \['x'\], not"):
        SMALL.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not cache the images"):
        assert SMALL.load(tmp_path / "file").checksum == SMALL.load().checksum


def test_nothing_is_left_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        SMALL.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:made the cached images anew")
@settings(max_examples=8)
@given(where=st.floats(0, 0.999), value=st.integers(1, 255), cut=st.booleans())
def test_no_damage_gets_through(
    tmp_path_factory: pytest.TempPathFactory, where: float, value: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    good = SMALL.load(folder)
    file = only_file(folder)
    content = bytearray(file.read_bytes())
    position = int(where * len(content))
    if cut:
        del content[position:]
    else:
        content[position] ^= value
    file.write_bytes(content)
    assert SMALL.load(folder).checksum == good.checksum
