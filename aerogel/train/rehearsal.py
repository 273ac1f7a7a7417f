"""Rehearsal: saving and evaluating, tried before the first step, so that a failure after the last loses no run."""

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
    out: Path,
    model: Any,
    tokenizer: Any,
    record: Record,
    write_model: Callable[[Path], object],
    state_bytes: int,
) -> None:
    """Write a checkpoint with all-ones masks next to `out`, load it, compare it with the model, and delete it.

    Args:
        out: path that the final checkpoint will have.
        model: the model, before a method is attached to it.
        tokenizer: the tokenizer to save.
        record: record with the settings and the data of the run.
        write_model: see `aerogel.checkpoint.save`.
        state_bytes: bytes that the run needs on the same disk in addition to the checkpoint.

    Raises:
        CheckpointError: the loaded model or tokenizer differs from the saved one.
        OutputError: the checkpoint cannot be written, or the disk has too little free space for the run.
    """
    out = out.resolve()
    folder = out.with_name(f".{out.name}.rehearsal")
    masks = {name: np.ones(linear.weight.shape, bool) for name, linear in prunable(model).items()}
    try:
        shutil.rmtree(folder, ignore_errors=True)
        checkpoint.save(folder, record, masks, write_model)
        _check_free_space(out, state_bytes)
        _check_equal(folder, model, tokenizer)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rehearse_evaluation(model: Any, task: Task, splits: Mapping[str, Features], size: int) -> None:
    """Run the model on the `size` longest features of each split, and compute the metrics of all-zero outputs.

    Raises:
        TrainingError: an output of the model is not finite.
        MissingExtraError: a package that the metrics need is not installed.
    """
    zeros = {}
    for name, features in splits.items():
        lengths = features.lengths
        longest = sorted(range(len(features)), key=lambda row: lengths[row])[-size:]
        outputs = predict(model, task, features.take(longest), size)
        zeros[name] = {
            output_name: [_zeros(values[0], length if task.per_token else None) for length in lengths]
            for output_name, values in outputs.items()
        }
    task.score(zeros, splits)


def _zeros(like: np.ndarray, tokens: int | None) -> np.ndarray:
    """Zeros of the shape of `like`, with `tokens` as the size of the first axis, if given."""
    return np.zeros(like.shape if tokens is None else (tokens, *like.shape[1:]), np.float32)


def _check_free_space(out: Path, needed: int) -> None:
    """Check that `needed` bytes are free; called while the rehearsed checkpoint is on the disk."""
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise OutputError(
            f"{out.parent}: {free:,} bytes free after the checkpoint, and the state of the run needs {needed:,}; "
            "free disk space or choose another out"
        )


def _check_equal(folder: Path, model: Any, tokenizer: Any) -> None:
    """Load the saved model and tokenizer with plain transformers, and compare them with the originals."""
    model_class = type(model)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            loaded, info = model_class.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
            loaded_tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except AerogelError:
        raise
    except Exception as error:  # transformers raises errors of many types
        raise CheckpointError(
            f"transformers cannot load the {model_class.__name__} that it saved ({type(error).__name__}: {error}); "
            "choose another model, or install another version of transformers"
        ) from error
    before, after = model.state_dict(), loaded.state_dict()
    changed = [name for name, value in before.items() if name not in after or not value.equal(after[name])]
    if different := [*sorted(info["missing_keys"]), *sorted(before.keys() ^ after.keys()), *changed]:
        raise CheckpointError(
            f"{different[0]} of {model_class.__name__} changes when it is saved and loaded; "
            "choose another model, or install another version of transformers"
        )
    if loaded_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise CheckpointError(
            f"the vocabulary of the model's {type(tokenizer).__name__} changes when it is saved and loaded; "
            "give the model its fast tokenizer (tokenizer.json)"
        )
