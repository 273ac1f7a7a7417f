"""Load an exported model and run it on texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from aerogel.errors import HeadError, UsageError
from aerogel.model.artifact import Artifact, find_model, read_artifact
from aerogel.model.core import Core
from aerogel.model.derive import derive_head
from aerogel.model.head import HEADS, Head
from aerogel.model.heads._vectors import encode_prompted
from aerogel.model.progress import Progress
from aerogel.model.results import Answer, Filled, Label, Ranked, Span, Sparse
from aerogel.model.task import Task
from aerogel.model.texts import Pair
from aerogel.model.tokenizer import Encoded, TextTokenizer
from aerogel.runtime import session
from aerogel.system.threads import check_threads

__all__ = ["Model", "load"]

# Outputs of rank 2 whose second dimension is the tokens.
_PER_TOKEN = ("start_logits", "end_logits")


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    name: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 16384,
    library: bool | None = None,
    verify: bool = False,
) -> Model:
    """Load an exported model with its tokenizer.

    The model may come from `aerogel export` or another exporter. Its folder must have tokenizer.json, and config.json
    unless the names of the outputs identify the head.

    Args:
        path: the .onnx file, or a folder with the file, directly or in ``onnx/``.
        threads: threads of one call; None for one per core.
        name: .onnx file to choose from a folder with several, e.g. ``"model_sparse"``.
        max_length: truncate texts to this number of tokens; None for the limit of the model.
        batch_tokens: largest number of tokens in a batch; memory grows with it.
        library: True requires the native library, False does not use it (dense speed), None uses it if it is built.
        verify: compare the SHA-256 of the model and its companion files with the manifest.

    Raises:
        UsageError: an argument is out of range, or `name` is needed or unknown.
        ArtifactError: a file is missing, malformed or inconsistent with another.
        RuntimeLoadError: ONNX Runtime cannot load the file, or the required library cannot be loaded.
    """
    for argument, number in (("max_length", max_length), ("batch_tokens", batch_tokens)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"{argument}={number!r} must be an integer from 1")
    if threads is not None:
        check_threads(threads)
    artifact = read_artifact(find_model(Path(path), name), verify=verify)
    if max_length is not None and max_length > artifact.max_length:
        raise UsageError(
            f"max_length={max_length}: {artifact.path} takes at most {artifact.max_length} tokens"
        )
    pad_id = artifact.head.pad_id if artifact.head else None
    core = Core(
        artifact.path,
        session(artifact.path, threads, library=library),
        lambda length, types: TextTokenizer(artifact, length, types=types, pad_id=pad_id),
        max_length=max_length or artifact.max_length,
        batch_tokens=batch_tokens,
        free_padding=artifact.fused,
        sentence=artifact.sentence,
    )
    head = artifact.head or derive_head(artifact, list(core.outputs.values()))
    return Model(artifact, head, core, threads)


class Model:
    """A loaded model. Its methods may be called from several threads.

    The head decides which methods a model has; `methods` lists them, and any other raises HeadError. Texts are strings
    or results of `tokenize`. The result for a text does not depend on the other texts or their order, except for
    rounding in ONNX operators outside of the fused encoder.

    Attributes:
        path: the .onnx file.
        name: name of the model's folder.
        head: description of the head.
        methods: names of the methods for this head.
        max_length: longest sequence in tokens, special tokens included; longer texts are truncated.
        threads: threads of one call, or None for one per core.
        density: kept fraction of the pruned matrices' weights, or None without a manifest.
        fused: whether the encoder is one node, which skips padding.
        inputs: dtype of each input of the session, by name.
    """

    def __init__(self, artifact: Artifact, head: Head, core: Core, threads: int | None) -> None:
        self._core = core
        self._task: Task = HEADS.get(head.kind.replace("_", "-"))(head, core)
        self.path = artifact.path
        self.name = artifact.folder.resolve().name
        self.head = head
        self.methods = self._task.methods()
        self.max_length = core.tokenizer.max_length
        self.threads = threads
        self.density = artifact.density
        self.fused = artifact.fused
        self.inputs: Mapping[str, np.dtype[Any]] = core.dtypes

    def __repr__(self) -> str:
        return f"<aerogel.Model {self.path} {self.head.kind}: {', '.join(self.methods)}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the session. Running calls finish; later calls raise UsageError."""
        self._core.close()

    def embed(
        self,
        texts: Iterable[str | Encoded],
        *,
        prompt: str | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        pooling: str | None = None,
        progress: Progress = False,
    ) -> np.ndarray:
        """Embed texts: one vector per text.

        Args:
            texts: the texts.
            prompt: name of the prompt to put before each text; None for the model's default, "" for no prompt.
            normalize: scale vectors to length 1; None for the model's default.
            dimensions: number of leading features to keep, for models trained with Matryoshka embeddings. Vectors are
                normalized after that.
            pooling: ``"mean"``, ``"cls"`` or ``"max"``, for a model with one vector per token; None for the pooling
                in the model's folder, or mean without one.
            progress: True draws a progress bar; a function is called with (texts done, total).

        Returns:
            float32 ``[texts, dimensions]``.

        Raises:
            HeadError: the model does not compute embeddings.
            UsageError: a text is not a string, or an option is out of range.
        """
        found: np.ndarray = self._method("embed")(
            texts,
            prompt=prompt,
            normalize=normalize,
            dimensions=dimensions,
            pooling=pooling,
            progress=progress,
        )
        return found

    def embed_sparse(
        self, texts: Iterable[str | Encoded], *, prompt: str | None = None, progress: Progress = False
    ) -> list[Sparse]:
        """Embed texts as sparse vectors: token ids and weights per text.

        Raises:
            HeadError: the model does not compute sparse embeddings.
            UsageError: a text is not a string, or the prompt is unknown.
        """
        found: list[Sparse] = self._method("embed_sparse")(texts, prompt=prompt, progress=progress)
        return found

    def embed_tokens(
        self, texts: Iterable[str | Encoded], *, prompt: str | None = None, progress: Progress = False
    ) -> list[np.ndarray]:
        """Embed tokens: float32 ``[tokens, features]`` per text, special tokens included.

        Raises:
            HeadError: the model does not compute token vectors.
            UsageError: a text is not a string, or the prompt is unknown.
        """
        found: list[np.ndarray] = self._method("embed_tokens")(texts, prompt=prompt, progress=progress)
        return found

    def classify(
        self,
        texts: Iterable[str | Pair | Encoded],
        *,
        top_k: int | None = None,
        raw_scores: bool = False,
        progress: Progress = False,
    ) -> list[list[Label]]:
        """Classify texts or pairs of texts: labels with scores, highest first.

        Args:
            texts: strings, or pairs of strings.
            top_k: number of labels per text; None for all.
            raw_scores: return logits instead of probabilities. Regression models always return logits.
            progress: True draws a progress bar; a function is called with (texts done, total).

        Raises:
            HeadError: the model does not classify texts.
            UsageError: a text is neither a string nor a pair, or an option is out of range.
        """
        found: list[list[Label]] = self._method("classify")(
            texts, top_k=top_k, raw_scores=raw_scores, progress=progress
        )
        return found

    def rerank(
        self,
        query: str,
        texts: Iterable[str],
        *,
        top_n: int | None = None,
        raw_scores: bool = False,
        progress: Progress = False,
    ) -> list[Ranked]:
        """Rank texts by a query: (index, score), best first; ties keep the order of the texts.

        Args:
            query: first text of each pair.
            texts: second text of each pair.
            top_n: number of results; None for all.
            raw_scores: return logits instead of probabilities.
            progress: True draws a progress bar; a function is called with (texts done, total).

        Raises:
            HeadError: the model does not compute a single score.
            UsageError: a text is not a string, or an option is out of range.
        """
        found: list[Ranked] = self._method("rerank")(
            query, texts, top_n=top_n, raw_scores=raw_scores, progress=progress
        )
        return found

    def tag(
        self,
        texts: Iterable[str | Encoded],
        *,
        aggregate: bool | str = True,
        progress: Progress = False,
    ) -> list[list[Span]]:
        """Tag texts: labeled spans of each text from left to right, without the label O.

        Args:
            texts: the texts. Tokens beyond `max_length` are not tagged.
            aggregate: True or ``"first"``: a word has the label of its first token, and adjacent words of an entity
                form a span. ``"simple"``: adjacent tokens of an entity form a span, even inside a word. False or
                ``"none"``: one span per token, with the full label including B- or I-.
            progress: True draws a progress bar; a function is called with (texts done, total).

        Returns:
            Spans with start and end in characters; the score is the mean over words or tokens.

        Raises:
            HeadError: the model does not label tokens.
            UsageError: a text is not a string, or `aggregate` is unknown.
        """
        found: list[list[Span]] = self._method("tag")(texts, aggregate=aggregate, progress=progress)
        return found

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_answer_length: int = 30,
        stride: int = 128,
        null_threshold: float | None = None,
    ) -> list[Answer]:
        """Answer a question: spans of a context, best first.

        A long context is split into overlapping windows, which run in batches.

        Args:
            question: the question.
            context: text that contains the answer, of any length.
            top_k: number of answers; fewer if the context has fewer spans.
            max_answer_length: longest answer in tokens.
            stride: context tokens between the starts of two windows.
            null_threshold: return the answer "" first if the score of "no answer" exceeds the score of the best span by
                more than this, in logits. None never does.

        Raises:
            HeadError: the model does not answer questions.
            UsageError: a text is not a string, the question is too long, or an option is out of range.
        """
        found: list[Answer] = self._method("answer")(
            question,
            context,
            top_k=top_k,
            max_answer_length=max_answer_length,
            stride=stride,
            null_threshold=null_threshold,
        )
        return found

    def fill_mask(self, text: str, *, top_k: int = 5) -> list[Filled]:
        """Predict the masked token of a text: the most probable tokens first.

        Args:
            text: contains the model's mask token, e.g. ``[MASK]``, once.
            top_k: number of tokens.

        Raises:
            HeadError: the model does not predict masked tokens.
            UsageError: the text has no mask token or several, or `top_k` is out of range.
        """
        found: list[Filled] = self._method("fill_mask")(text, top_k=top_k)
        return found

    def tokenize(self, texts: Iterable[str | Pair], *, prompt: str | None = None) -> list[Encoded]:
        """Tokenize texts or pairs of texts; tokens and offsets are in `Encoded.encoding`.

        `embed`, `embed_sparse`, `embed_tokens`, `classify`, `tag` and `run` accept the result instead of texts, so
        that a server can count tokens before it forms batches.

        Args:
            texts: strings, or pairs of strings.
            prompt: name of the prompt to put before each text; None for the model's default, "" for no prompt.

        Raises:
            UsageError: a text is neither a string nor a pair, or the prompt is unknown.
        """
        return encode_prompted(self._core, self.head, texts, prompt, pairs=True, full=True)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Decode token ids to text.

        Raises:
            UsageError: an id is not an integer from 0 to 2**32 - 1.
        """
        return self._core.tokenizer.decode(ids, skip_special=skip_special)

    def run(self, encodings: Sequence[Encoded]) -> list[dict[str, np.ndarray]]:
        """Run encodings and return the session's outputs of each by name: float32, without padding.

        Raises:
            UsageError: an item is not a result of `tokenize`, or the model is closed.
        """
        names = tuple(self._core.outputs)
        encoded = self._core.encode(encodings, pairs=True)
        found: list[dict[str, np.ndarray]] = [{} for _ in encoded]
        for batch in self._core.run(encoded, names):
            for output, name in enumerate(names):
                shape = batch.arrays[output].shape
                per_token = shape[1] == batch.longest and (len(shape) == 3 or name in _PER_TOKEN)
                for row, array in batch.each_token(output) if per_token else batch.each(output):
                    found[row][name] = array.copy()
        return found

    def _method(self, name: str) -> Any:
        if name not in self.methods:
            raise HeadError(
                f"{self.path} has a head of kind {self.head.kind} and no {name}(); it has {', '.join(self.methods)}"
            )
        return getattr(self._task, name)
