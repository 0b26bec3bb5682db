"""Checkpoints: written whole or not at all, loaded without running anybody's code."""

import hashlib
import io
import os
import pickle
import uuid
from pathlib import Path
from typing import Any

import torch

FILE_NAME = "checkpoint.pt"


def open_folder(folder: Path | None, resume: bool) -> dict[str, Any] | None:
    """Prepare a run's folder and return the checkpoint to go on from, if any.

    Raises
    ------
    ValueError
        If there is a checkpoint already but the run is not to go on from it.
    """
    if folder is None:
        if resume:
            raise ValueError("resume=True needs a folder")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    if not resume and (folder / FILE_NAME).exists():
        raise ValueError(
            f"folder={str(folder)!r} holds a checkpoint; resume=True goes on from it, "
            "or delete the folder to start from the beginning"
        )
    return load_checkpoint(folder) if resume else None


def save_checkpoint(state: dict[str, Any], folder: Path) -> Path:
    """Write ``checkpoint.pt``; a kill at any moment leaves the old one or the new one.

    The file is written beside its place under another name, flushed to the disk and renamed. It is
    one that `torch.load` reads, with its SHA-256 behind it: torch itself checks no checksum, and
    a damaged byte can come back as memory that was never written.

    Parameters
    ----------
    state
        Tensors, numbers, strings, lists and dicts of them.
    folder
        An existing folder.
    """
    path = folder / FILE_NAME
    partial = folder / f"{FILE_NAME}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with partial.open("wb") as file:
            content = io.BytesIO()
            torch.save({"format": _FORMAT, **state}, content)
            file.write(content.getbuffer())
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _flush_folder(folder)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, on the CPU, or None if there is no checkpoint.

    Raises
    ------
    ValueError
        If the file is damaged or is no checkpoint of neurofb; the message names it.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    whole = path.read_bytes()
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(
            f"{path} is damaged or no checkpoint of neurofb (its checksum is wrong); "
            "delete it to start from the beginning"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint of neurofb: torch cannot load it") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version of neurofb ({_FORMAT})")
    return state


def sweep(folder: Path) -> None:
    """Remove what a killed writer left behind."""
    for partial in folder.glob(f"{FILE_NAME}.*.partial"):
        partial.unlink(missing_ok=True)


_FORMAT = "neurofb checkpoint 1"
_DIGEST_BYTES = 32


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
