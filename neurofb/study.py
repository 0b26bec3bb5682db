"""A study: the same runs over conditions and seeds, on all cores, gathered in one labelled tree."""

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xarray as xr

from neurofb import labels
from neurofb.claim import CONFIG, RESULT, discard
from neurofb.config import RunConfig, to_json
from neurofb.gather import side_by_side
from neurofb.pool import WorkerPool
from neurofb.workers import Bar, finished, num_cores, one_run

#: File name of a study's result in its folder.
RESULT_NAME = "study.zarr"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Conditions × seeds of one figure.

    Parameters
    ----------
    name
        Title of the study.
    conditions
        Label → run, in the order of the figure; the runs' own seeds are replaced.
    seeds
        The seeds, each run once in every condition.

    Raises
    ------
    ValueError
        If there is no condition or no seed, a seed stands twice, two conditions would share a
        folder, or conditions measure different layers.

    Examples
    --------
    >>> Study(name="demo", conditions={"BP": RunConfig(name="BP")}, seeds=(0, 1)).num_runs
    2
    """

    name: str
    conditions: Mapping[str, RunConfig]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.conditions or not self.seeds:
            raise ValueError("a study needs at least one condition and one seed")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} must differ from each other")
        folders: dict[str, str] = {}
        for condition in self.conditions:
            twin = folders.setdefault(run_folder(Path(), condition, 0).name, condition)
            if twin != condition:
                raise ValueError(
                    f"conditions {twin!r} and {condition!r} must differ in letters or digits, "
                    "which name their folders"
                )
        layers = {config.measurement.layers for config in self.conditions.values()}
        if len(layers) > 1:
            raise ValueError(f"all conditions must measure the same layers, not {sorted(layers)}")

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return len(self.conditions) * len(self.seeds)

    def runs(self) -> Iterator[tuple[str, int, RunConfig]]:
        """Yield condition, seed and configuration of every run, seed by seed."""
        for seed in self.seeds:
            for condition, config in self.conditions.items():
                yield condition, seed, dataclasses.replace(config, seed=seed)


def run_study(
    study: Study,
    folder: Path,
    *,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    cache: Path | None = None,
) -> xr.DataTree:
    """Run a study, each run in a process of its own with one thread.

    A run's result does not depend on the number of workers or on the order. A run that fails does
    not stop the others; the failures are named at the end, and `resume` does only what is missing.
    (A script that calls this needs ``if __name__ == "__main__":``, as with any process pool.)

    Parameters
    ----------
    study
        Conditions and seeds.
    folder
        Where the runs go (``runs/<condition>-seed<seed>``) and the result (``study.zarr``).
    workers
        Processes at a time; the number of cores by default. A run alone on several threads may
        differ in the last digits.
    resume, overwrite, progress, cache
        As for `neurofb.run.run`.

    Returns
    -------
    xr.DataTree
        See `gather`.

    Raises
    ------
    ValueError
        If the folder holds runs already (without resume or overwrite) or runs have failed.

    Examples
    --------
    >>> study = Study(name="demo", conditions={"BP": RunConfig(name="BP")}, seeds=(0, 1))
    >>> run_study(study, Path("out/demo")).sizes  # doctest: +SKIP
    Frozen({'condition': 1, 'seed': 2, 'step': 1500, 'epoch': 3})
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a study starts its own processes (workers=…); torchrun is for one run")
    folder = Path(folder)
    cells = {
        run_folder(folder, condition, seed): config for condition, seed, config in study.runs()
    }
    if (folder / "runs").exists() or (folder / RESULT_NAME).exists():
        if not resume and not overwrite:
            raise ValueError(
                f"folder={str(folder)!r} holds a study already; resume it, overwrite it, or take "
                "another folder"
            )
        if overwrite:
            _discard_study(folder)
    waiting = {cell: config for cell, config in cells.items() if not _is_done(cell, config)}
    if cache is not None:
        for data in {repr(config.data): config.data for config in waiting.values()}.values():
            data.load(cache)  # made once here, so that workers only read
    failures: dict[str, str] = {}
    with (
        WorkerPool(min(workers or num_cores(), max(len(waiting), 1))) as pool,
        Bar(len(cells), len(cells) - len(waiting), progress) as bar,
    ):
        futures: dict[Future[None], Path] = {}

        def start(cell: Path, config: RunConfig) -> Future[None]:
            future = pool.submit(one_run, to_json(config), str(cell), str(cache or ""))
            futures[future] = cell
            return future

        starts = [partial(start, cell, config) for cell, config in waiting.items()]
        for future in finished(starts, pool.at_a_time, bar):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise ValueError(
                    "a worker was killed (out of memory? fewer workers need less) or could not "
                    f"start; {bar.count} of {len(cells)} runs are finished, resume does the rest"
                ) from error
            if error is not None:
                failures[futures[future].name] = f"{type(error).__name__}: {error}"
            bar.done(futures[future].name)
    if failures:
        first = "; ".join(f"{name}: {error}" for name, error in list(failures.items())[:3])
        raise ValueError(f"{len(failures)} of {len(cells)} runs failed ({first})")
    tree = gather(study, folder)
    labels.save(tree, folder / RESULT_NAME)
    return tree


def gather(study: Study, folder: Path) -> xr.DataTree:
    """Put the results of all runs of a study side by side (see `neurofb.gather.side_by_side`).

    Examples
    --------
    >>> study = Study(name="demo", conditions={"BP": RunConfig(name="BP")}, seeds=(0,))
    >>> gather(study, Path("nowhere"))
    Traceback (most recent call last):
    ValueError: path='nowhere/runs/BP-seed0/result.zarr' does not exist
    """
    runs = {
        (condition, seed): labels.load(run_folder(folder, condition, seed) / RESULT)
        for condition, seed, _ in study.runs()
    }
    return side_by_side(study.name, study.conditions, runs)


def run_folder(folder: Path, condition: str, seed: int) -> Path:
    """Return the folder of one run of a study.

    Examples
    --------
    >>> run_folder(Path("out"), "LDFA r=4", 1).as_posix()
    'out/runs/LDFA_r_4-seed1'
    """
    return Path(folder) / "runs" / f"{re.sub(r'[^A-Za-z0-9]+', '_', condition)}-seed{seed}"


def _is_done(cell: Path, config: RunConfig) -> bool:
    """Tell whether a run is finished; what is in its way otherwise is said when it is resumed."""
    if not (cell / RESULT).exists() or not (cell / CONFIG).exists():
        return False
    return (cell / CONFIG).read_bytes() == to_json(config).encode()


def _discard_study(folder: Path) -> None:
    """Remove the runs of a study, and its result; whatever else is there stays."""
    runs = [path.parent for path in (folder / "runs").glob(f"*/{CONFIG}")]
    for cell in runs:
        discard(cell)
    for cell in runs:
        if not any(cell.iterdir()):
            cell.rmdir()
    if runs and (folder / RESULT_NAME).exists():
        shutil.rmtree(folder / RESULT_NAME)
