"""A strict reader of ``.npz`` files: no pickles, sizes checked before they are unpacked."""

import lzma
import re
import struct
import zipfile
import zlib
from math import prod
from pathlib import Path

import numpy as np

from neurofb.data.bounded import MAX_BYTES, Readable, check_file

#: What `zipfile` raises on damaged or unsupported archives.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
_NPY_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=](?:b|i|u|f|U|S)\d{1,6})', "
    r"'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,15}(?:, \d{1,15})*,?)?)\), \}\s*"
)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file (numbers, booleans and strings).

    Every member's size is checked against the shape and dtype in its own header before it is
    unpacked, and the sum against `MAX_BYTES`.

    Raises
    ------
    ValueError
        If the file is missing, damaged, too large, or holds Python objects.

    Examples
    --------
    >>> read_npz(Path("missing.npz"))
    Traceback (most recent call last):
    ValueError: 'missing.npz' does not exist
    """
    check_file(path)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > MAX_BYTES:
                raise _Refused(f"unpacks to {total} bytes, more than {MAX_BYTES}")
            for member in archive.infolist():
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = _read_npy(file, name, member.file_size)
    except _Refused as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except _ZIP_ERRORS as error:
        raise ValueError(f"{str(path)!r} is damaged or no .npz file: {error}") from error
    return arrays


class _Refused(Exception):
    """What is wrong with the file, in our words."""


def _read_npy(file: Readable, name: str, size: int) -> np.ndarray:
    """Read one array whose member has `size` bytes."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise _Refused(f"has a member {name!r} that is no array")
    width = 2 if magic[6:7] == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(size, 10_000):
        raise _Refused(f"has a damaged header in {name!r}")
    header = file.read(length).decode("latin1")
    match = _NPY_HEADER.fullmatch(header)
    if match is None:
        if "'|O'" in header:
            raise _Refused(f"holds Python objects in {name!r}, which would run code when read")
        raise _Refused(f"has an array {name!r} that is neither of numbers nor of strings")
    try:
        dtype = np.dtype(match["dtype"])
    except TypeError as error:
        raise _Refused(f"has an unknown dtype in {name!r}: {error}") from None
    shape = tuple(int(number) for number in match["shape"].split(",") if number.strip())
    expected = prod(shape) * dtype.itemsize
    if expected + 8 + width + length != size:
        raise _Refused(f"is damaged: the size of {name!r} does not fit its shape {shape}")
    values = np.frombuffer(bytearray(file.read(expected)), dtype)
    file.read(1)  # reaches the end, where the archive's checksum is compared
    order = "F" if match["fortran"] == "True" else "C"
    return values.reshape(shape, order=order)
