"""How long a text a model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aerogel.errors import CheckpointError

__all__ = ["longest_sequence", "sentence_limit"]

_SENTENCE_FILE = "sentence_bert_config.json"

# Longest sequence to expect of a model that sets no limit.
_UNBOUNDED = 512
# A pair without its texts: its special tokens, four in RoBERTa's families.
_LEAST = 4


def longest_sequence(model: Any, tokenizer: Any, unbounded: int = _UNBOUNDED) -> int:
    """Tokens, special ones included, of the longest sequence that a model and its tokenizer both take.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        unbounded: what a model without a limit of its own is taken to allow.
    """
    import torch

    # Tokenizers without a limit of their own say 1e30.
    limits = [tokenizer.model_max_length]
    # XLNet says -1 where it means that it has no limit.
    said = getattr(model.config, "max_position_embeddings", None) or 0
    limits.append(said if said > 0 else unbounded)
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding token's number.
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - start)
    return int(min(limits))


def sentence_limit(folder: Path) -> int | None:
    """Tokens that sentence-transformers gives the model of a folder at most; None where it says nothing.

    Raises:
        CheckpointError: its configuration cannot be read.
    """
    file = folder / _SENTENCE_FILE
    if not file.is_file():
        return None
    try:
        limit = json.loads(file.read_text(encoding="utf-8-sig")).get("max_seq_length")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); restore or remove it") from error
    # Fewer tokens than a pair's special ones would be no text at all.
    if limit is not None and (type(limit) is not int or limit < _LEAST):
        raise CheckpointError(
            f"{file}: max_seq_length {limit!r} must be a whole number from {_LEAST}; correct or remove it"
        )
    return limit
