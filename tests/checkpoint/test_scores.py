from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aerogel import checkpoint
from aerogel.checkpoint import SCORES_FILE, scores
from aerogel.errors import CheckpointError

MATRIX = "bert.encoder.layer.0.intermediate.dense.weight"


@pytest.fixture
def made(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> checkpoint.Checkpoint:
    """A checkpoint of 4x1 blocks with scores: 1 for kept blocks, -2 for pruned ones."""
    source = checkpoint.load(tiny_checkpoint(density=0.25, block=(4, 1)))

    def write(folder: Path) -> None:
        for file in source.path.iterdir():
            if file.name not in (checkpoint.RECORD_FILE, checkpoint.MASKS_FILE):
                shutil.copy(file, folder)
        scores.save(folder, {name: np.where(mask[::4], 1.0, -2.0) for name, mask in source.masks.items()})

    return checkpoint.save(tmp_path / "checkpoint", source.record, source.masks, write)


def test_scores_round_trip(made: checkpoint.Checkpoint) -> None:
    found = scores.load(made)
    assert found is not None
    assert found.keys() == made.masks.keys()
    for name, mask in made.masks.items():
        assert found[name].dtype == np.float32
        assert (found[name] == np.where(mask[::4], 1.0, -2.0)).all()


def test_the_record_has_the_hash_of_the_scores(
    made: checkpoint.Checkpoint, tiny_checkpoint: Callable[..., Path]
) -> None:
    file = made.path / SCORES_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    with pytest.raises(
        CheckpointError, match=r"scores\.safetensors differs from its SHA-256 .* \(truncated or altered\)"
    ):
        checkpoint.load(made.path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"scores\.safetensors is missing"):
        checkpoint.load(made.path)
    assert scores.load(made) is None
    # A scores file cannot be added to a checkpoint without one.
    other = Path(shutil.copytree(tiny_checkpoint(density=0.25), made.path.parent / "other"))
    (other / SCORES_FILE).write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"scores\.safetensors is not listed in aerogel.json; delete it"
    ):
        checkpoint.load(other)


def test_scores_beyond_float16_are_clipped(made: checkpoint.Checkpoint) -> None:
    scores.save(made.path, {name: np.full(mask[::4].shape, -1e6) for name, mask in made.masks.items()})
    found = scores.load(made)
    assert found is not None
    assert set(np.unique(found[MATRIX])) == {-65504.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(MATRIX), "has only one of a mask and scores"),
        (lambda s: s.update(other=s[MATRIX]), "other has only one of a mask and scores"),
        (
            lambda s: s.update({MATRIX: s[MATRIX].astype(np.float32)}),
            r"is F32 \[16, 32\], not F16 \[16, 32\]",
        ),
        (lambda s: s.update({MATRIX: s[MATRIX][:4]}), r"is F16 \[4, 32\], not F16 \[16, 32\]"),
        (lambda s: s[MATRIX].fill(np.nan), "values that are not finite"),
    ],
)
def test_scores_that_do_not_match_the_masks_are_refused(
    made: checkpoint.Checkpoint, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    file = made.path / SCORES_FILE
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=rf"scores\.safetensors.*{message}; restore it or train again"):
        scores.load(made)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(made: checkpoint.Checkpoint, length: int) -> None:
    file = made.path / SCORES_FILE
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"cannot read .*scores\.safetensors"):
        scores.load(made)
