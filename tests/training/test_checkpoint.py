import hashlib
import io
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


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_files_that_are_none_of_ours_are_named(tmp_path: Path, content: bytes):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged or no checkpoint of neurofb"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["malicious", "object", "foreign"])
def test_foreign_content_is_named_and_not_run(tmp_path: Path, kind: str):
    witness, content = tmp_path / "witness", io.BytesIO()
    saved = {
        "malicious": Malicious(witness),
        "object": torch.nn.Linear(2, 2),
        "foreign": {"state_dict": {}},
    }
    torch.save(saved[kind], content)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged or no checkpoint of neurofb"):
        load_checkpoint(tmp_path)
    path.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
    with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint of"):
        load_checkpoint(tmp_path)
    assert not witness.exists()


def test_torch_itself_reads_a_checkpoint(tmp_path: Path):
    state = torch.load(save_checkpoint(STATE, tmp_path), weights_only=True)
    assert torch.equal(state["weights"]["a"], torch.arange(200.0))


def whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_checkpoint(STATE, Path(folder)).read_bytes()


WHOLE = whole()


@settings(max_examples=150)
@given(
    cut=st.integers(0, len(WHOLE)),
    flips=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)),
        max_size=3,
        unique_by=lambda f: f[0],
    ),
)
def test_every_damage_is_found(cut: int, flips: list[tuple[int, int]]):
    content = bytearray(WHOLE)
    for place, value in flips:
        content[place] ^= value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint.pt").write_bytes(content[:cut] if not flips else content)
        if not flips and cut == len(WHOLE):
            assert read(Path(folder))["step"] == 3
            return
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged or no checkpoint"):
            load_checkpoint(Path(folder))
