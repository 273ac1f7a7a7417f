"""Texts to token ids: the artifact's tokenizer.json, with its own truncation and padding switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.artifact import Artifact
from aerogel.system.json_fields import Either, Number, OneOf

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Encoded", "TextTokenizer"]

# Texts that are tokenised at once: their encodings take several hundred bytes a token until they are reduced to ids.
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """One text, or pair of texts, as a model takes it.

    Attributes:
        text: the string, or the tuple of two, with the prompt that was put before it.
        ids: int32 ``[tokens]``, special tokens included.
        types: int32 ``[tokens]``, which of a pair's texts each token belongs to; None where the model does not ask.
        truncated: whether the text has more tokens than the model takes.
        encoding: the ``tokenizers.Encoding``, with tokens and offsets; None where nobody asked for it.
    """

    text: str | tuple[str, str]
    ids: np.ndarray
    types: np.ndarray | None = None
    truncated: bool = False
    encoding: Any = None

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """The tokenizer of an artifact. Several threads may call one.

    Args:
        artifact: the model's files.
        max_length: longest sequence in tokens.
        types: whether the model takes token types.
        pad_id: token that pads a batch; None for the one that the files name.

    Attributes:
        max_length: longest sequence in tokens.
        pad_id: token that pads a batch.

    Raises:
        ArtifactError: tokenizer.json cannot be read.
        UsageError: `max_length` leaves no room for a text.
    """

    def __init__(self, artifact: Artifact, max_length: int, *, types: bool, pad_id: int | None) -> None:
        self.path = artifact.folder / "tokenizer.json"
        self.max_length = max_length
        self._artifact = artifact
        self._types = types
        self._tokenizer = _open(self.path)
        padding = self._tokenizer.padding or {}
        if pad_id is None:
            pad_id = self.special("pad")
        if pad_id is None:
            pad_id = artifact.config.get("pad_token_id", Number(int, -1, 2**31))
        if pad_id is None or pad_id < 0:
            pad_id = int(padding.get("pad_id", 0))
        self.pad_id = pad_id
        least = self._tokenizer.num_special_tokens_to_add(True) + 2
        if max_length < least:
            raise UsageError(f"max_length {max_length} is below {least}, a pair of texts of one token each")
        side = artifact.tokenizer_config.get("truncation_side", OneOf("right", "left")) or "right"
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, direction=side)
        self._whole: tokenizers.Tokenizer | None = None
        # Offsets cost a tenth of the time; tokenizers before 0.20 always find them.
        self._fast: Callable[..., list[Any]] = getattr(
            self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch
        )

    def encode(self, texts: Sequence[Any], *, full: bool = False) -> list[Encoded]:
        """Token ids of checked texts, cut to `max_length`.

        Args:
            texts: strings, and tuples of two.
            full: keep tokens and offsets.

        Raises:
            ArtifactError: the tokenizer fails.
        """
        call = self._tokenizer.encode_batch if full else self._fast
        found: list[Encoded] = []
        for first in range(0, len(texts), _AT_ONCE):
            part = texts[first : first + _AT_ONCE]
            encodings = self._guarded(call, part)
            found += [self._reduce(text, item, full) for text, item in zip(part, encodings, strict=True)]
        return found

    def encode_whole(self, text: str) -> Any:
        """The ``tokenizers.Encoding`` of one text at any length, without special tokens.

        Raises:
            ArtifactError: the tokenizer fails.
        """
        if self._whole is None:
            whole = _open(self.path)
            whole.no_padding()
            whole.no_truncation()
            self._whole = whole
        return self._guarded(self._whole.encode_batch, [text], add_special_tokens=False)[0]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of token ids.

        Raises:
            UsageError: an id is not a whole number from 0 on.
            ArtifactError: the tokenizer fails.
        """
        numbers = list(ids)
        for index, number in enumerate(numbers):
            if (
                isinstance(number, bool)
                or not isinstance(number, int | np.integer)
                or not 0 <= number < 2**32
            ):
                raise UsageError(f"ids[{index}] must be a token id, not {number!r}")
        return str(
            self._guarded(self._tokenizer.decode, list(map(int, numbers)), skip_special_tokens=skip_special)
        )

    def token(self, number: int) -> str | None:
        """The token of an id; None where there is no such id."""
        return self._tokenizer.id_to_token(number)

    def special(self, name: str) -> int | None:
        """Id of a special token, e.g. "mask", by the name that the tokenizer's files give it.

        Raises:
            ArtifactError: a file names it by something else than a string.
        """
        field = f"{name}_token"
        for document in (self._artifact.tokenizer_config, self._artifact.special_tokens):
            value = document.get(field, Either(str, {"content?": Either(str, None)}))
            token = value.get("content") if isinstance(value, dict) else value
            if token is not None and (number := self._tokenizer.token_to_id(token)) is not None:
                return int(number)
        # Without those files: the usual names, among the tokens that were added to the vocabulary.
        usual = {f"[{name.upper()}]", f"<{name}>"}
        added = self._tokenizer.get_added_tokens_decoder()
        return next((number for number, token in added.items() if token.content in usual), None)

    def _reduce(self, text: Any, encoding: Any, full: bool) -> Encoded:
        ids = np.array(encoding.ids, np.int32)
        if len(ids) > self.max_length:
            raise ArtifactError(
                f"{self.path} gives {len(ids)} tokens where {self.max_length} were asked for; "
                "restore the model's tokenizer"
            )
        return Encoded(
            text,
            ids,
            np.array(encoding.type_ids, np.int32) if self._types else None,
            bool(encoding.overflowing),
            encoding if full else None,
        )

    def _guarded(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a tokenizer; a file that loads can still fail, or panic, on a text."""
        try:
            return call(*args, **options)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            raise ArtifactError(f"{self.path} fails on a text: {_line(error)}") from error


def _open(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers raises plain Exceptions, and panics that are not even those
        raise ArtifactError(
            f"{path} cannot be loaded: {_line(error)}; restore the model's tokenizer"
        ) from error


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
