"""SQuAD as a task, version 1.1 or 2.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.features import Features, Outputs, fast
from aerogel.data.files import check_name, find_file
from aerogel.data.hub import Hub, is_saved_dataset
from aerogel.data.qa.metrics import score_v1, score_v2
from aerogel.data.qa.question import from_dataset, read_squad
from aerogel.data.qa.spans import Found, best_spans
from aerogel.data.qa.windows import encode
from aerogel.data.split import Split, TaskData
from aerogel.data.task import Task
from aerogel.errors import UsageError

__all__ = ["Options", "QuestionTask"]


@dataclass(frozen=True)
class Options:
    """Options of a question-answering task.

    Attributes:
        train: name of the training file; None for the published one's.
        dev: name of the evaluation file.
        stride: context tokens between the beginnings of two windows over a long context.
        question_tokens: longer questions are cut.
        longest_answer: tokens of a predicted answer at most.
        n_best: starts and ends of each window that are looked at.
        null_threshold: version 2.0: "no answer" is predicted where its score exceeds the best span's by more.
    """

    train: str | None = None
    dev: str | None = None
    stride: int = 128
    question_tokens: int = 64
    longest_answer: int = 30
    n_best: int = 20
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("stride", "question_tokens", "longest_answer", "n_best"):
            if getattr(self, name) < 1:
                raise UsageError(f"--task-option {name}={getattr(self, name)}: must be at least 1")
        check_name("train", self.train)
        check_name("dev", self.dev)


@dataclass(frozen=True)
class QuestionTask(Task):
    """Extractive question answering over files in SQuAD's layout.

    Attributes:
        train: name of the training file.
        dev: name of the evaluation file.
        hub: the same in the `datasets` library.
        unanswerable: whether questions may have no answer, as in version 2.0.
        options: see `Options`.
    """

    train: str
    dev: str
    hub: Hub
    unanswerable: bool = False
    options: Options = Options()

    head = "QuestionAnswering"
    outputs = ("start_logits", "end_logits")
    per_token = True

    def load(self, data: Path | None) -> TaskData:
        """Read the files of directory `data`, a dataset saved there, or, without one, the dataset of the hub."""
        if data is None or is_saved_dataset(data):

            def parse(table: Any, place: str, train: bool) -> Split:
                return from_dataset(table, place, unanswerable=self.unanswerable, train=train)

            return self.hub.read(data, parse)

        def read(name: str, train: bool) -> Split:
            return read_squad(find_file(data, name), unanswerable=self.unanswerable, train=train)

        return TaskData(
            read(self.options.train or self.train, True), {"": read(self.options.dev or self.dev, False)}
        )

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """A logit for the start and one for the end."""
        del labels
        return {"num_labels": 2}

    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """A feature for each window of each question."""
        fast(tokenizer, "question answering")
        return encode(split, tokenizer, max_length, self.options.stride, self.options.question_tokens)

    def predict(self, outputs: Outputs, features: Features) -> list[Found]:
        """The best span of each question."""
        return best_spans(outputs, features, self.options.longest_answer, self.options.n_best)

    def measure(self, predictions: list[Found], split: Split) -> dict[str, float]:
        """Exact match and F1."""
        return (score_v2 if self.unanswerable else score_v1)(self.answers(predictions), split.labels)

    def answers(self, predictions: list[Found]) -> list[str]:
        """The texts that count; "" for no answer."""
        if not self.unanswerable:
            return [found.text for found in predictions]
        return ["" if found.null > self.options.null_threshold else found.text for found in predictions]
