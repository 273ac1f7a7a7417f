"""Tokenize, batch and run texts: the part of a model that all heads share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.batch import Batch
from aerogel.model.batching import make_batches
from aerogel.model.derive import Port
from aerogel.model.progress import Progress, reporting
from aerogel.model.sentence import Sentence
from aerogel.model.texts import check_texts
from aerogel.model.tokenizer import Encoded, TextTokenizer

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Core", "ports"]

_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Largest output of a batch in values: 128 MiB. Logits over the vocabulary for each token could take gigabytes.
_MAX_OUTPUT = 1 << 25


class Core:
    """A session and its tokenizer. Its methods may be called from several threads.

    Args:
        path: the .onnx file, for messages.
        session: the session of the file.
        make_tokenizer: function of (longest sequence in tokens, whether the session has token types).
        max_length: longest sequence in tokens.
        batch_tokens: largest number of tokens in a batch.
        free_padding: whether the model skips padding.
        sentence: settings of a sentence-transformers folder, or None.

    Attributes:
        free_padding: as above.
        may_pad: whether texts of different lengths may share a batch.
        max_rows: largest number of texts in a batch; None without a limit.

    Raises:
        ArtifactError: the session has inputs that cannot be filled from texts.
    """

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        make_tokenizer: Callable[[int, bool], TextTokenizer],
        *,
        max_length: int,
        batch_tokens: int,
        free_padding: bool,
        sentence: Sentence | None,
    ) -> None:
        self.path = path
        self.sentence = sentence
        self.inputs = {port.name: port for port in ports(session.get_inputs())}
        self.outputs = {port.name: port for port in ports(session.get_outputs())}
        self._session: onnxruntime.InferenceSession | None = session
        self._batch_tokens = batch_tokens
        self.free_padding = free_padding
        self.dtypes = {name: _integers(path, port) for name, port in self.inputs.items()}
        self.max_rows, self._length = self._fixed()
        self.tokenizer = make_tokenizer(
            min(max_length, self._length or max_length), "token_type_ids" in self.inputs
        )
        # Without attention_mask, the model cannot distinguish padding from tokens.
        self.may_pad = "attention_mask" in self.inputs
        self._closing = threading.Lock()

    def close(self) -> None:
        """Release the session. Running calls keep it until they end."""
        with self._closing:
            self._session = None

    def encode(
        self,
        texts: Iterable[Any],
        *,
        pairs: bool = False,
        full: bool = False,
        prompt: str = "",
        side: str | None = None,
    ) -> list[Encoded]:
        """Tokenize texts; results of `Model.tokenize` are returned unchanged.

        Args:
            texts: strings and, with `pairs`, pairs of strings; or only `Encoded` objects.
            pairs: whether pairs are allowed.
            full: keep tokens and offsets.
            prompt: text to put before each text.
            side: where texts are truncated; see `TextTokenizer.encode`.

        Raises:
            UsageError: a text has another type; the message names its index.
            ArtifactError: the tokenizer fails.
        """
        given = texts if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) else list(texts)
        if isinstance(given, list) and any(isinstance(text, Encoded) for text in given):
            return self._check_encoded(given, pairs, full)
        checked = check_texts(given, pairs=pairs)
        if prompt:
            checked = [
                f"{prompt}{text}" if isinstance(text, str) else (f"{prompt}{text[0]}", text[1])
                for text in checked
            ]
        return self.tokenizer.encode(checked, full=full, side=side)

    def run(
        self, encoded: Sequence[Encoded], outputs: Sequence[str], progress: Progress = False
    ) -> Iterator[Batch]:
        """Run texts in batches, the longest texts first.

        Args:
            encoded: the texts.
            outputs: names of the outputs to return.
            progress: True draws a progress bar; a function is called with (texts done, total).

        Raises:
            UsageError: the model is closed.
            ArtifactError: the session fails, or an output does not have a row for each text.
        """
        session = self._open_session()
        if not encoded:
            return
        lengths = [len(item) for item in encoded]
        batches = make_batches(
            lengths,
            self.max_tokens(outputs),
            free_padding=self.free_padding,
            may_pad=self.may_pad,
            max_rows=self.max_rows,
        )
        done = 0
        with reporting(progress, len(encoded)) as report:
            for rows in batches:
                yield self._run(session, outputs, rows, [encoded[row] for row in rows])
                done += len(rows)
                report(done)

    def run_batch(
        self,
        encoded: Sequence[Encoded],
        outputs: Sequence[str],
        session: onnxruntime.InferenceSession | None = None,
    ) -> Batch:
        """Run texts as one batch, for callers that make the batches themselves.

        Args:
            encoded: the texts, at least one; at most `max_rows`, and of equal length unless `may_pad`.
            outputs: names of the outputs to return.
            session: another session of the same file; None for the model's own.

        Raises:
            UsageError: the model is closed.
            ArtifactError: the session fails, or an output does not have a row for each text.
        """
        own = self._open_session()
        return self._run(session or own, outputs, list(range(len(encoded))), encoded)

    def run_arrays(
        self,
        feed: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        session: onnxruntime.InferenceSession | None = None,
    ) -> list[np.ndarray]:
        """Run arrays as they are; see `run_batch` for `session`.

        Raises:
            UsageError: the model is closed, or cannot run arrays of these shapes.
        """
        own = self._open_session()
        try:
            found: list[np.ndarray] = (session or own).run(list(outputs), dict(feed))
        except Exception as error:  # the exception types of onnxruntime are not public
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"the model cannot run these inputs ({reason})") from error
        return found

    def _open_session(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise UsageError(f"{self.path} is closed; load it again")
        return self._session

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        outputs: Sequence[str],
        rows: list[int],
        encoded: Sequence[Encoded],
    ) -> Batch:
        feed = self._feed(encoded)
        try:
            arrays = session.run(outputs, feed)
        except Exception as error:  # the exception types of onnxruntime are not public
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"{self.path} failed: {reason}") from error
        checked = self._checked(outputs, arrays, feed, len(rows))
        return Batch(rows, [len(item) for item in encoded], feed["input_ids"].shape[1], checked)

    def _shape(self, encoded: Sequence[Encoded]) -> tuple[int, int]:
        """Rows and tokens of a padded batch.

        ONNX Runtime sums over tokens in groups of four after the first, then one by one, and in another order for one
        row. With at least two rows and 4n + 1 tokens, no group has tokens of a text in some batches only, so that the
        pooled vector of a text has the same bits in all batches. Where padding is not free, this would cost time.
        """
        rows, tokens = len(encoded), max(1, *map(len, encoded))
        if self.free_padding:
            rows, tokens = (
                max(2, rows),
                min((tokens + 2) // 4 * 4 + 1, max(self.tokenizer.max_length, tokens)),
            )
        return self.max_rows or rows, self._length or tokens

    def _feed(self, encoded: Sequence[Encoded]) -> dict[str, np.ndarray]:
        """Input arrays for the session, padded on the right and with rows without tokens."""
        shape = self._shape(encoded)
        filled = {
            name: np.full(shape, self.tokenizer.pad_id if name == "input_ids" else 0, dtype)
            for name, dtype in self.dtypes.items()
        }
        ids, mask, types = (filled.get(name) for name in _INPUTS)
        for row, item in enumerate(encoded):
            length = len(item)
            if ids is not None:
                ids[row, :length] = item.ids
            if mask is not None:
                mask[row, :length] = 1
            if types is not None and item.types is not None:
                types[row, :length] = item.types
        if mask is not None:
            # Softmax over no tokens is NaN, so a row without tokens attends to one padding token.
            mask[:, 0] = 1
        return filled

    def _checked(
        self, outputs: Sequence[str], arrays: list[Any], feed: dict[str, np.ndarray], rows: int
    ) -> list[np.ndarray]:
        """Outputs as float32, without the rows that only fill the batch."""
        shape = feed["input_ids"].shape
        checked = []
        for name, array in zip(outputs, arrays, strict=True):
            if not isinstance(array, np.ndarray) or array.ndim < 2 or len(array) != shape[0]:
                found = getattr(array, "shape", None)
                raise ArtifactError(
                    f"{self.path}: output {name} has shape {found} for inputs of shape {shape}; "
                    "only outputs [batch, ...] can be read"
                )
            checked.append(array[:rows].astype(np.float32, copy=False))
        return checked

    def max_tokens(self, outputs: Sequence[str]) -> int:
        """Largest number of tokens in a batch that computes some outputs."""
        widths = [self.outputs[name].width or 1 for name in outputs]
        return max(1, min(self._batch_tokens, _MAX_OUTPUT // max(1, *widths)))

    def _fixed(self) -> tuple[int | None, int | None]:
        """Fixed batch size and sequence length of the session's inputs, None for each that is dynamic."""
        if "input_ids" not in self.inputs:
            raise ArtifactError(f"{self.path} has no input input_ids; only text encoders can be loaded")
        sizes: list[int | None] = [None, None]
        for name, port in self.inputs.items():
            if port.rank not in (2, None):
                raise ArtifactError(
                    f"{self.path}: input {name} has {port.rank} dimensions; only [batch, sequence] is supported"
                )
            for axis, size in enumerate(port.shape or ()):
                if size is not None and (size < 1 or sizes[axis] not in (None, size)):
                    raise ArtifactError(
                        f"{self.path}: input {name} has the fixed size {size}, which contradicts "
                        "another input; export the model again"
                    )
                sizes[axis] = sizes[axis] or size
        return sizes[0], sizes[1]

    def _check_encoded(self, given: list[Any], pairs: bool, full: bool) -> list[Encoded]:
        for index, item in enumerate(given):
            if not isinstance(item, Encoded):
                raise UsageError(
                    f"texts[{index}] is not tokenized, but other texts are; tokenize all texts or none"
                )
            if not pairs and not isinstance(item.text, str):
                raise UsageError(f"texts[{index}] is a pair of texts; this method takes single texts")
            if len(item) > self.tokenizer.max_length:
                raise UsageError(
                    f"texts[{index}] has {len(item)} tokens, but the model takes at most {self.tokenizer.max_length}"
                )
            if full and item.encoding is None:
                raise UsageError(f"texts[{index}] has no offsets; create it with Model.tokenize")
        return given


def ports(values: Iterable[Any]) -> list[Port]:
    """Convert inputs or outputs of a session to `Port`s."""
    found = []
    for value in values:
        shape = tuple(size if type(size) is int and size >= 0 else None for size in value.shape or ())
        # ONNX Runtime reports [] for scalars and for an unknown rank; encoders have no scalars.
        found.append(Port(value.name, value.type, shape or None))
    return found


def _integers(path: Path, port: Port) -> np.dtype[Any]:
    if port.name not in _INPUTS:
        raise ArtifactError(
            f"{path}: input {port.name} cannot be filled from texts; known inputs are {', '.join(_INPUTS)}"
        )
    if port.type not in _INTEGERS:
        raise ArtifactError(f"{path}: input {port.name} is a {port.type}; only int64 and int32 are supported")
    return np.dtype(_INTEGERS[port.type])
