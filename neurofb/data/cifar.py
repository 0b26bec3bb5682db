"""CIFAR-10 and CIFAR-100 from the user's own copy: python or binary layout, folder or archive."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from neurofb.choices import check_choice
from neurofb.data.archive import read_members
from neurofb.data.bounded import check_file, read_file
from neurofb.data.images import ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.restricted_pickle import load_arrays
from neurofb.data.splits import Arrays, check_sizes, from_arrays

#: The most bytes that an archive or a file may unpack to (the real ones stay below 190 MB).
MAX_BYTES = 2**30

#: Published MD5 of the archives on the CIFAR page: logged for comparison, not enforced.
PUBLISHED_MD5 = {
    "c58f30108f718f92721af3b95e74349a": "CIFAR-10, python layout",
    "c32a1d4ab5d03f1284b67883e8d87530": "CIFAR-10, binary layout",
}

#: (classes, layout) -> train files, test file, file of the class names.
FILES: dict[tuple[int, str], tuple[tuple[str, ...], str, str]] = {
    (10, "python"): (tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
    (10, "binary"): (
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
    ),
    (100, "python"): (("train",), "test", "meta"),
    (100, "binary"): (("train.bin",), "test.bin", "{labels}_label_names.txt"),
}
_FOLDERS = (
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-100-python",
    "cifar-100-binary",
)
_VALUES = 3 * 32 * 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """CIFAR-10 or CIFAR-100: 50000 + 10000 colour images, 32 × 32 (Krizhevsky 2009).

    The python layout is pickled; it is read without running any code from it.

    Parameters
    ----------
    source
        Tag of this source.
    path
        The ``.tar.gz`` archive, the folder it unpacks to, or the folder that holds that one.
    classes
        10 or 100.
    layout
        ``"python"`` or ``"binary"``; ``"auto"`` takes the one that is there.
    labels
        For CIFAR-100: the 100 ``"fine"`` classes or the 20 ``"coarse"`` ones.
    grey
        Take the plain mean of the three colours (one channel), else three channels.
    num_train
        Number of train images, a seeded subset; None takes all.
    num_validation
        Number of validation images, drawn from the train images; None takes a tenth.
    seed
        Seed of both draws.
    normalise
        See `normalise`.

    Examples
    --------
    >>> Cifar(path="missing.tar.gz", classes=100).load()
    Traceback (most recent call last):
    ValueError: 'missing.tar.gz' does not exist
    """

    source: Literal["cifar"] = "cifar"
    path: Path | str
    classes: Literal[10, 100] = 10
    layout: Literal["auto", "python", "binary"] = "auto"
    labels: Literal["fine", "coarse"] = "fine"
    grey: bool = True
    num_train: int | None = None
    num_validation: int | None = None
    seed: int = 1
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if self.classes not in (10, 100):
            raise ValueError(f"classes={self.classes} must be 10 or 100")
        if self.layout not in ("auto", "python", "binary"):
            raise ValueError(f"layout={self.layout!r} must be 'auto', 'python' or 'binary'")
        if self.labels not in ("fine", "coarse"):
            raise ValueError(f"labels={self.labels!r} must be 'fine' or 'coarse'")
        if self.labels == "coarse" and self.classes == 10:
            raise ValueError("labels='coarse' needs classes=100: CIFAR-10 has no coarse labels")
        check_sizes(self.seed, num_train=self.num_train, num_validation=self.num_validation)
        check_choice("normalise", self.normalise, Normalisation)

    @property
    def num_classes(self) -> int:
        """Number of classes: 10, 100, or 20 for coarse labels."""
        return 20 if self.labels == "coarse" else self.classes

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Read the files; `cache` is not used, so that a changed file is never masked.

        Raises
        ------
        ValueError
            If a file is missing, damaged, malicious, or its numbers do not fit.
        """
        del cache
        path = Path(self.path)
        files = self._read_files(path)
        layout = self._find_layout(path, files)
        train_names, test_name, names_file = FILES[self.classes, layout]
        missing = [name for name in (*train_names, test_name) if name not in files]
        if missing:
            raise ValueError(f"{str(path)!r} has no file {', '.join(missing)}")
        read = self._read_pickled if layout == "python" else self._read_binary
        batches = [read(str(path / name), files[name]) for name in train_names]
        return from_arrays(
            name=f"CIFAR-{self.classes}" + (" coarse" if self.labels == "coarse" else ""),
            where=path,
            classes=self._class_names(path / names_file, files),
            train=Arrays(
                np.concatenate([batch.images for batch in batches]),
                np.concatenate([batch.labels for batch in batches]),
            ),
            test=read(str(path / test_name), files[test_name]),
            num_train=self.num_train,
            num_validation=self.num_validation,
            seed=self.seed,
            normalisation=self.normalise,
            grey=self.grey,
        )

    def _read_files(self, path: Path) -> dict[str, bytes]:
        """Return the content of all files of both layouts that are there."""
        wanted: set[str] = set()
        for (classes, layout), (train_names, test_name, names_file) in FILES.items():
            if classes == self.classes and self.layout in ("auto", layout):
                wanted |= {*train_names, test_name, names_file.format(labels=self.labels)}
        if not path.is_dir():
            check_file(path)
            _log_md5(path)
            return read_members(path, wanted, MAX_BYTES)
        folders = [path, *(path / name for name in _FOLDERS)]
        found: dict[str, bytes] = {}
        for file in (folder / name for folder in folders for name in sorted(wanted)):
            # ImageFolder-like layouts have folders called train and test: those are not files
            if file.is_file() and file.name not in found:
                found[file.name] = read_file(file, MAX_BYTES)
        return found

    def _find_layout(self, path: Path, files: dict[str, bytes]) -> str:
        """Return the layout that is asked for, or the one of the files."""
        for layout in ("python", "binary"):
            if self.layout == layout or FILES[self.classes, layout][0][0] in files:
                return layout
        firsts = [FILES[self.classes, layout][0][0] for layout in ("python", "binary")]
        raise ValueError(
            f"{str(path)!r} holds no CIFAR-{self.classes}: neither {firsts[0]} nor {firsts[1]}"
        )

    def _read_pickled(self, name: str, content: bytes) -> Arrays:
        """Read one batch of the python layout."""
        batch = load_arrays(content, name)
        key = "labels" if self.classes == 10 else f"{self.labels}_labels"
        for required in ("data", key):
            if required not in batch:
                raise ValueError(f"{name!r} has no entry {required!r}")
        data, labels = batch["data"], batch[key]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
            kind = data.dtype if isinstance(data, np.ndarray) else type(data).__name__
            raise ValueError(f"{name!r} has data of type {kind}, not an array of uint8")
        if data.ndim != 2 or data.shape[1] != _VALUES:
            raise ValueError(f"{name!r} has data of shape {data.shape}, not (image, {_VALUES})")
        return self._arrays(name, data, self._label_array(name, key, labels))

    def _label_array(self, name: str, key: str, labels: Any) -> np.ndarray:
        """Return labels that came as a list or an array of integers."""
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim == 1:
            return labels
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise ValueError(f"{name!r} has {key} that are not a list of integers")
        for label in labels:
            self._check_label(name, label)
        return np.array(labels, np.int64)

    def _read_binary(self, name: str, content: bytes) -> Arrays:
        """Read one batch of the binary layout: label byte(s), then 3072 values, per image."""
        num_labels = 1 if self.classes == 10 else 2
        width = num_labels + _VALUES
        if len(content) % width:
            raise ValueError(
                f"{name!r} has {len(content)} bytes, no multiple of {width}: truncated or damaged"
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        column = 1 if self.classes == 100 and self.labels == "fine" else 0
        return self._arrays(name, rows[:, num_labels:], rows[:, column])

    def _arrays(self, name: str, data: np.ndarray, labels: np.ndarray) -> Arrays:
        """Check numbers and give the pixels their shape (channel-major)."""
        if len(data) != len(labels):
            raise ValueError(f"{name!r} has {len(data)} images, but {len(labels)} labels")
        if len(labels):
            self._check_label(name, int(labels.min()))
            self._check_label(name, int(labels.max()))
        return Arrays(data.reshape(-1, 3, 32, 32), labels)

    def _check_label(self, name: str, label: int) -> None:
        """Refuse a label that is no class."""
        if not 0 <= label < self.num_classes:
            raise ValueError(f"{name!r} has label {label}, allowed are 0 to {self.num_classes - 1}")

    def _class_names(self, path: Path, files: dict[str, bytes]) -> list[str]:
        """Return the class names of the file that holds them, or numbers if it is not there."""
        name = path.name.format(labels=self.labels)
        where = str(path.with_name(name))
        if name not in files:
            return [str(label) for label in range(self.num_classes)]
        if name.endswith(".txt"):
            names = files[name].decode("latin1").split()
        else:
            meta = load_arrays(files[name], where)
            names = meta.get("label_names" if self.classes == 10 else f"{self.labels}_label_names")
            if not isinstance(names, list) or not all(
                isinstance(one, str | bytes) for one in names
            ):
                raise ValueError(f"{where!r} has no list of class names")
            names = [one if isinstance(one, str) else one.decode("latin1") for one in names]
        if len(names) != self.num_classes:
            raise ValueError(f"{where!r} names {len(names)} classes, not {self.num_classes}")
        return names


def _log_md5(path: Path) -> None:
    """Log an archive's MD5 beside the published ones."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    known = PUBLISHED_MD5.get(digest, "not one that neurofb knows")
    _log.info("MD5 of %s: %s (%s)", path, digest, known)
