from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from aerogel.errors import CheckpointError, OutputError, UsageError
from aerogel.train.state import State

FINGERPRINT = {"lr": 3e-5, "block": [4, 1], "model": None}


def saved(path: Path) -> State:
    state = State(7, {"w": torch.arange(900.0)}, {"state": {}}, 120)
    state.save(path, FINGERPRINT)
    return state


def test_round_trip(tmp_path: Path) -> None:
    before = saved(tmp_path / "state.pt")
    after = State.load(tmp_path / "state.pt", FINGERPRINT)
    assert (after.step, after.log_bytes) == (7, 120)
    assert torch.equal(after.model["w"], before.model["w"])


def test_state_of_other_run_is_rejected_with_difference(tmp_path: Path) -> None:
    saved(tmp_path / "state.pt")
    with pytest.raises(UsageError, match=r"state of a run with lr 3e-05, not 0.0001; .*use restart"):
        State.load(tmp_path / "state.pt", FINGERPRINT | {"lr": 1e-4})


class Attack:
    """Runs a command when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other", "pickle"])
def test_damaged_and_malicious_files_are_rejected(tmp_path: Path, damage: str) -> None:
    path, marker = tmp_path / "state.pt", tmp_path / "ran"
    saved(path)
    whole = path.read_bytes()
    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"no state",
        "other": b"",
        "pickle": b"",
    }
    path.write_bytes(content[damage])
    if damage == "other":
        torch.save({"a": 1}, path)
    if damage == "pickle":
        path.write_bytes(pickle.dumps(Attack(marker), protocol=2))
    with pytest.raises(CheckpointError, match=r"state.pt .*use restart"):
        State.load(path, FINGERPRINT)
    assert not marker.exists()


def test_flipped_bits_never_change_the_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    before = saved(path)
    whole = path.read_bytes()
    rejected = 0
    for index in range(0, len(whole), 11):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 4]) + whole[index + 1 :])
        try:
            after = State.load(path, FINGERPRINT)
        except CheckpointError:
            rejected += 1
            continue
        # Bits in the padding and the time stamps of the archive have no effect.
        assert (after.step, after.log_bytes) == (7, 120)
        assert torch.equal(after.model["w"], before.model["w"])
    assert rejected > len(whole) // 11 // 2


def test_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "state.pt")

    def fail(*_: object) -> None:
        raise RuntimeError(
            "[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file\nmore"
        )

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match=r"cannot write .*state.pt \(.*failed writing file\)"):
        saved(tmp_path / "state.pt")
    monkeypatch.undo()
    assert State.load(tmp_path / "state.pt", FINGERPRINT).step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
