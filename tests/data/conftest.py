"""Tiny files of every format, as bytes, so that tests can damage them."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from PIL import Image

Files = dict[str, bytes]


def idx_bytes(array: np.ndarray) -> bytes:
    """Write an array of bytes as an idx file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def npz_bytes(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    """Write arrays as an npz file."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def tar_bytes(files: Files, folder: str) -> bytes:
    """Pack files as a .tar.gz archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def picture_bytes(pixels: np.ndarray, kind: str) -> bytes:
    """Write pixels as a PNG or JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def idx_files(zipped: bool = False, num_train: int = 20, num_test: int = 5) -> Files:
    """Return four idx files with labels 0, 1, 2."""
    rng = np.random.default_rng(0)
    files = {}
    for prefix, number in (("train", num_train), ("t10k", num_test)):
        images = rng.integers(0, 256, (number, 6, 6))
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(np.arange(number) % 3)
    if zipped:
        return {f"{name}.gz": gzip.compress(content, 1) for name, content in files.items()}
    return files


def cifar_batch(number: int, classes: int, seed: int) -> tuple[np.ndarray, dict[str, list[int]]]:
    """Return pixels and labels of one batch."""
    data = np.random.default_rng(seed).integers(0, 256, (number, 3072), dtype=np.uint8)
    if classes == 10:
        return data, {"labels": [i % 10 for i in range(number)]}
    fine = [(37 * i + 20) % 100 for i in range(number)]
    return data, {"fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}


def cifar_files(classes: int = 10, layout: str = "python", protocol: int = 2) -> Files:
    """Return the files of a tiny CIFAR."""
    if classes == 10:
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        sizes = [4] * 5 + [3]
    else:
        names, sizes = ["train", "test"], [20, 3]
    files = {}
    for seed, (name, size) in enumerate(zip(names, sizes, strict=True)):
        data, labels = cifar_batch(size, classes, seed)
        if layout == "python":
            batch = {"data": data, "filenames": ["a.png"] * size, **labels}
            files[name] = pickle.dumps(batch, protocol=protocol)
        else:
            columns = list(labels.values())[::-1]  # coarse before fine
            rows = np.column_stack([*columns, data]).astype(np.uint8)
            files[f"{name}.bin"] = rows.tobytes()
    return files


def folder_files(kind: str = "PNG") -> Files:
    """Return an image folder of two classes."""
    rng = np.random.default_rng(0)
    return {
        f"{name}/{i}.{kind.lower()}": picture_bytes(
            rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), kind
        )
        for name in ("cat", "dog")
        for i in range(6)
    }


def npz_arrays(dtype: str = "uint8") -> dict[str, np.ndarray]:
    """Return x and y of a tiny npz file."""
    x = np.random.default_rng(0).integers(0, 256, (12, 5, 5), dtype=np.uint8)
    return {"x": x.astype(dtype), "y": np.arange(12) % 4}


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the tests' type checker off, so that neurofb's own checks answer."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Files], Path]:
    """Return a function that writes files into an empty folder and returns the folder."""

    def write(files: Files) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def make() -> dict[str, Callable]:
    """Return the makers of file contents by name."""
    return {
        "idx": idx_files,
        "idx_bytes": idx_bytes,
        "cifar": cifar_files,
        "folder": folder_files,
        "npz": npz_bytes,
        "npz_arrays": npz_arrays,
        "picture": picture_bytes,
        "tar": tar_bytes,
    }
