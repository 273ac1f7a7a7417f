"""Fill a model's inputs: random token ids, and an attention mask of every real token."""

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
# Small enough for any vocabulary, for a model without a config.json.
_FALLBACK_VOCABULARY = 1000
# More rows than any embedding table has.
_MAX_VOCABULARY = 2**31


@dataclass(frozen=True)
class Input:
    """One model input: name, ONNX Runtime's name of its type, and shape; open dimensions are names or None."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def vocabulary(model: Path) -> int:
    """Return the vocabulary size for random ids: `vocab_size` of the model's config.json, or 1000 without one.

    Raises:
        UsageError: config.json is not a JSON object, or its vocabulary is impossibly large.
    """
    file = find_companion(model, model.with_name("config.json"))
    size = _count(file, "vocab_size") or _FALLBACK_VOCABULARY
    if size > _MAX_VOCABULARY:
        raise UsageError(
            f"{file}: vocab_size {size}: must be at most {_MAX_VOCABULARY}; restore the model's config.json"
        )
    return size


def check_length(model: Path, seq: int) -> None:
    """Check that the model accepts `seq` tokens, by its manifest or else its config.json.

    Raises:
        UsageError: `seq` is too long, or one of these files is not a JSON object.
    """
    manifest, config = (
        find_companion(model, file)
        for file in (model.with_suffix(".manifest.json"), model.with_name("config.json"))
    )
    longest = _count(manifest, "max_length") or _count(config, "max_position_embeddings")
    if longest is not None and seq > longest:
        raise UsageError(f"{model} takes at most {longest} tokens; give --seq {longest} or less, not {seq}")


def _count(file: Path, field: str) -> int | None:
    """Return a field of a JSON file that is a positive integer; None without such a file or field.

    Raises:
        UsageError: the file is not a JSON object.
    """
    try:
        found = read(file, dict)
    except OSError:
        return None
    except MalformedJsonError as error:
        raise UsageError(f"cannot read {file} as JSON ({error}); restore it") from error
    try:
        count: int = check(found, {field: Number(int, 1)})[field]
    except MalformedJsonError:
        return None
    return count


def real_tokens(batch: int, seq: int, lengths: Sequence[int] = ()) -> np.ndarray:
    """Return a boolean array ``[batch, seq]``: True at real tokens, False at padding."""
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
    """Return an array ``[batch, seq]`` for every input of a token model, in the integer type of the input.

    The name of an input decides its values: masks are ones, token types zeros, position ids count up, and other ids
    are random below `vocab`. With `lengths`, each row of a mask is zero from its length on.

    Raises:
        UsageError: an input is not integer ``[batch, sequence]``, or its fixed shape is not ``[batch, seq]``.
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
