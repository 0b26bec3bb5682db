"""A run's folder: taken for a run, refused to another, emptied of a run's files only."""

import json
import shutil
from pathlib import Path
from typing import Any

import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, difference, from_json, to_json
from neurofb.training.checkpoint import FILE_NAME

RESULT, CONFIG = "result.zarr", "config.json"


def claim(folder: Path, config: RunConfig, resume: bool, overwrite: bool) -> xr.DataTree | None:
    """Take the folder for this run, or refuse; return the result if the run is finished.

    Settings that an older version did not have count as those of today's default.

    Raises
    ------
    ValueError
        If the folder holds a run and it is not to be resumed or overwritten, or another run.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim(Path(folder), RunConfig(name="test"), False, False)
    ...     [path.name for path in Path(folder).iterdir()]
    ['config.json']
    """
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other")
    text = to_json(config)
    if (folder / CONFIG).exists() and not overwrite:
        if not resume:
            raise ValueError(
                f"folder={str(folder)!r} holds a run already; resume it, overwrite it, or take "
                "another folder"
            )
        old = _as_of_today(_read_config(folder))
        changed = difference(old, text)
        if not changed and old != text:
            changed = ["another order of feedback_overrides"]
        if changed:
            raise ValueError(
                f"folder={str(folder)!r} holds a run with other settings: {'; '.join(changed)}"
            )
        if (folder / RESULT).exists():
            return labels.load(folder / RESULT)
        return None
    discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CONFIG}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / CONFIG)
    return None


def discard(folder: Path) -> None:
    """Remove a run's files from its folder; whatever else is there stays.

    Raises
    ------
    ValueError
        If the files are not those of a run: nothing is removed then.

    Examples
    --------
    >>> discard(Path("no/such/folder"))
    """
    found = [folder / name for name in (FILE_NAME, RESULT, CONFIG) if (folder / name).exists()]
    if not found:
        return
    if found[-1].name != CONFIG:
        raise ValueError(
            f"folder={str(folder)!r} holds {found[0].name} but no {CONFIG}, so it may be of "
            "another tool; take another folder, or delete it yourself"
        )
    _read_config(folder)
    for path in found:  # the configuration last: until then the folder still says what it holds
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_config(folder: Path) -> dict[str, Any]:
    """Return a run's configuration as it was written, by whichever version."""
    path = folder / CONFIG
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict) or not {"network", "training", "data"} <= tree.keys():
        raise ValueError(
            f"{path} is damaged, or not the configuration of a run; take another folder, or "
            "delete it yourself"
        )
    return tree


def _as_of_today(settings: dict[str, Any]) -> str:
    """Return the JSON of a stored configuration, with what it does not have yet filled in."""
    text = json.dumps(settings)
    try:
        return to_json(from_json(text))
    except ValueError:
        return text
