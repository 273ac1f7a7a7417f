"""An exported model: texts in, answers out."""

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

# Outputs of two dimensions that have a number for each token.
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
    """Open an exported model with its tokenizer.

    It may come from `aerogel export` or from another exporter: besides the .onnx file, tokenizer.json is needed, and
    config.json where the outputs do not say what they are.

    Args:
        path: the .onnx file, or a folder that has one, directly or in ``onnx/``.
        threads: threads of one call; None lets ONNX Runtime use one per core.
        name: which .onnx file of a folder with several, e.g. ``"model_sparse"``.
        max_length: cut texts to so many tokens; None for as many as the model takes.
        batch_tokens: tokens that run at once. Memory grows with it.
        library: True demands the sparse kernels, False leaves them out (dense speed), None uses them if built.
        verify: compare the SHA-256 of the model and of the files beside it with its manifest.

    Raises:
        UsageError: an argument is out of range, or `name` is needed or unknown.
        ArtifactError: a file is missing, malformed, or contradicts another.
        RuntimeLoadError: ONNX Runtime cannot load the file, or the library is demanded and cannot be loaded.
    """
    for flag, number in (("max_length", max_length), ("batch_tokens", batch_tokens)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"{flag}={number!r} must be an integer from 1")
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
    """A model that `load` opened. Several threads may call one.

    Which methods it has depends on its head; `methods` lists them. Texts may be strings, or what `tokenize` made of
    them. One text's answer does not depend on which other texts are in the list, nor on their order, beyond what the
    ONNX operators outside of the fused encoder round differently.

    Attributes:
        path: the .onnx file.
        name: name of the model's folder.
        head: what the model computes.
        methods: names of the methods that fit its head.
        max_length: longest sequence in tokens, special ones included; longer texts are cut.
        threads: threads of one call, or None for one per core.
        density: share of the pruned matrices' weights that are kept, or None where no manifest says.
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
        """Release the session. Calls that are running end first; later ones raise UsageError."""
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
        """One vector for each text.

        Args:
            texts: the texts.
            prompt: name of the prompt to put before each; None for the model's default, "" for none.
            normalize: scale vectors to length 1; None for what the model was made for.
            dimensions: keep so many leading features, for models that were trained for it. Vectors that are
                normalised are normalised after that.
            pooling: ``"mean"``, ``"cls"`` or ``"max"`` over a text's tokens, for a model that gives a vector for
                each; None for what its folder asks for, else mean.
            progress: True draws a bar, a function is called with (texts done, texts in all).

        Returns:
            float32 ``[texts, dimensions]``.

        Raises:
            HeadError: the model gives no embeddings.
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
        """For each text, the token ids that its sparse vector has, and their weights.

        Raises:
            HeadError: the model gives no sparse embeddings.
            UsageError: a text is not a string, or there is no such prompt.
        """
        found: list[Sparse] = self._method("embed_sparse")(texts, prompt=prompt, progress=progress)
        return found

    def embed_tokens(
        self, texts: Iterable[str | Encoded], *, prompt: str | None = None, progress: Progress = False
    ) -> list[np.ndarray]:
        """For each text, float32 ``[tokens, features]``, special tokens included.

        Raises:
            HeadError: the model gives no vector for each token.
            UsageError: a text is not a string, or there is no such prompt.
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
        """For each text or pair of texts, labels with their scores, the highest first.

        Args:
            texts: strings, or pairs of strings.
            top_k: labels wanted; None for all.
            raw_scores: give logits instead of probabilities. Regressions have no other.
            progress: True draws a bar, a function is called with (texts done, texts in all).

        Raises:
            HeadError: the model has no labels for texts.
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
        """(index, score) of texts, the best for the query first; of equal scores the earlier text.

        Args:
            query: first text of every pair.
            texts: the second ones.
            top_n: texts wanted; None for all.
            raw_scores: give logits instead of probabilities.
            progress: True draws a bar, a function is called with (texts done, texts in all).

        Raises:
            HeadError: the model does not give one score.
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
        """For each text, its labelled spans from left to right, without those labelled O.

        Args:
            texts: the texts. What is beyond `max_length` tokens gets no labels.
            aggregate: True or ``"first"``: a word has the label of its first token, and neighbouring words of one
                entity are one span. ``"simple"``: neighbouring tokens are, even inside a word. False or ``"none"``:
                a span for each token, with the label as it is, B- or I- included.
            progress: True draws a bar, a function is called with (texts done, texts in all).

        Returns:
            Spans whose start and end count characters, and whose score is the mean of their words' or tokens'.

        Raises:
            HeadError: the model has no labels for tokens.
            UsageError: a text is not a string, or `aggregate` is not known.
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
        """The spans of a context that answer a question, the best first.

        A context of any length is read in windows, which run together.

        Args:
            question: the question.
            context: the text that has the answer.
            top_k: answers wanted; there are fewer where the context has fewer spans.
            max_answer_length: tokens of an answer.
            stride: context tokens between the beginnings of two windows.
            null_threshold: put the answer "" first where the score of "no answer" is above that of the best span by
                more than this, in logits. None never does.

        Raises:
            HeadError: the model does not answer questions.
            UsageError: a text is not a string, the question leaves no room, or an option is out of range.
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
        """The tokens that fit best where a text has its mask token.

        Args:
            text: has the model's mask token, e.g. ``[MASK]``, once.
            top_k: tokens wanted.

        Raises:
            HeadError: the model does not predict tokens.
            UsageError: the text has no mask token or several, or `top_k` is out of range.
        """
        found: list[Filled] = self._method("fill_mask")(text, top_k=top_k)
        return found

    def tokenize(self, texts: Iterable[str | Pair], *, prompt: str | None = None) -> list[Encoded]:
        """Texts or pairs of texts as the model takes them, with tokens and offsets in `Encoded.encoding`.

        `embed`, `embed_sparse`, `embed_tokens`, `classify`, `tag` and `run` take the result in place of texts, so
        that a server can count tokens before it decides what runs together.

        Args:
            texts: strings, or pairs of strings.
            prompt: name of the prompt to put before each; None for the model's default, "" for none.

        Raises:
            UsageError: a text is neither a string nor a pair, or there is no such prompt.
        """
        return encode_prompted(self._core, self.head, texts, prompt, pairs=True, full=True)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of token ids.

        Raises:
            UsageError: an id is not a whole number from 0 on.
        """
        return self._core.tokenizer.decode(ids, skip_special=skip_special)

    def run(self, encodings: Sequence[Encoded]) -> list[dict[str, np.ndarray]]:
        """The session's outputs for each encoding, by name: float32, those per token without padding.

        Raises:
            UsageError: something else than results of `tokenize` is given, or the model is closed.
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
