from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurofb.data import ImageFolder

Put = Callable[[dict[str, bytes]], Path]
Make = dict[str, Callable]


def test_reads_what_was_written_in_sorted_order(put: Put, make: Make) -> None:
    folder = put(make["folder"]() | {"cat/notes.txt": b"no image"})
    splits = ImageFolder(
        folder=folder, grey=False, num_validation=0, num_test=0, normalise="none"
    ).load()
    assert splits.classes == ("cat", "dog")
    order = np.random.default_rng(np.random.SeedSequence(1)).permutation(12)
    files = sorted(folder.glob("*/*.png"))
    for number, image, label in zip(order, splits.train.images, splits.train.labels, strict=True):
        pixels = np.asarray(Image.open(files[number])).transpose(2, 0, 1)
        torch.testing.assert_close(image, torch.from_numpy(pixels / 255).float())
        assert splits.classes[label] == files[number].parent.name


def test_grey_is_the_plain_mean(put: Put, make: Make) -> None:
    folder = put(make["folder"]())
    settings = {"folder": folder, "normalise": "none"}
    colour = ImageFolder(**settings, grey=False).load()
    grey = ImageFolder(**settings).load()
    torch.testing.assert_close(
        grey.train.images, colour.train.images.mean(1, keepdim=True), atol=1e-6, rtol=0
    )


def test_folders_of_splits(put: Put, make: Make) -> None:
    files = make["folder"]("JPEG")
    folder = put(
        {f"{split}/{name}": data for split in ("train", "test") for name, data in files.items()}
    )
    splits = ImageFolder(folder=folder, num_validation=3).load()
    sizes = [one.num_images for one in (splits.train, splits.validation, splits.test)]
    assert sizes == [9, 3, 12]
    (folder / "test" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"test' has classes that train has not: \['emu'\]"):
        ImageFolder(folder=folder).load()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_eight_bit_modes_are_read(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    image = Image.fromarray(np.full((6, 6), 255, np.uint8)).convert("RGB").convert(mode)
    image.save(tmp_path / "a" / "0.tif")
    splits = ImageFolder(folder=tmp_path, normalise="none").load()
    torch.testing.assert_close(splits.train.images, torch.ones(1, 1, 6, 6))


def test_faults_are_named(put: Put, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        ImageFolder(folder=tmp_path / "nowhere").load()
    with pytest.raises(ValueError, match="has no class folders"):
        ImageFolder(folder=tmp_path).load()
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"has no images \(file endings .png"):
        ImageFolder(folder=tmp_path).load()
    files = make["folder"]()
    pixels = np.zeros((8, 9, 3), np.uint8)
    for content, message in (
        (make["picture"](pixels, "PNG"), r"3.png' is 9 × 8 pixels, but .*0.png' is 8 × 8"),
        (files["dog/3.png"][:60], r"dog/3.png' is damaged or no image"),
        (b"", r"dog/3.png' is damaged or no image"),
        (b"GIF89a", r"dog/3.png' is damaged or no image"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolder(folder=put(files | {"dog/3.png": content})).load()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "dog" / "3.png")
    with pytest.raises(ValueError, match=r"3.png' is of mode 'I;16'; only 8-bit"):
        ImageFolder(folder=tmp_path).load()


def test_a_bomb_is_refused_by_its_header(put: Put, make: Make) -> None:
    bomb = make["picture"](np.zeros((2, 5000), np.uint8), "PNG")
    with pytest.raises(ValueError, match=r"0.png' is 5000 × 2 pixels, more than 4096 a side"):
        ImageFolder(folder=put({"cat/0.png": bomb})).load()


def test_too_many_bytes(put: Put, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurofb.data.folder.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"12 images of shape .* more than 1000 bytes"):
        ImageFolder(folder=put(make["folder"]())).load()


@pytest.mark.usefixtures("unchecked")
def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="num_test=-1 must be at least 0"):
        ImageFolder(folder="a", num_test=-1)
    with pytest.raises(ValueError, match="normalise='x'"):
        ImageFolder(folder="a", normalise="x")  # pyright: ignore[reportArgumentType]
