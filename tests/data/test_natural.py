import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest
import torch

from neurofb.data import NaturalPatches
from neurofb.data.photographs import PHOTOGRAPHS, dealt_tiles, photograph, random_cuts, tiles

SMALL = NaturalPatches(num_train=300, num_validation=30, num_test=30, normalise="none")
TWO = dataclasses.replace(SMALL, num_train=20, photographs=("camera", "brick"))


def slope(patches: np.ndarray) -> float:
    """Return the slope of log power against log frequency, 2 to 9 cycles a patch."""
    size = patches.shape[-1]
    window = np.hanning(size)
    centred = (patches - patches.mean((1, 2), keepdims=True)) * window * window[:, None]
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0)
    cycles = np.fft.fftfreq(size) * size
    ring = np.hypot(cycles, cycles[:, None]).round()
    frequency = np.arange(2, 10)
    mean = [power[ring == one].mean() for one in frequency]
    return np.polyfit(np.log(frequency), np.log(mean), 1)[0]


def test_power_falls_as_in_natural_scenes() -> None:
    splits = SMALL.load()
    assert -3.5 < slope(splits.train.images[:, 0].numpy()) < -2
    white = np.random.default_rng(0).standard_normal((300, 24, 24))
    assert abs(slope(white)) < 0.2


def test_all_photographs_are_dealt_evenly() -> None:
    splits = SMALL.load()
    assert splits.classes == PHOTOGRAPHS
    assert torch.bincount(splits.train.labels).tolist() == [20] * 15
    assert torch.bincount(splits.test.labels).tolist() == [2] * 15
    assert splits.train.images.min() >= 0
    assert splits.train.images.max() <= 1
    assert splits.train.images.std((1, 2, 3), correction=0).min() > 4 / 255 - 1e-5


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_splits_share_no_pixel(name: str) -> None:
    covered = np.zeros(photograph(name).shape, int)
    for split in range(3):
        pixels = np.zeros(photograph(name).shape, bool)
        corners = dataclasses.replace(SMALL, stride=16, min_contrast=0.0)._places(name, split)
        assert len(corners) > 0
        for y, x in corners:
            pixels[y : y + 24, x : x + 24] = True
        covered += pixels
    assert covered.max() == 1


def test_tiles_cover_a_photograph_once() -> None:
    covered = np.zeros((300, 451), int)
    dealt = tiles(300, 451, np.random.default_rng(0))
    for top, bottom, left, right in (box for boxes in dealt for box in boxes):
        assert min(bottom - top, right - left) >= 128
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()
    assert all(dealt)


def test_patches_are_where_they_say() -> None:
    splits = TWO.load()
    camera = photograph("camera")
    windows = np.lib.stride_tricks.sliding_window_view(camera, (24, 24))
    patch = splits.test.images[splits.test.labels == 0][0, 0].numpy()
    (matches,) = np.nonzero((windows == patch).all((2, 3)).ravel())
    places = [divmod(int(match), windows.shape[1]) for match in matches]
    boxes = dealt_tiles("camera", seed=1)[2]
    assert any(
        top <= y and y + 24 <= bottom and left <= x and x + 24 <= right
        for y, x in places
        for top, bottom, left, right in boxes
    )


def test_same_seed_same_bytes_and_train_independent_of_test() -> None:
    first = TWO.load()
    assert first.checksum == TWO.load().checksum
    assert first.checksum != dataclasses.replace(TWO, seed=2).load().checksum
    other = dataclasses.replace(TWO, num_test=3, num_validation=0).load()
    assert torch.equal(first.train.images, other.train.images)


def test_random_cuts_stay_in_their_split() -> None:
    cuts = random_cuts(np.random.default_rng(0), 40, split=1, size=24, seed=1)
    found = 0
    for cut in cuts:
        for name in PHOTOGRAPHS:
            for top, bottom, left, right in dealt_tiles(name, 1)[1]:
                tile = photograph(name)[top:bottom, left:right]
                y, x = np.nonzero(tile[:-23, :-23] == cut[0, 0])
                found += any(
                    (tile[i : i + 24, j : j + 24] == cut).all() for i, j in zip(y, x, strict=True)
                )
    assert found >= 40


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without_sklearn(name: str, package: str | None = None) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_sklearn)
    photograph.cache_clear()
    with pytest.raises(ValueError, match=r"photograph 'china' needs scikit-learn.*pip install"):
        SMALL.load()
    photograph.cache_clear()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_train": 0}, "num_train=0"),
        ({"patch_size": 200}, "patch_size=200 must be from 4 to 128"),
        ({"stride": 0}, "stride=0"),
        ({"min_contrast": 0.9}, "min_contrast=0.9"),
        ({"photographs": ("lena",)}, "'lena', which is not one of astronaut"),
        ({"photographs": ()}, "must be distinct, at least one"),
        ({"photographs": ("camera", "camera")}, "must be distinct"),
        ({"normalise": "x"}, "normalise='x'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NaturalPatches(**setting)


def test_too_many_patches() -> None:
    with pytest.raises(ValueError, match="num_test=99999 is too many: 'camera' has"):
        dataclasses.replace(TWO, num_test=99_999).load()
    with pytest.raises(ValueError, match="photograph 'lena' is not one of"):
        photograph("lena")
