import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofb.training.checkpoint import load_checkpoint, save_checkpoint, sweep

STATE = {"step": 3, "weights": {"a": torch.arange(200.0)}, "losses": [0.1, 0.2], "name": "toy"}


def read(folder: Path) -> dict:
    state = load_checkpoint(folder)
    assert state is not None
    return state


def test_what_is_saved_is_loaded(tmp_path: Path):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(STATE, tmp_path)
    state = read(tmp_path)
    assert torch.equal(state["weights"]["a"], torch.arange(200.0))
    assert (state["step"], state["losses"], state["name"]) == (3, [0.1, 0.2], "toy")
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.parametrize("function", ["torch.save", "os.fsync", "os.replace"])
def test_a_failure_while_saving_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
):
    save_checkpoint(STATE, tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint({**STATE, "step": 4}, tmp_path)
    assert read(tmp_path)["step"] == 3
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path):
    save_checkpoint(STATE, tmp_path)
    (tmp_path / "checkpoint.pt.0a1b2c3d.partial").write_bytes(b"half")
    (tmp_path / "notes.partial").write_text("mine")
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "notes.partial"]


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["empty", "text", "malicious", "object", "foreign"])
def test_foreign_files_are_named_and_run_nothing(tmp_path: Path, content: str):
    path, witness = tmp_path / "checkpoint.pt", tmp_path / "witness"
    if content == "empty":
        path.touch()
    elif content == "text":
        path.write_text("not a checkpoint")
    elif content == "malicious":
        torch.save(Malicious(witness), path)
    elif content == "object":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        torch.save({"state_dict": {}}, path)
    expected = "is no checkpoint of this version" if content == "foreign" else "is damaged or no"
    with pytest.raises(ValueError, match=rf"checkpoint\.pt {expected}"):
        load_checkpoint(tmp_path)
    assert not witness.exists()


def whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_checkpoint(STATE, Path(folder)).read_bytes()


WHOLE = whole()


@settings(max_examples=150)
@given(
    cut=st.integers(0, len(WHOLE)),
    flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=3),
)
def test_damage_is_refused_or_harmless(cut: int, flips: list[tuple[int, int]]):
    content = bytearray(WHOLE)
    for place, value in flips:
        content[place] ^= value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint.pt").write_bytes(content[:cut] if not flips else content)
        problem, state = "", STATE
        try:
            state = read(Path(folder))
        except ValueError as error:
            problem = str(error)
    assert not problem or "checkpoint.pt is damaged or no checkpoint" in problem
    assert torch.equal(state["weights"]["a"], torch.arange(200.0))
    assert state["step"] == 3
