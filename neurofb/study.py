"""A study: the same runs over conditions and seeds, on all cores, gathered in one labelled tree."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, from_json, to_json
from neurofb.run import CONFIG, RESULT, discard, run
from neurofb.training.progress import clock, redraws

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
    Frozen({'condition': 1, 'seed': 2, 'step': 1500})
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other")
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
        _pool(min(workers or _num_cores(), max(len(waiting), 1))) as pool,
        _Bar(len(cells), len(cells) - len(waiting), progress) as bar,
    ):
        futures = {
            pool.submit(_one_run, to_json(config), str(cell), str(cache or "")): cell
            for cell, config in waiting.items()
        }
        for future in _finished(futures, bar):
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
    """Put the results of all runs of a study side by side.

    Returns
    -------
    xr.DataTree
        ``/`` loss and accuracy (condition, seed, step), test_accuracy (condition, seed), with the
        coordinates feedback_rank, bottleneck, rule; below it one child per layer with the fields
        (condition, seed, unit, y, x), the measures, and the two nulls under the same names with the
        endings ``_untrained`` and ``_noise``. Conditions with fewer units are filled with NaN and
        the status "absent".

    Examples
    --------
    >>> study = Study(name="demo", conditions={"BP": RunConfig(name="BP")}, seeds=(0, 1))
    >>> gather(study, Path("out/demo")).children  # doctest: +SKIP
    """
    runs = {
        (condition, seed): labels.load(run_folder(folder, condition, seed) / RESULT)
        for condition, seed, _ in study.runs()
    }
    layers = next(iter(study.conditions.values())).measurement.layers
    tree = {f"/{layer}": _layer(runs, layer) for layer in layers}
    root = _stack({key: _training(result) for key, result in runs.items()})
    root = root.assign_coords(_facts(study))
    seconds = [result.attrs["cpu_seconds"] for result in runs.values()]
    root.attrs = labels.provenance(
        title=study.name,
        config=json.dumps({name: json.loads(to_json(c)) for name, c in study.conditions.items()}),
        seed=study.seeds[0],
        device=next(iter(runs.values())).attrs["device"],
        data_checksum=_all_of("data_checksum", runs),
        cpu_seconds=float(np.sum(seconds)),
        references="arXiv:1901.00945 arXiv:2502.20580",
    )
    root.attrs["git_commit_of_runs"] = _all_of("git_commit", runs)
    tree["/"] = root
    return xr.DataTree.from_dict(tree)


def _all_of(name: str, runs: Mapping[tuple[str, int], xr.DataTree]) -> str:
    """Return an attribute's different values over all runs."""
    return " ".join(dict.fromkeys(str(result.attrs[name]) for result in runs.values()))


