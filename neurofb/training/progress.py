"""How far a training run is: a bar in a terminal or a notebook, plain lines in a log file."""

import math
import sys
import time
import warnings
from typing import Any

from neurofb.training.history import History

_BAR_SECONDS, _LINE_SECONDS = 0.25, 10.0


class Progress:
    """Show loss, accuracy and time left, rarely enough not to slow training down.

    Parameters
    ----------
    num_steps, first
        Number of updates in the run, and number of those done before (by the run resumed).
    shown
        False shows nothing.
    """

    def __init__(self, num_steps: int, first: int, shown: bool):
        self.num_steps, self.first, self.shown = num_steps, first, shown
        self.started = self.last = time.monotonic()
        self.bar = _bar(num_steps, first) if shown and redraws() else None

    def update(self, step: int, history: History, *, milestone: bool) -> None:
        """Show that `step` updates are done, if it is time; a milestone gets a line sooner."""
        now = time.monotonic()
        wait = _LINE_SECONDS if self.bar is None and not milestone else _BAR_SECONDS
        if not self.shown or (now - self.last < wait and step < self.num_steps):
            return
        self.last = now
        values = {
            "loss": f"{history.loss[step - 1].item():.3f}",
            "accuracy": f"{history.accuracy[step - 1].item():.2f}",
        }
        if history.validation:
            values["validation"] = f"{history.validation[-1][2]:.3f}"
        if self.bar is None:
            self._print_line(step, values, now - self.started)
        else:
            self.bar.set_postfix(values, refresh=False)
            self.bar.update(step - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def _print_line(self, step: int, values: dict[str, str], elapsed: float) -> None:
        left = elapsed * (self.num_steps - step) / max(step - self.first, 1)
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        print(
            f"step {step}/{self.num_steps}  {text}  {clock(elapsed)} elapsed, {clock(left)} left",
            file=sys.stderr,
            flush=True,
        )


def redraws() -> bool:
    """Tell whether what is shown can be drawn over: a terminal or a notebook, no log file."""
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """Tell whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar(num_steps: int, first: int) -> Any:
    """Make tqdm's bar for a terminal or a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook has no ipywidgets
        from tqdm.auto import tqdm
    return tqdm(total=num_steps, initial=first, unit="step", desc="training", dynamic_ncols=True)


def clock(seconds: float) -> str:
    """Write seconds as [h:]mm:ss."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"
