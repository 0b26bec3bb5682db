import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofb.data import FashionMNIST, Idx
from neurofb.data.idx import FASHION_CLASSES, _debian_folder
from neurofb.data.splits import Arrays, from_arrays

Put = Callable[[dict[str, bytes]], Path]
Make = dict[str, Callable]


@pytest.mark.parametrize("zipped", [False, True])
def test_reads_what_was_written(put: Put, make: Make, zipped: bool) -> None:
    folder = put(make["idx"](zipped))
    splits = Idx(folder=str(folder), num_validation=4, normalise="none").load()
    assert (splits.train.num_images, splits.validation.num_images) == (16, 4)
    assert splits.image_shape == (1, 6, 6)
    assert splits.classes == ("0", "1", "2")
    rng = np.random.default_rng(0)
    written = rng.integers(0, 256, (20, 6, 6))
    test = rng.integers(0, 256, (5, 6, 6))
    assert torch.equal((splits.test.images[:, 0] * 255).round(), torch.from_numpy(test).float())
    assert splits.test.labels.tolist() == [0, 1, 2, 0, 1]
    both = torch.cat([splits.train.images, splits.validation.images])[:, 0]
    labels = torch.cat([splits.train.labels, splits.validation.labels])
    seen = {
        tuple(image.flatten().tolist()): int(label)
        for image, label in zip(both, labels, strict=True)
    }
    for i, image in enumerate(written):
        key = tuple((torch.from_numpy(image).float() / 255).flatten().tolist())
        assert seen[key] == i % 3


def test_other_names_are_found(put: Put, make: Make) -> None:
    files = {
        name.replace("-idx", ".idx").replace("t10k", "test"): content
        for name, content in make["idx"]().items()
    }
    assert Idx(folder=put(files)).load().test.num_images == 5


def test_subsets_are_seeded_and_disjoint(put: Put, make: Make) -> None:
    folder = put(make["idx"]())
    whole = Idx(folder=folder, normalise="none").load()
    assert (whole.train.num_images, whole.validation.num_images) == (18, 2)
    part = Idx(folder=folder, normalise="none", num_train=5, num_validation=2).load()
    assert torch.equal(part.train.images, whole.train.images[:5])
    assert torch.equal(part.validation.images, whole.validation.images)
    other = Idx(folder=folder, normalise="none", seed=2).load()
    assert other.checksum != whole.checksum
    assert torch.equal(other.test.images, whole.test.images)


def test_only_the_first_classes(put: Put, make: Make) -> None:
    folder = put(make["idx"]())
    whole = Idx(folder=folder, normalise="none", num_validation=0).load()
    two = Idx(folder=folder, normalise="none", num_classes=2, num_train=9, num_validation=3).load()
    assert two.classes == ("0", "1")
    assert (two.train.num_images, two.validation.num_images) == (9, 3)  # of the 14 of 20 that count
    assert two.test.labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(two.test.images, whole.test.images[[0, 1, 3, 4]])
    for part in (two.train, two.validation):
        for image, label in zip(part.images, part.labels, strict=True):
            same = (whole.train.images == image).all((1, 2, 3))
            assert whole.train.labels[same].tolist() == [label]
            assert label < 2
    assert FashionMNIST(folder=folder, num_classes=2).load().classes == FASHION_CLASSES[:2]


def test_more_classes_than_there_are(put: Put, make: Make) -> None:
    with pytest.raises(ValueError, match=r"num_classes=4 is too many: .* has 3 classes"):
        Idx(folder=put(make["idx"]()), num_classes=4).load()
    with pytest.raises(ValueError, match=r"num_classes=11 is too many: .* has 10 classes"):
        FashionMNIST(folder=put(make["idx"]()), num_classes=11).load()


def test_image_size_pads_and_crops_about_the_centre(put: Put, make: Make) -> None:
    folder = put(make["idx"]())
    same, large, small = (
        Idx(folder=folder, normalise="none", image_size=size).load().test.images
        for size in (6, 9, 4)
    )
    assert torch.equal(small, same[..., 1:5, 1:5])
    assert large.shape == (5, 1, 9, 9)
    assert torch.equal(large[..., 1:7, 1:7], same)
    assert large.sum() == pytest.approx(float(same.sum()), rel=1e-5)


