"""Images in folders, one folder a class."""

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from neurofb.choices import check_choice
from neurofb.data.bounded import MAX_BYTES, check_folder
from neurofb.data.images import ImageSplits
from neurofb.data.normalise import Normalisation
from neurofb.data.splits import Arrays, check_sizes, from_arrays

#: File endings that are read; all else in a class folder is left alone.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")

#: Largest side of an image (pixels): a file that claims more is refused before it is unpacked.
MAX_SIDE = 4096

_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
#: What Pillow's decoders raise on damaged files.
_PILLOW_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """8-bit images ``root/class/name.png``, or ``root/train/class/…`` and ``root/test/class/…``.

    Classes and files are taken in sorted order. All images must have the same size. Transparency
    is ignored.

    Parameters
    ----------
    source
        Tag of this source.
    folder
        The root. If it has a folder ``train``, splits are read from ``train``, ``validation`` (or
        ``val``) and ``test``; what is missing is drawn from the train images.
    grey
        Take the plain mean of the three colours (one channel), else three channels.
    num_train
        Number of train images, a seeded subset; None takes all.
    num_validation, num_test
        Number of images drawn for a split that has no folder; None takes a tenth.
    seed
        Seed of the draws.
    normalise
        See `normalise`.

    Examples
    --------
    >>> ImageFolder(folder="missing").load()
    Traceback (most recent call last):
    ValueError: 'missing' does not exist
    """

    source: Literal["folder"] = "folder"
    folder: Path | str
    grey: bool = True
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    seed: int = 1
    normalise: Normalisation = "image"

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        check_sizes(
            self.seed,
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
        )
        check_choice("normalise", self.normalise, Normalisation)

    def load(self, cache: Path | None = None) -> ImageSplits:
        """Read the files; `cache` is not used, so that a changed file is never masked.

        Raises
        ------
        ValueError
            If a folder is missing or empty, an image is damaged or of another size than the
            first, or a class of another split is not one of the train classes.
        """
        del cache
        root = Path(self.folder)
        check_folder(root)
        folders = {"train": root}
        if (root / "train").is_dir():
            folders = {
                split: root / name
                for split, names in _SPLIT_FOLDERS.items()
                for name in names
                if (root / name).is_dir()
            }
        classes = sorted(entry.name for entry in folders["train"].iterdir() if entry.is_dir())
        if not classes:
            raise ValueError(f"{str(folders['train'])!r} has no class folders")
        files = {split: _list_files(folder, classes) for split, folder in folders.items()}
        found = _read_all(files, self.grey)
        return from_arrays(
            name=root.resolve().name,
            where=root,
            classes=classes,
            train=found["train"],
            validation=found.get("validation"),
            test=found.get("test"),
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
            seed=self.seed,
            normalisation=self.normalise,
            grey=self.grey,
        )


def _list_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Return the image files of a split with their labels."""
    strange = {entry.name for entry in folder.iterdir() if entry.is_dir()} - set(classes)
    if strange:
        raise ValueError(f"{str(folder)!r} has classes that train has not: {sorted(strange)}")
    files = [
        (file, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in ENDINGS and file.is_file()
    ]
    if not files:
        raise ValueError(f"{str(folder)!r} has no images (file endings {', '.join(ENDINGS)})")
    return files


def _read_all(files: dict[str, list[tuple[Path, int]]], grey: bool) -> dict[str, Arrays]:
    """Read the images of all splits, all of the first one's size."""
    first = files["train"][0][0]
    shape = _read_image(first, None).shape
    num_files = sum(map(len, files.values()))
    if num_files * int(np.prod(shape)) > MAX_BYTES:
        raise ValueError(f"{num_files} images of shape {shape} take more than {MAX_BYTES} bytes")
    return {
        split: Arrays(
            np.stack([_read_image(file, (first, shape)) for file, _ in pairs]),
            np.array([label for _, label in pairs]),
        )
        for split, pairs in files.items()
    }


def _read_image(
    path: Path, first: tuple[Path, tuple[int, ...]] | None
) -> UInt8[np.ndarray, "3 y x"]:
    """Read one image; its size is checked before its pixels are unpacked."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                x, y = image.size
                if max(x, y) > MAX_SIDE:
                    raise _Refused(f"is {x} × {y} pixels, more than {MAX_SIDE} a side")
                if first is not None and (3, y, x) != first[1]:
                    raise _Refused(
                        f"is {x} × {y} pixels, but the first image {str(first[0])!r} is "
                        f"{first[1][2]} × {first[1][1]}; all must have the same size"
                    )
                if image.mode not in _MODES:
                    raise _Refused(f"is of mode {image.mode!r}; only 8-bit images are read")
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except _Refused as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except (*_PILLOW_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{str(path)!r} is damaged or no image: {error}") from error


class _Refused(Exception):
    """What is wrong with the image, in our words."""
