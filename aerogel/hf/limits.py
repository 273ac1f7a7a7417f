"""Longest sequence of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aerogel.errors import CheckpointError

__all__ = ["longest_sequence", "sentence_limit"]

_SENTENCE_FILE = "sentence_bert_config.json"

# Longest sequence, in tokens, of a model without a limit.
_DEFAULT_LENGTH = 512
# Special tokens of a pair: up to four, in RoBERTa and its relatives.
_MIN_LENGTH = 4


def longest_sequence(model: Any, tokenizer: Any, default: int = _DEFAULT_LENGTH) -> int:
    """Longest sequence that a model and its tokenizer both accept, in tokens, special tokens included.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        default: limit of a model that sets none.
    """
    import torch

    # A tokenizer without a limit has 1e30.
    limits = [tokenizer.model_max_length]
    # XLNet has -1 for no limit.
    configured = getattr(model.config, "max_position_embeddings", None) or 0
    limits.append(configured if configured > 0 else default)
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # Positions of RoBERTa and its relatives start at padding_idx + 1.
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - start)
    return int(min(limits))


def sentence_limit(folder: Path) -> int | None:
    """Limit in tokens in a folder's sentence-transformers configuration; None without one.

    Raises:
        CheckpointError: the configuration cannot be read.
    """
    file = folder / _SENTENCE_FILE
    if not file.is_file():
        return None
    try:
        limit = json.loads(file.read_text(encoding="utf-8-sig")).get("max_seq_length")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"cannot read {file} ({error}); restore or remove it") from error
    # Special tokens would leave no room for text.
    if limit is not None and (type(limit) is not int or limit < _MIN_LENGTH):
        raise CheckpointError(
            f"{file}: max_seq_length {limit!r} must be a whole number from {_MIN_LENGTH}; correct or remove it"
        )
    return limit
