"""What a run does after its last step, done once before its first: a fault found there would lose the whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from aerogel import checkpoint
from aerogel.checkpoint import Record
from aerogel.data.features import Features
from aerogel.data.task import Task
from aerogel.errors import AerogelError, CheckpointError, OutputError
from aerogel.hf.encoder import prunable
from aerogel.hf.quiet import quiet
from aerogel.train.evaluate import predict

__all__ = ["rehearse_evaluation", "rehearse_saving"]


def rehearse_saving(
    out: Path, model: Any, tokenizer: Any, record: Record, write_model: Callable[[Path], object], more: int
) -> None:
    """Write a checkpoint with full masks beside `out`, load it back, compare, and delete it.

    Args:
        out: where the checkpoint will be written.
        model: before a method is attached to it.
        tokenizer: of the model, as it is saved.
        record: with the settings and the data of the run.
        write_model: see `aerogel.checkpoint.save`.
        more: bytes that the run needs on the same disk besides the checkpoint.

    Raises:
        CheckpointError: what was loaded is not what was saved.
        OutputError: the checkpoint cannot be written, or the disk has no room for all that the run will write.
    """
    out = out.resolve()
    folder = out.with_name(f".{out.name}.rehearsal")
    masks = {name: np.ones(linear.weight.shape, bool) for name, linear in prunable(model).items()}
    try:
        shutil.rmtree(folder, ignore_errors=True)
        checkpoint.save(folder, record, masks, write_model)
        _demand_room(out, more)
        _demand_equal(folder, model, tokenizer)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rehearse_evaluation(model: Any, task: Task, splits: Mapping[str, Features], size: int) -> None:
    """Evaluate the `size` longest features of each split, and compute the metrics from outputs of zeros.

    Raises:
        TrainingError: an output of the model is not finite.
        MissingExtraError: a package that the metrics need is not installed.
    """
    zeros = {}
    for name, features in splits.items():
        lengths = features.lengths
        longest = sorted(range(len(features)), key=lambda row: lengths[row])[-size:]
        found = predict(model, task, features.take(longest), size)
        zeros[name] = {
            output: [_zeros(values[0], length if task.per_token else None) for length in lengths]
            for output, values in found.items()
        }
    task.score(zeros, splits)


def _zeros(like: np.ndarray, tokens: int | None) -> np.ndarray:
    """An output of zeros, with `tokens` on its first axis if it has one for tokens."""
    return np.zeros(like.shape if tokens is None else (tokens, *like.shape[1:]), np.float32)


def _demand_room(out: Path, more: int) -> None:
    """Look at the free bytes while a checkpoint is written already."""
    free = shutil.disk_usage(out.parent).free
    if free < more:
        raise OutputError(
            f"{out.parent} has {free:,} bytes free besides the checkpoint, and the state of the run takes {more:,}; "
            "make room or choose another --out"
        )


def _demand_equal(folder: Path, model: Any, tokenizer: Any) -> None:
    """Load what was saved as plain transformers does, and compare all of it."""
    kind = type(model)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            loaded, info = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
            words = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except AerogelError:
        raise
    except Exception as error:  # transformers raises errors of many kinds
        raise CheckpointError(
            f"transformers cannot load a {kind.__name__} that it saved ({type(error).__name__}: {error}); "
            "give another --model, or install another version of transformers"
        ) from error
    before, after = model.state_dict(), loaded.state_dict()
    changed = [name for name, value in before.items() if name not in after or not value.equal(after[name])]
    if odd := [*sorted(info["missing_keys"]), *sorted(before.keys() ^ after.keys()), *changed]:
        raise CheckpointError(
            f"{odd[0]} of {kind.__name__} is not the same after it is saved and loaded; "
            "give another --model, or install another version of transformers"
        )
    if words.get_vocab() != tokenizer.get_vocab():
        raise CheckpointError(
            f"the {type(tokenizer).__name__} of --model has another vocabulary after it is saved and loaded; "
            "give the model's fast tokenizer"
        )
