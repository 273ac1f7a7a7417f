"""Loading the model to train and its tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from aerogel.errors import UsageError
from aerogel.train.task import Task

__all__ = ["load_model", "save_model"]


def load_model(name: str | None, task: Task, max_length: int, seed: int) -> tuple[Any, Any]:
    """The model in float32 with a head for `task`, and its tokenizer.

    A head that is missing or of another size is drawn at random from `seed`.

    Args:
        name: directory or hub id; None asks the task for a fresh model.
        task: decides the head.
        max_length: tokens per row that the model must be able to take.
        seed: seeds torch before anything is drawn.

    Raises:
        UsageError: no such model, or one that does not fit `max_length` or its tokenizer.
    """
    torch.manual_seed(seed)
    if name is None:
        model, tokenizer = task.fresh_model(seed)
    else:
        model, tokenizer = _pretrained(name, _head(task))
    limit = getattr(model.config, "max_position_embeddings", None) or max_length
    limit = min(limit, tokenizer.model_max_length)
    if max_length > limit:
        raise UsageError(
            f"--max-length {max_length}: {name or 'the fresh model'} takes at most {limit} tokens"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UsageError(
            f"--model {name}: its tokenizer has more entries than its embeddings; the two do not belong"
        )
    return model.float(), tokenizer


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the files that transformers loads a model and its tokenizer from."""
    with _quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _head(task: Task) -> dict[str, Any]:
    if task.labels is None:
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "num_labels": len(task.labels),
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }


def _pretrained(name: str, head: dict[str, Any]) -> tuple[Any, Any]:
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise UsageError(f"--model {name} has no config.json; give a directory that transformers can load")
    try:
        with _quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                name, ignore_mismatched_sizes=True, use_safetensors=True, **head
            )
            tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise UsageError(
            f"--model {name} cannot be loaded ({reason}); give a directory or a hub id"
        ) from error
    return model, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide progress bars, and the report that the head is new: it always is when fine-tuning begins."""
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
