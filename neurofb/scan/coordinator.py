"""The coordinator: hands cells to workers, takes what they leave, and alone writes the store."""

import json
import os
import queue
import re
import shutil
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path

from neurofb.scan.cell import FAILURE, OUTCOME, compute_cell
from neurofb.scan.deaths import Deaths, is_death
from neurofb.scan.failures import last_line
from neurofb.scan.handover import load_outcome
from neurofb.scan.journal import Journal
from neurofb.scan.space import when_there_is_room
from neurofb.scan.stack import compute_stack
from neurofb.scan.starts import RUN, STARTS
from neurofb.scan.store import DONE, Store
from neurofb.workers import Bar

#: So many cells that fail alike before any succeeds stop a scan.
ALIKE = 3
#: So long a worker's answer is looked for after it has said that it is there: file systems over a
#: network remember for a while that a file was not there.
PATIENCE_S = 65.0
#: Folders on their way out; no cell's name is without "=".
_TRASH = "trash-"


class ScanStoppedError(ValueError):
    """A scan was stopped before all cells were done; what is finished is in the store."""


class Coordinator:
    """Completes cells of a store.

    Parameters
    ----------
    store
        The store, opened by its one writer.
    folder
        Where each cell has a folder while it is computed.
    jobs
        Name → what `neurofb.scan.cell.compute_cell` is to do, for every cell that may run.
    options
        JSON for `compute_cell`.
    bar, journal
        Where progress and events are shown and kept.
    keep
        Whether the folders of finished cells stay.
    fail_fast
        Whether the first failure stops the scan.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        jobs: Callable[[str], str],
        options: str,
        bar: Bar,
        journal: Journal,
        *,
        keep: bool = False,
        fail_fast: bool = False,
    ) -> None:
        self.store, self.folder, self.jobs, self.options = store, folder, jobs, options
        self.bar, self.journal, self.keep, self.fail_fast = bar, journal, keep, fail_fast
        self.deaths = Deaths(folder)
        self.done, self.some_done = 0, DONE in store.states().values()
        self.failures: dict[str, str] = {}
        self.stillborn = 0

    def collect(self, names: Sequence[str]) -> list[str]:
        """Take what an earlier sitting's workers have left; return the cells that are to run."""
        self._sweep()
        left = []
        for name in names:
            if not self._take(name):
                left.append(name)
        return left

    def complete(
        self,
        batches: Sequence[tuple[str, ...]],
        why: Mapping[str, str],
        executor: Executor,
        at_a_time: int | None,
    ) -> None:
        """Compute cells, and write each as it ends.

        Parameters
        ----------
        batches
            Cells, those together that are computed as a stack (`neurofb.scan.stack`).
        why
            Cell → why it runs.
        executor
            Any executor; its workers see the same files.
        at_a_time
            How many batches are handed over before one is back; None hands over all.

        Raises
        ------
        ScanStoppedError
            If the scan stops early: `fail_fast`, all first cells fail alike, a broken executor.
        OSError
            If the store cannot be written (a full disk).
        """
        waiting, running = deque(batches), dict[Future[None], tuple[str, ...]]()
        ended: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()
        try:
            while waiting or running:
                while waiting and (at_a_time is None or len(running) < at_a_time):
                    names = waiting.popleft()
                    for name in names:
                        died = self.deaths.of(name)
                        self.journal.add("start", name, "its worker died" if died else why[name])
                    future = self._submit(executor, names)
                    running[future] = names
                    future.add_done_callback(ended.put)
                try:
                    future = ended.get(timeout=5)
                except queue.Empty:
                    self.bar.tick()
                    continue
                names, error = running.pop(future), _error(future)
                del future  # before the cell's folder goes: dask computes lost answers again
                for name in names:
                    if not self._conclude(name, error):
                        waiting.append((name,))  # if a stack broke, each goes its own way
                self._check(sum(map(len, (*waiting, *running.values()))))
        finally:
            for future in running:
                future.cancel()

    def _submit(self, executor: Executor, names: tuple[str, ...]) -> Future[None]:
        # a worker may have another working folder
        folders = [str((self.folder / name).resolve()) for name in names]
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        # no two submissions are alike, or dask would give the answer of the one before
        options = json.dumps(json.loads(self.options) | {"submission": uuid.uuid4().hex})
        try:
            jobs = [self.jobs(name) for name in names]
            if len(names) > 1:
                return executor.submit(compute_stack, folders, jobs, options)
            return executor.submit(compute_cell, folders[0], jobs[0], options)
        except (BrokenExecutor, RuntimeError) as error:
            raise ScanStoppedError(
                f"the executor takes no more cells ({type(error).__name__}: {error}); "
                f"{self.done} were done, the others are pending"
            ) from error

    def _conclude(self, name: str, error: BaseException | None) -> bool:
        """Write what became of a cell; False if it must run again."""
        if error is None:
            _await_answer(self.folder / name)
        if self._take(name):
            return True
        if isinstance(error, CancelledError):
            about = f" ({error})" if str(error) else ""
            raise ScanStoppedError(f"the executor was closed{about}; the cells it had are pending")
        if error is None or is_death(error):
            self.journal.add("died", name, str(error or "it left no answer"))
            self._check_begins(name)
            if self.deaths.again(name, error):
                return False
            text = f"WorkerDied: the workers of this cell died (out of memory?): {error}"
        else:
            text = "".join(traceback.format_exception(error))
        self._fail(name, text, float("nan"))
        return True

    def _check_begins(self, name: str) -> None:
        """Stop if workers die before they begin anything."""
        if self.done or (self.folder / name / STARTS).exists():
            return
        self.stillborn += 1
        if self.stillborn >= ALIKE:
            raise ScanStoppedError(
                "workers die before they begin their first cell; what they print says why (a "
                'script that calls run_scan needs `if __name__ == "__main__":` before the call)'
            )

    def _take(self, name: str) -> bool:
        """Write what a worker has left in a cell's folder, if it has left anything."""
        here = self.folder / name
        if (here / OUTCOME).exists():
            try:
                variables, seconds = load_outcome(here / OUTCOME)
            except ValueError as error:
                self.journal.add("damaged", name, str(error))
                (here / OUTCOME).unlink()
                return False
            try:
                when_there_is_room(lambda: self.store.write(name, variables, seconds))
            except ValueError as error:
                self._fail(name, f"ValueError: {error}", seconds)
                return True
            self._clear(here, keep=self.keep)
            self.journal.add("done", name, f"{seconds:.3g} s")
            self.done += 1
            self.bar.done(self._about(name))
            return True
        if (here / FAILURE).exists():
            first, _, text = (here / FAILURE).read_text(encoding="utf-8").partition("\n")
            self._fail(name, text, float(first))
            return True
        return False

    def _fail(self, name: str, text: str, seconds: float) -> None:
        """Call a cell failed; its checkpoints stay."""
        here = self.folder / name
        when_there_is_room(lambda: self.store.fail(name, text, seconds))
        for left in (FAILURE, STARTS):
            (here / left).unlink(missing_ok=True)
        if not (here / RUN).exists():
            self._clear(here, keep=False)
        self.failures[name] = last_line(text)
        self.journal.add("failed", name, last_line(text))
        self.bar.done(self._about(name))

    def _check(self, left: int) -> None:
        """Stop early where going on is no use."""
        if not left or not self.failures:
            return
        name, reason = next(iter(self.failures.items()))
        if self.fail_fast:
            raise ScanStoppedError(f"cell {name} failed ({reason}); {left} cells were left pending")
        alike = {re.sub(r"\d+", "", text) for text in self.failures.values()}
        if not (self.done or self.some_done) and len(self.failures) >= ALIKE and len(alike) == 1:
            raise ScanStoppedError(
                f"the first {len(self.failures)} cells all failed alike ({reason}); {left} cells "
                "were left pending"
            )

    def _about(self, name: str) -> str:
        return f"{name}  {len(self.failures)} failed" if self.failures else name

    @staticmethod
    def _clear(folder: Path, keep: bool) -> None:
        if keep:
            for name in (OUTCOME, FAILURE, STARTS):
                (folder / name).unlink(missing_ok=True)
        elif folder.is_dir():  # at once, so that neither a late worker nor a kill finds half of it
            trash = folder.with_name(f"{_TRASH}{uuid.uuid4().hex[:8]}")
            folder.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what stayed when a kill came between a cell's last line in the store and here."""
        states = self.store.states()
        for here in self.folder.iterdir():
            if here.name.startswith(_TRASH):
                shutil.rmtree(here, ignore_errors=True)
            elif states.get(here.name) == DONE and (here / OUTCOME).exists():
                self._clear(here, keep=self.keep)


def _error(future: Future[None]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _await_answer(folder: Path) -> None:
    """Wait until a finished worker's file can be seen here."""
    until = time.monotonic() + PATIENCE_S
    while not ((folder / OUTCOME).exists() or (folder / FAILURE).exists()):
        if time.monotonic() > until or not folder.exists():
            return
        os.utime(folder)  # a file system over a network then asks its server again
        time.sleep(0.2)
