"""The tokenizer.json of an exported model: the checkpoint's, with the model's own truncation and padding.

A checkpoint's tokenizer.json has the settings of the program that saved it, such as the shorter length of a training
run or padding to a fixed length. Unchanged, it would truncate texts that the model can process, or pad needlessly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from aerogel.system import json_fields

__all__ = ["TOKENIZER_FILE", "Padding", "padding_of", "same_tokenizer", "serving_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Padding:
    """How a tokenizer pads and cuts.

    Attributes:
        pad_token: None for a tokenizer without one.
        pad_token_id: its number.
        pad_token_type_id: segment of padding.
        padding_side: "right" or "left".
        truncation_side: "right" or "left".
    """

    pad_token: str | None
    pad_token_id: int
    pad_token_type_id: int = 0
    padding_side: str = "right"
    truncation_side: str = "right"


def padding_of(tokenizer: Any, folder: Path) -> Padding:
    """How texts are padded: as the tokenizer of transformers does it or, without one, as the folder's files say."""
    if tokenizer is not None:
        return Padding(
            tokenizer.pad_token, tokenizer.pad_token_id or 0, tokenizer.pad_token_type_id, tokenizer.padding_side,
            tokenizer.truncation_side,
        )  # fmt: skip
    try:
        config = json_fields.read(folder / "tokenizer_config.json", dict)
    except (OSError, json_fields.MalformedJsonError):
        config = {}
    token = config.get("pad_token", "[PAD]")
    token = token.get("content") if isinstance(token, dict) else token
    made = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    number = made.token_to_id(token) if isinstance(token, str) else None
    return Padding(None, 0) if number is None else Padding(token, number)


def serving_tokenizer(file: Path, tokenizer: Padding, max_length: int) -> bytes:
    """Content of tokenizer.json that cuts at `max_length` tokens and pads a batch to its longest text, no further.

    Args:
        file: tokenizer.json of the checkpoint.
        tokenizer: how it pads and cuts.
        max_length: tokens that the model takes, special ones included.
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
