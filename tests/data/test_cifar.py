import io
import logging
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofb.data import Cifar, ImageSplits

Put = Callable[[dict[str, bytes]], Path]
Make = dict[str, Callable]
FOLDERS = {
    (10, "python"): "cifar-10-batches-py",
    (10, "binary"): "cifar-10-batches-bin",
    (100, "python"): "cifar-100-python",
    (100, "binary"): "cifar-100-binary",
}


def load(path: Path, **settings: object) -> ImageSplits:
    return Cifar(path=path, normalise="none", **settings).load()  # pyright: ignore


@pytest.mark.parametrize("layout", ["python", "binary"])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_was_written(
    put: Put, make: Make, classes: int, layout: str, packed: bool
) -> None:
    files, folder = make["cifar"](classes, layout), FOLDERS[classes, layout]
    if packed:
        path = put({"cifar.tar.gz": make["tar"](files, folder)}) / "cifar.tar.gz"
    else:
        path = put({f"{folder}/{name}": content for name, content in files.items()})
        assert load(path / folder, classes=classes).checksum == load(path, classes=classes).checksum
    splits = load(path, classes=classes, grey=False)
    assert (splits.train.num_images, splits.validation.num_images) == (18, 2)
    assert splits.image_shape == (3, 32, 32)
    assert splits.num_classes == classes
    # an independent reading of the test batch: seed 5 (or 1) of the maker
    data = np.random.default_rng(5 if classes == 10 else 1).integers(
        0, 256, (3, 3072), dtype=np.uint8
    )
    expected = torch.from_numpy(data).float().reshape(3, 3, 32, 32) / 255
    torch.testing.assert_close(splits.test.images, expected, rtol=0, atol=1e-7)
    assert splits.test.labels.tolist() == ([0, 1, 2] if classes == 10 else [20, 57, 94])
    grey = load(path, classes=classes).test.images
    torch.testing.assert_close(grey, expected.mean(1, keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_coarse_labels(put: Put, make: Make, layout: str) -> None:
    splits = load(put(make["cifar"](100, layout)), classes=100, labels="coarse")
    assert splits.test.labels.tolist() == [4, 11, 18]
    assert splits.num_classes == 20


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol(put: Put, make: Make, protocol: int) -> None:
    two = load(put(make["cifar"](10, "python", 2)))
    assert load(put(make["cifar"](10, "python", protocol))).checksum == two.checksum


def test_python_2_wrote_bytes(put: Put, make: Make) -> None:
    """A batch as Python 2 and an old NumPy wrote it: byte strings, `numpy.core`."""
    files = make["cifar"]()
    data = np.full((2, 3072), 200, np.uint8)
    written = (
        b"\x80\x02}(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T"
        + np.uint32(data.size).tobytes()
        + data.tobytes()
        + b"tbU\x06labels](K\x07K\x03eu."
    )
    files["test_batch"] = written
    splits = load(put(files), grey=False)
    assert splits.test.labels.tolist() == [7, 3]
    torch.testing.assert_close(splits.test.images, torch.full((2, 3, 32, 32), 200 / 255))


def test_class_names(put: Put, make: Make) -> None:
    names = [f"kind {i}" for i in range(10)]
    files = make["cifar"]() | {"batches.meta": pickle.dumps({b"label_names": names})}
    assert load(put(files)).classes == tuple(names)
    files["batches.meta"] = pickle.dumps({"label_names": names[:9]})
    with pytest.raises(ValueError, match=r"batches.meta' names 9 classes, not 10"):
        load(put(files))
    files["batches.meta"] = pickle.dumps({"label_names": 3})
    with pytest.raises(ValueError, match=r"batches.meta' has no list of class names"):
        load(put(files))
    binary = make["cifar"](100, "binary") | {
        "coarse_label_names.txt": "\n".join(map(str, range(20))).encode()
    }
    assert load(put(binary), classes=100, labels="coarse", layout="binary").classes[19] == "19"


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_is_refused(
    put: Put, make: Make, tmp_path: Path, protocol: int
) -> None:
    sign = tmp_path / "ran"
    evil = {"data": Evil(f"touch {sign}"), "labels": []}
    files = make["cifar"]() | {"data_batch_3": pickle.dumps(evil, protocol=protocol)}
    with pytest.raises(ValueError, match=r"data_batch_3' asks for 'posix.system', which is not"):
        load(put(files))
    assert not sign.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for 'builtins.eval'"),
        (b"c__builtin__\nexec\n.", "asks for '__builtin__.exec'"),
        (b"\x80\x04\x8c\x05numpy\x8c\x07fromstr\x93.", "asks for 'numpy.fromstr'"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "asks for 'numpy.ndarray.dumps'"),
        (b"(S'x'\nios\nsystem\n.", "an instruction that arrays do not need"),
        (b"cnumpy\nndarray\n(I9999999999\ntR.", "makes an array in an unusual way"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "dtype 'O8'"),
        (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "changes an object that is no array"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "encodes a text as 'rot13'"),
        (b"\x80\x02}K\x01K\x02s.", "keys are not texts"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "is truncated"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "holds no dictionary but list"),
        (b"\x80\x02K\x01.", "holds no dictionary but int"),
        (b"", "is damaged or no pickle of arrays"),
        (b"not a pickle", "instruction that arrays do not need|is damaged"),
    ],
)
def test_strange_pickles_are_refused(put: Put, make: Make, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(put(make["cifar"]() | {"test_batch": content}))
    assert "test_batch" in str(error.value)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"labels": [0]}, "has no entry 'data'"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "has no entry 'labels'"),
        ({"data": [0], "labels": [0]}, "data of type list, not an array of uint8"),
        ({"data": np.zeros((1, 3072)), "labels": [0]}, "data of type float64, not an array"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}, r"shape \(1, 3071\), not"),
        ({"data": np.zeros(3072, np.uint8), "labels": [0]}, r"shape \(3072,\), not"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 images, but 1 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "label 10, allowed are 0 to 9"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "label -1, allowed"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, "label 11805.*, allowed"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}, "not a list of integers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": 3}, "not a list of integers"),
    ],
)
def test_wrong_contents_are_named(put: Put, make: Make, batch: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(put(make["cifar"]() | {"data_batch_2": pickle.dumps(batch, protocol=2)}))
    assert "data_batch_2" in str(error.value)


def test_binary_faults_are_named(put: Put, make: Make) -> None:
    files = make["cifar"](10, "binary")
    with pytest.raises(ValueError, match=r"test_batch.bin' has 9218 bytes, no multiple of 3073"):
        load(put(files | {"test_batch.bin": files["test_batch.bin"][:-1]}))
    with pytest.raises(ValueError, match=r"test_batch.bin' has label 77, allowed are 0 to 9"):
        load(put(files | {"test_batch.bin": b"\x4d" + bytes(3072)}))


def test_missing_files_are_named(put: Put, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no CIFAR-10: neither data_batch_1 nor data_batch_1.bin"):
        load(tmp_path)
    files = make["cifar"]()
    del files["data_batch_4"], files["test_batch"]
    with pytest.raises(ValueError, match="has no file data_batch_4, test_batch"):
        load(put(files))
    with pytest.raises(ValueError, match=r"has no file data_batch_1.bin"):
        load(tmp_path, layout="binary")


def archive_with(tmp_path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../test_batch", tarfile.REGTYPE, "a name that leads outside"),
        ("/test_batch", tarfile.REGTYPE, "a name that leads outside"),
        ("cifar/test_batch", tarfile.SYMTYPE, "a link or a device"),
        ("cifar/test_batch", tarfile.LNKTYPE, "a link or a device"),
        ("cifar/pipe", tarfile.FIFOTYPE, "a link or a device"),
    ],
)
def test_archives_with_tricks_are_refused(
    tmp_path: Path, name: str, kind: bytes, message: str
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/hostname"
    with pytest.raises(ValueError, match=message):
        load(archive_with(tmp_path, member))


def test_archive_bombs_and_damage(
    put: Put, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make["tar"](make["cifar"](), "c")
    path = put({"cifar.tar.gz": packed}) / "cifar.tar.gz"
    path.write_bytes(packed[:-200])
    with pytest.raises(ValueError, match=r"cifar.tar.gz' is damaged or no tar archive"):
        load(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match=r"cifar.tar.gz' is damaged or no tar archive"):
        load(path)
    monkeypatch.setattr("neurofb.data.cifar.MAX_BYTES", 10_000)
    member = tarfile.TarInfo("anything")
    member.size = 10**6
    path = archive_with(tmp_path, member, bytes(10**6))
    with pytest.raises(ValueError, match=r"cifar.tar.gz' unpacks to more than 10000 bytes"):
        load(path)


def test_md5_is_logged_not_enforced(put: Put, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    path = put({"cifar.tar.gz": make["tar"](make["cifar"](), "c")}) / "cifar.tar.gz"
    with caplog.at_level(logging.INFO):
        load(path)
    assert "MD5 of" in caplog.text
    assert "not one that neurofb knows" in caplog.text


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"classes": 20}, "classes=20 must be 10 or 100"),
        ({"layout": "tar"}, "layout='tar' must be"),
        ({"labels": "rough"}, "labels='rough' must be"),
        ({"labels": "coarse"}, "labels='coarse' needs classes=100"),
        ({"num_train": 0}, "num_train=0"),
        ({"normalise": "x"}, "normalise='x'"),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cifar(path="a", **setting)