def broken(name: str, make: Make) -> tuple[dict[str, bytes], str]:
    """Return idx files with one fault, and what the message must say."""
    files = make["idx"]()
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    if name == "missing":
        del files[labels]
        return files, "has no file train-labels-idx1-ubyte"
    if name == "truncated":
        files[images] = files[images][:-3]
        return files, r"717 bytes of data, but its header says 20 × 6 × 6: truncated"
    if name == "header":
        files[images] = b"P6 an image"
        return files, "train-images-idx3-ubyte' is no idx file"
    if name == "empty":
        files[images] = b""
        return files, "train-images-idx3-ubyte' is no idx file"
    if name == "dtype":
        files[images] = files[images][:2] + b"\x0d" + files[images][3:]
        return files, r"has dtype code 0x0d, allowed is 0x08 \(unsigned byte\)"
    if name == "dimensions":
        files[images] = files[labels]
        return files, "train-images-idx3-ubyte' has 1 dimensions, not 3"
    if name == "length":
        files[labels] = make["idx_bytes"](np.zeros(19))
        return files, "has 20 images, but .* 19 labels"
    if name == "gzip":
        files[images + ".gz"] = gzip.compress(files.pop(images))[:-9]
        return files, "train-images-idx3-ubyte.gz' is damaged or cannot be read"
    if name == "not gzip":
        files[images + ".gz"] = files.pop(images)
        return files, "train-images-idx3-ubyte.gz' is damaged or cannot be read"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "truncated",
        "header",
        "empty",
        "dtype",
        "dimensions",
        "length",
        "gzip",
        "not gzip",
    ],
)
def test_faults_are_named(put: Put, make: Make, name: str) -> None:
    files, message = broken(name, make)
    with pytest.raises(ValueError, match=message):
        Idx(folder=put(files)).load()


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        Idx(folder=tmp_path / "nowhere").load()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file' is not a folder"):
        Idx(folder=tmp_path / "file").load()


def test_a_compression_bomb_stops_at_the_limit(
    put: Put, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurofb.data.idx.MAX_BYTES", 10_000)
    files = make["idx"]()
    files["train-images-idx3-ubyte.gz"] = zlib.compress(bytes(10**6), wbits=31)
    del files["train-images-idx3-ubyte"]
    with pytest.raises(ValueError, match=r"ubyte.gz' unpacks to more than 10000 bytes"):
        Idx(folder=put(files)).load()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_train": 0}, "num_train=0 must be at least 1"),
        ({"num_validation": -1}, "num_validation=-1 must be at least 0"),
        ({"seed": -1}, "seed=-1"),
        ({"num_classes": 1}, "num_classes=1 must be None or at least 2"),
        ({"image_size": 2}, "image_size=2 must be None or from 4 to 1024"),
        ({"normalise": "x"}, "normalise='x'"),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    for source in (FashionMNIST, lambda **kw: Idx(folder="a", **kw)):
        with pytest.raises(ValueError, match=message):
            source(**setting)


def test_too_many_images_wanted(put: Put, make: Make) -> None:
    folder = put(make["idx"]())
    with pytest.raises(ValueError, match=r"num_train=19 is too many: .* 20 .* 2 are taken"):
        Idx(folder=folder, num_train=19).load()
    with pytest.raises(ValueError, match="which leaves none to train on"):
        Idx(folder=folder, num_validation=20).load()


def test_fashion_needs_its_classes(put: Put, make: Make) -> None:
    folder = put(make["idx"]())
    assert FashionMNIST(folder=folder).load().classes == FASHION_CLASSES
    (folder / "t10k-labels-idx1-ubyte").write_bytes(make["idx_bytes"](np.array([0, 1, 2, 3, 10])))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte' has label 10, .* 0 to 9"):
        FashionMNIST(folder=folder).load()


def test_fashion_looks_in_the_shared_folders(
    put: Put, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path}/a:{tmp_path}/b")
    with pytest.raises(ValueError, match=r"install Debian's package dataset-fashion-mnist, or"):
        FashionMNIST().load()
    put({f"b/datasets/fashion-mnist/{name}": data for name, data in make["idx"]().items()})
    assert FashionMNIST().load().test.num_images == 5


def test_the_real_fashion_mnist() -> None:
    try:
        _debian_folder()
    except ValueError:
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    splits = FashionMNIST(num_train=100, num_validation=10, image_size=24).load()
    assert splits.image_shape == (1, 24, 24)
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10


def test_a_source_with_its_own_validation_takes_no_number(make: Make) -> None:
    ten = Arrays(np.zeros((10, 1, 4, 4), np.uint8), np.zeros(10, np.uint8))
    with pytest.raises(ValueError, match="num_validation=3 must be None: 'toy' has validation"):
        from_arrays(
            name="toy",
            where=Path("toy"),
            classes=["a"],
            train=ten,
            validation=ten,
            num_train=None,
            num_validation=3,
            seed=1,
            normalisation="none",
        )
