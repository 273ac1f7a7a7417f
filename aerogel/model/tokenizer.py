"""Tokenize texts with the artifact's tokenizer.json, whose own truncation and padding are disabled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.artifact import Artifact
from aerogel.system.json_fields import Either, Number, OneOf

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Encoded", "TextTokenizer", "Token"]

# Texts to tokenize at once; their encodings take several hundred bytes per token until they are reduced to ids.
_CHUNK = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """A tokenized text or pair of texts.

    Attributes:
        text: the string or tuple of two strings, including the prompt.
        ids: int32 token ids ``[tokens]``, special tokens included.
        types: int32 token types ``[tokens]``, the text of a pair that each token belongs to; None if the model does not
            use them.
        truncated: whether the text was truncated to the longest sequence.
        encoding: the ``tokenizers.Encoding`` with tokens and offsets; None unless requested.
    """

    text: str | tuple[str, str]
    ids: np.ndarray
    types: np.ndarray | None = None
    truncated: bool = False
    encoding: Any = None

    def __len__(self) -> int:
        return len(self.ids)


class Token(NamedTuple):
    """A token of a text, with its start and end in characters."""

    id: int
    text: str
    special: bool
    start: int
    end: int


class TextTokenizer:
    """The tokenizer of an artifact. Its methods may be called from several threads.

    Args:
        artifact: the model's files.
        max_length: longest sequence in tokens.
        types: whether the model uses token types.
        pad_id: token id that pads a batch; None for the one in the model's files.

    Attributes:
        max_length: longest sequence in tokens.
        pad_id: token id that pads a batch.

    Raises:
        ArtifactError: tokenizer.json cannot be loaded.
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
            raise UsageError(
                f"max_length {max_length} is below {least}, the length of a pair with one token each"
            )
        side = artifact.tokenizer_config.get("truncation_side", OneOf("right", "left")) or "right"
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, direction=side)
        self._side = side
        self._whole: tokenizers.Tokenizer | None = None
        self._other: tokenizers.Tokenizer | None = None
        # Skipping offsets saves a tenth of the time; tokenizers before 0.20 always compute them.
        self._fast: Callable[..., list[Any]] = getattr(
            self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch
        )

    def encode(self, texts: Sequence[Any], *, full: bool = False, side: str | None = None) -> list[Encoded]:
        """Tokenize checked texts, truncated to `max_length`.

        Args:
            texts: strings and tuples of two strings.
            full: keep tokens and offsets.
            side: "left" or "right", where texts are truncated; None for the side in the model's files.

        Raises:
            ArtifactError: the tokenizer fails.
        """
        tokenizer = self._tokenizer if side in (None, self._side) else self._other_side(str(side))
        call = tokenizer.encode_batch if full or tokenizer is not self._tokenizer else self._fast
        encoded: list[Encoded] = []
        for first in range(0, len(texts), _CHUNK):
            part = texts[first : first + _CHUNK]
            encodings = self._guarded(call, part)
            encoded += [self._reduce(text, item, full) for text, item in zip(part, encodings, strict=True)]
        return encoded

    def encode_ids(self, ids: Sequence[Sequence[int]]) -> list[Encoded]:
        """Make texts of token ids, special tokens included; they are truncated to `max_length` on the right.

        Raises:
            UsageError: an id is not one of the vocabulary; the message names its list.
        """
        size = self._artifact.config.get("vocab_size", Number(int, 1)) or self._tokenizer.get_vocab_size()
        encoded = []
        for index, item in enumerate(ids):
            if wrong := next((number for number in item if not 0 <= number < size), None):
                raise UsageError(
                    f"inputs[{index}] has the token id {wrong}; the vocabulary has {size} tokens"
                )
            numbers = np.array(item[: self.max_length], np.int32)
            types = np.zeros(len(numbers), np.int32) if self._types else None
            encoded.append(Encoded("", numbers, types, len(item) > self.max_length))
        return encoded

    def tokens(self, text: str, *, special: bool = True) -> list[Token]:
        """All tokens of a text, without truncation; with `special`, those that the model adds too.

        Raises:
            ArtifactError: the tokenizer fails.
        """
        (found,) = self._guarded(self._untruncated().encode_batch, [text], add_special_tokens=special)
        return [
            Token(number, token, bool(is_special), start, end)
            for number, token, is_special, (start, end) in zip(
                found.ids, found.tokens, found.special_tokens_mask, found.offsets, strict=True
            )
        ]

    def encode_whole(self, text: str) -> Any:
        """The ``tokenizers.Encoding`` of a text, without truncation and special tokens.

        Raises:
            ArtifactError: the tokenizer fails.
        """
        return self._guarded(self._untruncated().encode_batch, [text], add_special_tokens=False)[0]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Decode token ids to text.

        Raises:
            UsageError: an id is not an integer from 0 to 2**32 - 1.
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
        """The token with an id, or None."""
        return self._tokenizer.id_to_token(number)

    def special(self, name: str) -> int | None:
        """Id of a special token, e.g. "mask"; None if the tokenizer has none.

        Raises:
            ArtifactError: the token is not text in tokenizer_config.json or special_tokens_map.json.
        """
        field = f"{name}_token"
        for document in (self._artifact.tokenizer_config, self._artifact.special_tokens):
            value = document.get(field, Either(str, {"content?": Either(str, None)}))
            token = value.get("content") if isinstance(value, dict) else value
            if token is not None and (number := self._tokenizer.token_to_id(token)) is not None:
                return int(number)
        # Without these files, search the added tokens for the usual names.
        usual = {f"[{name.upper()}]", f"<{name}>"}
        added = self._tokenizer.get_added_tokens_decoder()
        return next((number for number, token in added.items() if token.content in usual), None)

    def _untruncated(self) -> tokenizers.Tokenizer:
        if self._whole is None:
            whole = self._copy()
            whole.no_truncation()
            self._whole = whole
        return self._whole

    def _other_side(self, side: str) -> tokenizers.Tokenizer:
        if self._other is None:
            other = self._copy()
            other.enable_truncation(self.max_length, direction=side)
            self._other = other
        return self._other

    def _copy(self) -> tokenizers.Tokenizer:
        import tokenizers

        return tokenizers.Tokenizer.from_str(self._tokenizer.to_str())

    def _reduce(self, text: Any, encoding: Any, full: bool) -> Encoded:
        ids = np.array(encoding.ids, np.int32)
        if len(ids) > self.max_length:
            raise ArtifactError(
                f"{self.path} returns {len(ids)} tokens, more than the limit of {self.max_length}; "
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
        """Call the tokenizer, which may fail or panic on a text even if its file was loaded."""
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
    except BaseException as error:  # panics of tokenizers are BaseExceptions
        raise ArtifactError(
            f"{path} cannot be loaded: {_line(error)}; restore the model's tokenizer"
        ) from error


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
