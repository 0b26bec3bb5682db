import io
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from neurofb.training import TrainingConfig, train
from neurofb.training import progress as module
from neurofb.training.history import History
from neurofb.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def history() -> History:
    made = History(num_steps=100, steps_per_epoch=10, device=torch.device("cpu"))
    made.loss[:], made.accuracy[:] = 1.25, 0.5
    return made


def test_a_log_file_gets_plain_lines(
    tiny: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_BAR_SECONDS", 0.0)
    config = TrainingConfig(num_steps=12, batch_size=16)
    train(tiny.tiny_network(), tiny.toy(), config, seed=0, device="cpu")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert [line.split()[1] for line in lines] == ["5/12", "10/12", "12/12"]
    pattern = r"step 12/12  loss \d\.\d{3}  accuracy [01]\.\d\d  validation [01]\.\d{3}  00:\d\d"
    assert re.match(pattern, lines[-1])
    assert lines[-1].endswith("00:00 left")


def test_lines_come_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    shown = Progress(num_steps=100, first=20, shown=True)
    for step in range(21, 101):
        now[0] += 1.0
        shown.update(step, history(), milestone=False)
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == list(range(30, 101, 10))
    assert lines[0].endswith("00:10 elapsed, 01:10 left")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(module, "_BAR_SECONDS", 0.0)
    shown = Progress(num_steps=100, first=20, shown=True)
    for step in range(21, 101):
        shown.update(step, history(), milestone=False)
    shown.close()
    text = terminal.getvalue()
    assert "\r" in text
    assert "100/100" in text
    assert "loss=1.250" in text


def test_a_notebook_is_recognised(monkeypatch: pytest.MonkeyPatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert module.redraws()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not module.redraws()


def test_nothing_is_shown_when_told_so(tiny: ModuleType, capsys: pytest.CaptureFixture[str]):
    config = TrainingConfig(num_steps=2, batch_size=16)
    train(tiny.tiny_network(), tiny.toy(), config, seed=0, device="cpu", progress=False)
    assert capsys.readouterr() == ("", "")


def test_clock():
    assert [module.clock(s) for s in (0.0, 59.2, 3600.0)] == ["00:00", "01:00", "1:00:00"]