def layer_dataset(tree: xr.DataTree, layer: str) -> xr.Dataset:
    """Return one layer of a study's tree together with the training curves, as figures want it.

    Raises
    ------
    ValueError
        If the layer is not in the tree.

    Examples
    --------
    >>> tree = xr.DataTree.from_dict({"/": xr.Dataset({"loss": 1.0}), "/a": xr.Dataset({"b": 2.0})})
    >>> sorted(layer_dataset(tree, "a"))
    ['b', 'loss']
    """
    if layer not in tree.children:
        raise ValueError(f"layer={layer!r} is not in the study; it has {', '.join(tree.children)}")
    dataset = xr.merge(
        [tree.to_dataset(), tree.children[layer].to_dataset(inherit=False)],
        combine_attrs="drop_conflicts",
    )
    dataset.attrs = dict(tree.attrs)
    return dataset


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


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of fresh processes; if anything goes wrong, or on Ctrl-C, they are ended."""
    before = {process.pid for process in active_children()}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            if process.pid not in before:
                process.terminate()
        raise
    pool.shutdown()


def _num_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one_run(config: str, folder: str, cache: str) -> None:
    """Do one run in a worker."""
    run(
        from_json(config),
        Path(folder),
        resume=True,
        progress=False,
        cache=Path(cache) if cache else None,
    )


def _start_worker() -> None:
    """Use one thread, and end when the parent is gone (a killed parent cannot say so)."""
    torch.set_num_threads(1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent, which ends the workers
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _finished(futures: Mapping[Future[None], Path], bar: "_Bar") -> Iterator[Future[None]]:
    """Yield runs as they end, and let the bar tick while none does."""
    waiting = set(futures)
    while waiting:
        try:
            for future in as_completed(waiting, timeout=5):
                waiting.discard(future)
                yield future
        except TimeoutError:
            bar.tick()


class _Bar:
    """Progress over runs: a tqdm bar in a terminal or notebook, plain lines in a log file."""

    def __init__(self, total: int, done: int, show: bool) -> None:
        from tqdm.auto import tqdm

        self.start, self.total, self.count, self.first = time.monotonic(), total, done, done
        self.lines = show and not redraws()
        self.bar = tqdm(total=total, initial=done, unit="run", disable=self.lines or not show)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def tick(self) -> None:
        """Let the clock of the bar go on."""
        self.bar.refresh()

    def done(self, name: str) -> None:
        """Count one run."""
        self.count += 1
        self.bar.set_postfix_str(name, refresh=False)
        self.bar.update()
        if self.lines:
            elapsed = time.monotonic() - self.start
            left = elapsed * (self.total - self.count) / (self.count - self.first)
            print(
                f"{self.count}/{self.total} runs  {name}  {clock(elapsed)} elapsed, "
                f"{clock(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _stack(cells: Mapping[tuple[str, int], xr.Dataset]) -> xr.Dataset:
    """Concatenate runs over condition and seed; shorter dims are filled up with NaN."""
    conditions = list(dict.fromkeys(condition for condition, _ in cells))
    seeds = list(dict.fromkeys(seed for _, seed in cells))
    rows = [
        xr.concat(
            [cells[condition, seed] for seed in seeds],
            labels.coordinate("seed", seeds),
            join="outer",
            combine_attrs="drop_conflicts",
            coords="minimal",
            compat="override",
            data_vars="all",
        )
        for condition in conditions
    ]
    whole = xr.concat(
        rows,
        labels.coordinate("condition", conditions),
        join="outer",
        combine_attrs="drop_conflicts",
        coords="minimal",
        compat="override",
        data_vars="all",
    )
    return whole[list(next(iter(cells.values())).data_vars)]  # xarray loses the order


def _training(result: xr.DataTree) -> xr.Dataset:
    """Return the training curves and the test accuracy of one run."""
    training = result.children["training"].to_dataset(inherit=False)
    keep = [name for name in ("loss", "accuracy") if name in training]
    dataset = training[keep]
    dataset = dataset.drop_vars([c for c in dataset.coords if c != "step"], errors="ignore")
    return dataset.assign(test_accuracy=result["test_accuracy"])


def _layer(runs: Mapping[tuple[str, int], xr.DataTree], layer: str) -> xr.Dataset:
    """Return the fields and measures of one layer over all runs."""
    cells = {}
    for key, result in runs.items():
        node = result.children["receptive_field"].children[layer]
        parts = [node.to_dataset(inherit=False)]
        for null in ("untrained", "noise"):
            dataset = node.children[null].to_dataset(inherit=False)
            dataset.attrs = {}
            if null == "noise":
                dataset = dataset.drop_vars("receptive_field", errors="ignore")
            parts.append(dataset.rename({v: f"{v}_{null}" for v in dataset.data_vars}))
        merged = xr.merge(parts, combine_attrs="drop_conflicts", compat="override", join="outer")
        merged = merged.drop_vars([c for c in merged.coords if c not in merged.dims])
        cells[key] = _fillable(merged)
    dataset = _stack(cells)
    for name in [v for v in dataset.data_vars if dataset[v].dtype == object]:
        dataset[name] = dataset[name].fillna("absent").assign_attrs(dataset[name].attrs)
    return dataset.squeeze("channel", drop=True) if dataset.sizes["channel"] == 1 else dataset


def _fillable(dataset: xr.Dataset) -> xr.Dataset:
    """Bring flags to 0 and 1 and text to objects, so that absent units can be NaN."""
    for name, values in dataset.data_vars.items():
        kind = values.dtype.kind
        if kind in "bTU":
            wanted = np.float64 if kind == "b" else object
            dataset[name] = values.astype(wanted).assign_attrs(values.attrs)
    return dataset


def _facts(study: Study) -> dict[str, xr.Variable]:
    """Return what is known of each condition as coordinates."""
    configs = list(study.conditions.values())
    full = [float(config.network.bottleneck) for config in configs]
    ranks = [
        {"low_rank": float(getattr(config.feedback, "rank", np.nan)), "exact": width}.get(
            config.feedback.rule, np.nan
        )
        for config, width in zip(configs, full, strict=True)
    ]
    widest = max(full)
    ranks = [
        np.nan if config.network.bottleneck < widest else rank
        for config, rank in zip(configs, ranks, strict=True)
    ]
    return {
        "feedback_rank": labels.variable("condition", ranks, "1", "rank of the feedback"),
        "bottleneck": labels.variable(
            "condition",
            [config.network.bottleneck for config in configs],
            "1",
            "channels of the retinal output",
        ),
        "rule": labels.variable(
            "condition", [config.feedback.rule for config in configs], "1", "feedback rule"
        ),
    }
