"""The tokenizer.json of an exported model: the checkpoint's, with the model's own truncation and padding.

A checkpoint's tokenizer.json has the settings of the program that saved it, such as the shorter length of a training
run or padding to a fixed length. Unchanged, it would truncate texts that the model can process, or pad needlessly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

__all__ = ["TOKENIZER_FILE", "same_tokenizer", "serving_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"


def serving_tokenizer(file: Path, tokenizer: Any, max_length: int) -> bytes:
    """Content of a tokenizer.json that truncates to `max_length` tokens and pads a batch to its longest text.

    Args:
        file: tokenizer.json of the checkpoint.
        tokenizer: the same tokenizer in transformers, which knows the padding token and the sides.
        max_length: maximum tokens of the model, special ones included.
    """
    result = Tokenizer.from_file(str(file))
    result.enable_truncation(max_length, direction=tokenizer.truncation_side)
    if tokenizer.pad_token is None:
        result.no_padding()
    else:
        result.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
        )
    return result.to_str(pretty=True).encode()


def same_tokenizer(one: Path, other: Path) -> bool:
    """Whether two tokenizer.json files are equal apart from truncation and padding."""
    try:
        return _bare(one) == _bare(other)
    except Exception as error:
        # tokenizers raises plain Exception for a malformed file.
        if type(error) is not Exception:
            raise
        return False


def _bare(file: Path) -> str:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return str(tokenizer.to_str())
