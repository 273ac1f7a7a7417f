"""A loaded model: texts in, results out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import HeadError
from aerogel.model.artifact import Artifact
from aerogel.model.batch import Batch, Call
from aerogel.model.core import Core
from aerogel.model.derive import Port
from aerogel.model.head import HEADS, Head
from aerogel.model.heads._vectors import encode_prompted, prompt_text
from aerogel.model.progress import Progress
from aerogel.model.results import Answer, Filled, Label, Ranked, Span, Sparse
from aerogel.model.task import Task
from aerogel.model.texts import Pair, check_texts
from aerogel.model.tokenizer import Encoded, Token

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Model"]

# Outputs of rank 2 whose second dimension is the tokens.
_PER_TOKEN = ("start_logits", "end_logits")


class Model:
    """A loaded model. Its methods may be called from several threads.

    The head decides which methods a model has; `methods` lists them, and any other raises HeadError. Texts are strings
    or results of `tokenize`. The result for a text does not depend on the other texts, their order or the number
    of threads: to the bit if the encoder is fused, else up to rounding.

    Attributes:
        path: the .onnx file.
        name: name of the model's folder.
        head: description of the head.
        methods: names of the methods for this head.
        max_length: longest sequence in tokens, special tokens included; longer texts are truncated.
        threads: threads of one call, or None for one per core.
        density: kept fraction of the pruned matrices' weights, or None without a manifest.
        fused: whether the encoder is one node, which skips padding.
        max_rows: largest number of texts in a batch, or None without a limit.
        max_batch_tokens: largest number of tokens in a batch.
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
        self.max_rows = core.max_rows
        self.max_batch_tokens = core.max_tokens(self._task.outputs())
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
        found: np.ndarray = self._run(
            "embed",
            progress,
            texts,
            prompt=prompt,
            normalize=normalize,
            dimensions=dimensions,
            pooling=pooling,
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
        found: list[Sparse] = self._run("embed_sparse", progress, texts, prompt=prompt)
        return found

    def embed_tokens(
        self, texts: Iterable[str | Encoded], *, prompt: str | None = None, progress: Progress = False
    ) -> list[np.ndarray]:
        """Embed tokens: float32 ``[tokens, features]`` per text, special tokens included.

        Raises:
            HeadError: the model does not compute token vectors.
            UsageError: a text is not a string, or the prompt is unknown.
        """
        found: list[np.ndarray] = self._run("embed_tokens", progress, texts, prompt=prompt)
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
        found: list[list[Label]] = self._run("classify", progress, texts, top_k=top_k, raw_scores=raw_scores)
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
        found: list[Ranked] = self._run("rerank", progress, query, texts, top_n=top_n, raw_scores=raw_scores)
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
        found: list[list[Span]] = self._run("tag", progress, texts, aggregate=aggregate)
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
        found: list[Answer] = self._run(
            "answer",
            False,
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
        found: list[Filled] = self._run("fill_mask", False, text, top_k=top_k)
        return found

    def tokenize(
        self, texts: Iterable[str | Pair], *, prompt: str | None = None, side: str | None = None
    ) -> list[Encoded]:
        """Tokenize texts or pairs of texts; tokens and offsets are in `Encoded.encoding`.

        `embed`, `embed_sparse`, `embed_tokens`, `classify`, `tag` and `run` accept the result instead of texts, so
        that a server can count tokens before it forms batches.

        Args:
            texts: strings, or pairs of strings.
            prompt: name of the prompt to put before each text; None for the model's default, "" for no prompt.
            side: "left" or "right", where long texts are truncated; None for the side in the model's files.

        Raises:
            UsageError: a text is neither a string nor a pair, or the prompt is unknown.
        """
        return encode_prompted(self._core, self.head, texts, prompt, pairs=True, full=True, side=side)

    def encode_ids(self, ids: Sequence[Sequence[int]]) -> list[Encoded]:
        """Texts given as token ids, special tokens included; long ones are truncated.

        Raises:
            UsageError: an id is not one of the vocabulary.
        """
        return self._core.tokenizer.encode_ids(ids)

    def tokens(
        self, texts: Iterable[str], *, prompt: str | None = None, special: bool = True
    ) -> list[list[Token]]:
        """All tokens of texts, without truncation.

        Args:
            texts: the texts.
            prompt: name of the prompt to put before each text; None for the model's default, "" for no prompt.
            special: include the tokens that the model adds.

        Raises:
            UsageError: a text is not a string, or the prompt is unknown.
        """
        before = prompt_text(self.head, prompt)
        return [self._core.tokenizer.tokens(before + text, special=special) for text in check_texts(texts)]

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
                shape = np.shape(batch.arrays[output])
                per_token = shape[1] == batch.longest and (len(shape) == 3 or name in _PER_TOKEN)
                for row, array in batch.each_token(output) if per_token else batch.each(output):
                    found[row][name] = array.copy()
        return found

    def prepare(self, method: str, *args: Any, **options: Any) -> Call:
        """Check and tokenize the arguments of a method, without running the model.

        For servers, which run the texts of several calls in one batch: `run_batch` runs the texts, and `Call.finish`
        returns what the method returns.

        Args:
            method: name of a method in `methods`.
            args: arguments of the method.
            options: options of the method, without progress.

        Raises:
            HeadError: the model does not have the method.
            UsageError: an argument is out of range.
        """
        if method not in self.methods:
            raise HeadError(
                f"{self.path} has a head of kind {self.head.kind} and no {method}(); "
                f"it has {', '.join(self.methods)}"
            )
        call: Call = getattr(self._task, method)(*args, **options)
        return call

    def run_batch(
        self, encoded: Sequence[Encoded], session: onnxruntime.InferenceSession | None = None
    ) -> Batch:
        """Run the texts of prepared calls as one batch, at most `max_rows` and of equal length unless `fused`.

        The results for a text are those of its method, to the bit, if the model is fused.

        Args:
            encoded: texts of `Call.encoded`.
            session: another session of the model's file; None for the model's own.

        Raises:
            UsageError: the model is closed.
            ArtifactError: the session fails, or an output has a shape that the head cannot read.
        """
        return self._task.check(self._core.run_batch(encoded, self._task.outputs(), session))

    def run_arrays(
        self, feed: Mapping[str, np.ndarray], outputs: Sequence[str], session: Any = None
    ) -> list[np.ndarray]:
        """Run arrays by input name, without a tokenizer; returns the outputs as the session gives them.

        Raises:
            UsageError: the model is closed, or cannot run arrays of these shapes.
        """
        return self._core.run_arrays(feed, outputs, session)

    def ports(self) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs of the session: name, ONNX type, and shape with None for sizes that vary."""
        return list(self._core.inputs.values()), list(self._core.outputs.values())

    def _run(self, method: str, progress: Progress, *args: Any, **options: Any) -> Any:
        return self._task.run(self.prepare(method, *args, **options), progress)
