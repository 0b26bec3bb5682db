"""Several seeds of one cell as one stacked network: which go together, and what a worker does."""

import json
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from pathlib import Path

import filelock
import xarray as xr

from neurofb.config import from_json
from neurofb.recipes import load_recipe
from neurofb.run_stacked import can_stack, run_stacked
from neurofb.scan.cell import (
    FAILURE,
    answered,
    attempt,
    compute_cell,
    limits,
    one_at_a_time,
    write_text,
)
from neurofb.scan.run_summary import summary
from neurofb.scan.starts import note_start
from neurofb.workers import kept_images


def batches(
    names: Sequence[str], jobs: Callable[[str], str], stack: int, begun: Container[str] = ()
) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """Put cells that differ in their seed alone together.

    Parameters
    ----------
    names
        The cells that are to run.
    jobs
        Cell → its job.
    stack
        The most cells in one batch; 1 puts none together.
    begun
        Cells that go on from a checkpoint, which a stack cannot.

    Returns
    -------
    tuple
        The batches, in the order of their first cells; cell → why it and its like cannot be
        stacked.

    Examples
    --------
    >>> batches(["a", "b"], str, 1)
    ([('a',), ('b',)], {})
    """
    if stack == 1:
        return [(name,) for name in names], {}
    groups: dict[str, list[str]] = {}
    for name in names:
        job = json.loads(jobs(name))
        for tree in job.values():
            if isinstance(tree, dict):
                tree.pop("seed", None)
        key = name if name in begun else json.dumps(job)
        groups.setdefault(key, []).append(name)
    found: list[tuple[str, ...]] = []
    reasons = {}
    for group in groups.values():
        reason = _why_not(jobs(group[0])) if len(group) > 1 else ""
        if reason:
            reasons[group[0]] = reason
        size = 1 if reason else stack
        found += [tuple(group[i : i + size]) for i in range(0, len(group), size)]
    return found, reasons


def compute_stack(folders: Sequence[str], jobs: Sequence[str], options: str) -> None:
    """Compute several cells at once, and leave each one's answer in its folder.

    If the stack as a whole fails, the cells are computed one by one.

    Parameters
    ----------
    folders, jobs
        Of the cells; the jobs differ in the seed alone.
    options
        As for `neurofb.scan.cell.compute_cell`; the time limit is that of one cell, times the
        number of cells.

    Raises
    ------
    OSError
        As `compute_cell`.

    Examples
    --------
    >>> compute_stack([], [], "{}")
    """
    settings = json.loads(options)
    with one_at_a_time, ExitStack() as held:
        left = []
        for folder, job in sorted(zip(folders, jobs, strict=True)):
            here = Path(folder)
            held.enter_context(filelock.FileLock(here / "lock"))
            if not answered(here):
                note_start(here)
                left.append((here, json.loads(job)))
        if not left or _stacked(left, settings):
            return
    for folder, job in zip(folders, jobs, strict=True):
        compute_cell(folder, job, options)


def _stacked(cells: Sequence[tuple[Path, dict]], settings: dict) -> bool:
    """Compute cells as a stack; False if that was not possible."""

    def give_up(text: str) -> None:
        for folder, _ in cells:
            write_text(folder / FAILURE, f"nan\n{text}")

    configs = [from_json(json.dumps(job["config"])) for _, job in cells]
    cache, address = settings.get("cache"), cells[0][1]["analyse"]
    try:
        analyse = load_recipe(address) if address else summary
        with limits(settings, give_up, len(cells)):
            data = kept_images(configs[0], Path(cache) if cache else None)
            trees = run_stacked(configs, data=data)
    except Exception:  # whatever it was, each cell alone will say it again
        return False
    for (folder, _), tree in zip(cells, trees, strict=True):
        spent = 0.0 if isinstance(tree, Exception) else float(tree.attrs["wall_seconds"])
        attempt(folder, lambda tree=tree: analyse(_whole(tree)), settings, spent)
    return True


def _whole(tree: xr.DataTree | Exception) -> xr.DataTree:
    if isinstance(tree, Exception):
        raise tree
    return tree


def _why_not(job: str) -> str:
    config = json.loads(job).get("config")
    return can_stack(from_json(json.dumps(config))) if config else "the recipe is not a run"
