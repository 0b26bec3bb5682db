"""Files out of a tar archive, read in one pass and never unpacked to disk."""

import gzip
import tarfile
from pathlib import Path, PurePosixPath

from neurofb.data.bounded import READ_ERRORS, BoundedReader, check_file


def read_members(path: Path, names: set[str], limit: int) -> dict[str, bytes]:
    """Return the content of the members whose last name is one of `names`.

    Parameters
    ----------
    path
        A ``.tar`` or ``.tar.gz`` file.
    names
        Names without folders.
    limit
        The most bytes that the whole archive may unpack to.

    Raises
    ------
    ValueError
        If the file is missing, damaged or too large, holds a link, a device, a name that leads
        outside (absolute or with ``..``), or one of the names twice.

    Examples
    --------
    >>> read_members(Path("missing.tar"), {"train"}, 10)
    Traceback (most recent call last):
    ValueError: 'missing.tar' does not exist
    """
    check_file(path)
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) if _is_gzip(path) else open(path, "rb") as file:
            bounded = BoundedReader(file, limit, str(path))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:  # pyright: ignore
                for member in archive:
                    name = _checked_name(path, member)
                    if name not in names or not member.isfile():
                        continue
                    if name in found:
                        raise ValueError(f"{str(path)!r} holds {name!r} twice")
                    content = archive.extractfile(member)
                    found[name] = content.read() if content is not None else b""
                    if len(found[name]) != member.size:
                        raise ValueError(f"{str(path)!r} is truncated in {name!r}")
            while bounded.read(2**20):  # to the end, where gzip compares its checksum
                pass
    except (*READ_ERRORS, tarfile.TarError) as error:
        raise ValueError(f"{str(path)!r} is damaged or no tar archive: {error}") from error
    return found


def _checked_name(path: Path, member: tarfile.TarInfo) -> str:
    """Return a member's last name, refusing all that is no plain file or folder inside."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise ValueError(f"{str(path)!r} holds {member.name!r}, a name that leads outside")
    if not (member.isfile() or member.isdir()):
        raise ValueError(f"{str(path)!r} holds {member.name!r}, a link or a device")
    return name.name


def _is_gzip(path: Path) -> bool:
    """Return whether a file starts as gzip files do."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"
