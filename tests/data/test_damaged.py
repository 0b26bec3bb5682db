"""Random damage to files of every format: images come out, or an error of ours; nothing else."""

import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofb.data import Cifar, FashionMNIST, Idx, ImageFolder, ImageSplits, Npz

Make = dict[str, Callable]
SOURCES: dict[str, Callable] = {
    "idx": lambda folder: Idx(folder=folder),
    "idx gzip": lambda folder: FashionMNIST(folder=folder),
    "cifar 10 python": lambda folder: Cifar(path=folder),
    "cifar 10 protocol 5": lambda folder: Cifar(path=folder),
    "cifar 100 python": lambda folder: Cifar(path=folder, classes=100),
    "cifar 10 binary": lambda folder: Cifar(path=folder),
    "cifar archive": lambda folder: Cifar(path=folder / "c.tar.gz"),
    "cifar tar": lambda folder: Cifar(path=folder / "c.tar.gz"),
    "npz": lambda folder: Npz(path=folder / "a.npz"),
    "npz compressed": lambda folder: Npz(path=folder / "a.npz"),
    "png": lambda folder: ImageFolder(folder=folder),
    "jpeg": lambda folder: ImageFolder(folder=folder),
    "tiff": lambda folder: ImageFolder(folder=folder),
    "bmp": lambda folder: ImageFolder(folder=folder),
}


def whole(name: str, make: Make) -> dict[str, bytes]:
    """Return undamaged files of a format."""
    makers: dict[str, Callable[[], dict[str, bytes]]] = {
        "idx": make["idx"],
        "idx gzip": lambda: make["idx"](True),
        "cifar 10 python": make["cifar"],
        "cifar 10 protocol 5": lambda: make["cifar"](10, "python", 5),
        "cifar 100 python": lambda: make["cifar"](100),
        "cifar 10 binary": lambda: make["cifar"](10, "binary"),
        "cifar archive": lambda: {"c.tar.gz": make["tar"](make["cifar"](), "c")},
        "cifar tar": lambda: {
            "c.tar.gz": gzip.decompress(make["tar"](make["cifar"](100, "python", 5), "c"))
        },
        "npz": lambda: {"a.npz": make["npz"](**make["npz_arrays"]("float32"))},
        "npz compressed": lambda: {"a.npz": make["npz"](True, **make["npz_arrays"]())},
        "png": make["folder"],
        "jpeg": lambda: make["folder"]("JPEG"),
        "tiff": lambda: make["folder"]("TIFF"),
        "bmp": lambda: make["folder"]("BMP"),
    }
    return makers[name]()


damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 0.9999), st.just(0)),
    st.tuples(st.just("flip"), st.floats(0, 0.9999), st.integers(1, 255)),
    st.tuples(st.just("head"), st.integers(0, 200), st.integers(1, 255)),
    st.tuples(st.just("tail"), st.integers(1, 100), st.integers(1, 255)),
    st.tuples(st.just("insert"), st.floats(0, 0.9999), st.integers(1, 255)),
)


def apply(content: bytes, kind: str, where: float, value: int) -> bytes:
    """Damage some bytes."""
    made = bytearray(content)
    position = int(where * len(made)) if isinstance(where, float) else where
    position = len(made) - position if kind == "tail" else position
    position = min(max(position, 0), len(made) - 1)
    if kind == "cut":
        return bytes(made[:position])
    if kind == "insert":
        return bytes(made[:position]) + bytes([value]) + bytes(made[position:])
    made[position] ^= value
    return bytes(made)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=int(os.environ.get("NEUROFB_FUZZ_EXAMPLES", "25")), deadline=5000)
@given(data=st.data())
def test_damage_gives_images_or_our_error(name: str, make: Make, data: st.DataObject) -> None:
    files = whole(name, make)
    hurt = data.draw(st.sampled_from(sorted(files)))
    content = files[hurt]
    for kind, where, value in data.draw(st.lists(damage, min_size=1, max_size=4)):
        content = apply(content, kind, where, value) if content else content
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file, written in (files | {hurt: content}).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(written)
        result: object = None
        try:
            result = SOURCES[name](folder).load()
        except ValueError as error:
            result = error
        if not isinstance(result, ImageSplits):
            assert type(result) is ValueError  # not one of its kinds, such as a UnicodeError
            assert str(folder) in str(result) or "finite" in str(result)
