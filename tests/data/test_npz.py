import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofb.data import ImageSplits, Npz

Put = Callable[[dict[str, bytes]], Path]
Make = dict[str, Callable]


@pytest.fixture
def read(put: Put, make: Make) -> Callable[..., ImageSplits]:
    """Return a function that writes arrays and reads them back."""

    def write_and_read(arrays: dict[str, np.ndarray], **settings: object) -> ImageSplits:
        path = put({"mine.npz": make["npz"](**arrays)}) / "mine.npz"
        return Npz(path=str(path), **{"normalise": "none", **settings}).load()  # pyright: ignore

    return write_and_read


def test_bytes_are_scaled_and_floats_are_not(read: Callable, make: Make) -> None:
    arrays = make["npz_arrays"]()
    splits = read(arrays, num_test=0, num_validation=0)
    assert splits.train.num_images == 12
    assert splits.train.images.max() <= 1
    for dtype in ("float16", "float32", "float64"):
        floats = read(make["npz_arrays"](dtype), num_test=0, num_validation=0)
        torch.testing.assert_close(floats.train.images, splits.train.images * 255)
    order = np.random.default_rng(np.random.SeedSequence(1)).permutation(12)
    assert splits.train.labels.tolist() == arrays["y"][order].tolist()


def test_drawn_splits_are_disjoint(read: Callable) -> None:
    x = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((40, 3, 3), np.float32)
    splits = read({"x": x, "y": np.zeros(40, int)}, num_train=20)
    sets = [
        one.images[:, 0, 0, 0].tolist() for one in (splits.train, splits.validation, splits.test)
    ]
    assert [len(one) for one in sets] == [20, 4, 4]
    assert len({value for one in sets for value in one}) == 28


@pytest.mark.parametrize("codes", [("train", "validation", "test"), (0, 1, 2)])
def test_own_splits_and_classes(read: Callable, make: Make, codes: tuple) -> None:
    split = np.array(codes)[[0] * 6 + [1] * 4 + [2] * 2]
    arrays = make["npz_arrays"]() | {"split": split, "classes": np.array(list("abcd"))}
    splits = read(arrays)
    assert splits.classes == ("a", "b", "c", "d")
    assert splits.test.labels.tolist() == arrays["y"][10:].tolist()
    assert splits.validation.num_images == 4
    with pytest.raises(ValueError, match=r"num_test=1 must be None: .* has test images"):
        read(arrays, num_test=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, r"has no array 'x', only \['y'\]"),
        ({"y": None}, "has no array 'y'"),
        ({"x": np.zeros((12, 5, 5), int)}, "x of type int64, allowed are uint8 and float"),
        ({"x": np.zeros((12, 5, 5), complex)}, "'x' that is neither of numbers nor of strings"),
        ({"x": np.zeros((12, 5))}, r"x of shape \(12, 5\), not \(image, y, x\)"),
        ({"x": np.zeros((12, 32, 32, 3), np.uint8)}, r"channels last; move them: x.transpose"),
        ({"x": np.full((12, 5, 5), np.nan)}, "values in x that are not finite"),
        ({"x": np.full((12, 5, 5), 1e300)}, "values in x that are not finite"),
        ({"x": np.zeros((0, 5, 5)), "y": np.zeros(0, int)}, "leaves none to train on"),
        ({"y": np.zeros(12)}, "y of type float64 and shape"),
        ({"y": np.zeros((12, 1), int)}, r"shape \(12, 1\), not integers"),
        ({"y": np.full(12, -1)}, "labels from -1 to -1 in y"),
        ({"y": np.full(12, 10**9)}, "labels from 1000000000 to 1000000000 in y"),
        ({"y": np.zeros(11, int)}, "12 images in x, but 11 labels in y"),
        ({"classes": np.array(["a"])}, "label 3 in y, allowed are 0 to 0"),
        ({"classes": np.zeros(4)}, "classes of type float64"),
        ({"split": np.zeros(3, int)}, r"split of type int64 and shape \(3,\)"),
        ({"split": np.full(12, 7)}, "values in split other than 0, 1, 2"),
        ({"split": np.full(12, "all")}, "values in split other than train, validation, test"),
        ({"split": np.full(12, "test")}, "no train images in split"),
        ({"x": np.array([None, {}])}, "holds Python objects in 'x', which would run code"),
    ],
)
def test_faults_are_named(read: Callable, make: Make, change: dict, message: str) -> None:
    arrays = make["npz_arrays"]() | change
    arrays = {name: values for name, values in arrays.items() if values is not None}
    with pytest.raises(ValueError, match=message) as error:
        read(arrays)
    assert "mine.npz" in str(error.value)


def test_files_that_are_none(put: Put, make: Make, tmp_path: Path) -> None:
    for content, message in (
        (b"", "is damaged or no .npz file"),
        (b"PK\x03\x04", "is damaged or no .npz file"),
        (make["npz"](**make["npz_arrays"]())[:-30], "is damaged or no .npz file"),
    ):
        with pytest.raises(ValueError, match=message):
            Npz(path=put({"mine.npz": content}) / "mine.npz").load()
    with pytest.raises(ValueError, match="does not exist"):
        Npz(path=tmp_path / "nowhere.npz").load()
    with pytest.raises(ValueError, match="is not a file"):
        Npz(path=tmp_path).load()


def test_a_header_that_lies_about_its_size(tmp_path: Path, make: Make) -> None:
    """A small member that claims 10^12 values must not reserve memory for them."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"123"
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(ValueError, match="the size of 'x' does not fit its shape"):
        Npz(path=tmp_path / "mine.npz").load()


def test_a_bomb_is_refused_before_it_is_unpacked(
    put: Put, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurofb.data.array_file.MAX_BYTES", 100_000)
    content = make["npz"](True, x=np.zeros((1000, 16, 16), np.uint8), y=np.zeros(1000, int))
    assert len(content) < 10_000
    with pytest.raises(ValueError, match=r"unpacks to 26.* bytes, more than 100000"):
        Npz(path=put({"mine.npz": content}) / "mine.npz").load()


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"hello, this is a text")
    (tmp_path / "mine.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="has a member 'x' that is no array"):
        Npz(path=tmp_path / "mine.npz").load()


def test_fortran_order_and_big_endian(read: Callable, make: Make) -> None:
    arrays = make["npz_arrays"]("float32")
    other = {"x": np.asfortranarray(arrays["x"].astype(">f4")), "y": arrays["y"].astype(">i2")}
    assert read(arrays).checksum == read(other).checksum
