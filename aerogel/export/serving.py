"""The tokenizer.json beside an exported model: the checkpoint's, set to cut and pad as the model needs it.

A tokenizer's file carries the settings of whoever saved it: a shorter length that a run was trained with, or padding of
every text to a fixed length. Served as it is, it would cut texts that the model can take, or make it compute padding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

__all__ = ["TOKENIZER_FILE", "same_tokenizer", "serving_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"


def serving_tokenizer(file: Path, tokenizer: Any, max_length: int) -> bytes:
    """Content of tokenizer.json that cuts at `max_length` tokens and pads a batch to its longest text, no further.

    Args:
        file: tokenizer.json of the checkpoint.
        tokenizer: the same in transformers, which knows the padding token and the sides.
        max_length: tokens that the model takes, special ones included.
    """
    made = Tokenizer.from_file(str(file))
    made.enable_truncation(max_length, direction=tokenizer.truncation_side)
    if tokenizer.pad_token is None:
        made.no_padding()
    else:
        made.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
        )
    return made.to_str(pretty=True).encode()


def same_tokenizer(one: Path, other: Path) -> bool:
    """Whether two files tokenizer.json differ in nothing but how they cut and pad."""
    try:
        return _bare(one) == _bare(other)
    except Exception as error:
        # tokenizers knows no other class, and one of the files may be anything.
        if type(error) is not Exception:
            raise
        return False


def _bare(file: Path) -> str:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return str(tokenizer.to_str())
