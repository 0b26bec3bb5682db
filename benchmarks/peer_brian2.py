"""Brian2 beside neurofb: a balanced network in a process of its own, timed on request.

Brian2 is not needed by neurofb and not installed with it. Make an environment for it (Brian2 2.9
does not import with numpy 2.4, and needs a C++ compiler), and give its interpreter as `--brian2`:

    python -m venv FOLDER && FOLDER/bin/pip install brian2 "numpy<2.3" setuptools
"""

import json
import subprocess
from pathlib import Path
from typing import Any

WAYS = ("C++", "matmul")
_WORKER = Path(__file__).with_name("brian2_worker.py")


class Brian2:
    """A network built in Brian2; `run` does all its steps.

    Parameters
    ----------
    python
        Interpreter of an environment with Brian2.
    way
        "C++" (standalone, synapses) or "matmul" (numpy's matrix products as network operations).
    case
        num_units, num_trials, num_steps, time_step, balance, disorder, noise, drive, seed; and the
        .npy files of `readout` (num_units,) and, with disorder, `weights` (num_units, num_units).

    Raises
    ------
    RuntimeError
        If the process ends before it answers.
    """

    def __init__(self, python: Path, way: str, case: dict[str, Any]) -> None:
        words = [str(python), str(_WORKER), json.dumps({"way": way, **case})]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions = self._answer()

    def run(self) -> dict[str, Any]:
        """Do all steps; return seconds, and every trial's mean and std of the estimate."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"Brian2 ended with status {self._process.returncode}")
        return json.loads(line)


def available(python: Path | None) -> bool:
    """Tell whether an interpreter has Brian2; a line says so if it has not."""
    if python is None:
        print("peer: no --brian2 PYTHON given, Brian2 is left out")
        return False
    try:
        found = subprocess.run([str(python), "-c", "import brian2"], capture_output=True, text=True)
    except OSError as error:
        print(f"peer: {error}; Brian2 is left out")
        return False
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["no word"])[-1]
        print(f"peer: {last}; Brian2 is left out")
    return found.returncode == 0
