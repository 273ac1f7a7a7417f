"""Filling a model's inputs: random token ids, attention on every token that is no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel.errors import UsageError
from aerogel.runtime.model_file import find_companion
from aerogel.system.json_fields import MalformedJsonError, Number, check, read

__all__ = ["Input", "check_length", "feeds", "real_tokens", "vocabulary"]

_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
# Ids that any vocabulary has, for a model without a config.json.
_FALLBACK_VOCABULARY = 1000
# No table of embeddings has more rows.
_LARGEST_VOCABULARY = 2**31


@dataclass(frozen=True)
class Input:
    """One model input: ONNX Runtime's type name, and a shape whose open dimensions are names or None."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def vocabulary(model: Path) -> int:
    """Size of the vocabulary that random ids are drawn from: that of the model's config.json, else 1000.

    Raises:
        UsageError: config.json names a size that no model has, or is no JSON object.
    """
    file = find_companion(model, model.with_name("config.json"))
    size = _count(file, "vocab_size") or _FALLBACK_VOCABULARY
    if size > _LARGEST_VOCABULARY:
        raise UsageError(
            f"{file}: vocab_size {size} is more than any model has; restore the model's config.json"
        )
    return size


def check_length(model: Path, seq: int) -> None:
    """Refuse a sequence longer than the model takes, as its manifest says, or else its config.json.

    Raises:
        UsageError: `seq` is longer, or one of these files is no JSON object.
    """
    manifest, config = (
        find_companion(model, file)
        for file in (model.with_suffix(".manifest.json"), model.with_name("config.json"))
    )
    longest = _count(manifest, "max_length") or _count(config, "max_position_embeddings")
    if longest is not None and seq > longest:
        raise UsageError(f"{model} takes at most {longest} tokens; give --seq {longest} or less, not {seq}")


def _count(file: Path, field: str) -> int | None:
    """A field of a JSON file that is an integer from 1; None where there is no such file or field.

    Raises:
        UsageError: the file is no JSON object.
    """
    try:
        found = read(file, dict)
    except OSError:
        return None
    except MalformedJsonError as error:
        raise UsageError(f"{file} cannot be read as JSON ({error}); restore it") from error
    try:
        count: int = check(found, {field: Number(int, 1)})[field]
    except MalformedJsonError:
        return None
    return count


def real_tokens(batch: int, seq: int, lengths: Sequence[int] = ()) -> np.ndarray:
    """Boolean ``[batch, seq]``: which positions hold tokens; the others are padding."""
    return np.arange(seq) < np.asarray(lengths or [seq] * batch)[:, np.newaxis]


def feeds(
    model: Path,
    inputs: Sequence[Input],
    *,
    batch: int,
    seq: int,
    vocab: int,
    seed: int,
    lengths: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """Arrays ``[batch, seq]`` for every input of a token model, of the integer type that it asks for.

    By the end of their names: masks are ones, token types zeros, position ids count up, other ids are random
    below `vocab`. Where `lengths` are given, masks are zero in each row from its length on.

    Raises:
        UsageError: an input of another kind, or of a fixed shape that is not batch x seq.
    """
    random = np.random.default_rng(seed)
    filled = {}
    for item in inputs:
        dtype = _INTEGERS.get(item.type)
        if dtype is None or len(item.shape) != 2 or not item.name.endswith(("mask", "ids")):
            wanted = "integer inputs of [batch, sequence] whose names end in 'ids' or 'mask'"
            raise UsageError(
                f"{model}: bench cannot fill input {item.name!r} ({item.type}); it fills {wanted}"
            )
        for size, given, flag in zip((batch, seq), item.shape, ("--batch", "--seq"), strict=True):
            if isinstance(given, int) and given != size:
                raise UsageError(f"{model}: input {item.name!r} is fixed to {given}; give {flag} {given}")
        if item.name.endswith("mask"):
            filled[item.name] = real_tokens(batch, seq, lengths).astype(dtype)
        elif "type" in item.name:
            filled[item.name] = np.zeros((batch, seq), dtype)
        elif "position" in item.name:
            filled[item.name] = np.tile(np.arange(seq, dtype=dtype), (batch, 1))
        else:
            filled[item.name] = random.integers(0, vocab, (batch, seq)).astype(dtype)
    return filled
