"""The task type of SQuAD 1.1 and 2.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.features import Features, Outputs, check_fast_tokenizer
from aerogel.data.files import check_name, find_file
from aerogel.data.hub import Hub, is_saved_dataset
from aerogel.data.qa.metrics import score_v1, score_v2
from aerogel.data.qa.question import from_dataset, read_squad
from aerogel.data.qa.spans import Found, best_spans
from aerogel.data.qa.windows import encode
from aerogel.data.split import Split, TaskData
from aerogel.data.task import Task
from aerogel.errors import UsageError

__all__ = ["QuestionOptions", "QuestionTask"]


@dataclass(frozen=True)
class QuestionOptions:
    """Options of a question-answering task.

    Attributes:
        train: name of the training file; None for the published file's name.
        dev: name of the evaluation file; None for the published file's name.
        stride: context tokens from the start of one window to the start of the next.
        question_tokens: maximum tokens of a question; longer ones are truncated.
        longest_answer: maximum tokens of a predicted answer.
        n_best: number of starts and of ends that are combined in each window.
        null_threshold: version 2.0 predicts "no answer" if its score exceeds the best span's by more than this.
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
    """Extractive question answering over files in SQuAD's format.

    Attributes:
        train: name of the training file.
        dev: name of the evaluation file.
        hub: the same data on the hub.
        unanswerable: whether questions may have no answer, as in version 2.0.
        options: see `QuestionOptions`.
    """

    train: str
    dev: str
    hub: Hub
    unanswerable: bool = False
    options: QuestionOptions = QuestionOptions()

    head = "QuestionAnswering"
    outputs = ("start_logits", "end_logits")
    per_token = True

    def load(self, data: Path | None) -> TaskData:
        """Read the files in `data` or a dataset saved there; without `data`, load the dataset from the hub."""
        if data is None or is_saved_dataset(data):

            def parse(table: Any, where: str, train: bool) -> Split:
                return from_dataset(table, where, unanswerable=self.unanswerable, train=train)

            return self.hub.read(data, parse)

        def read(name: str, train: bool) -> Split:
            return read_squad(find_file(data, name), unanswerable=self.unanswerable, train=train)

        return TaskData(
            read(self.options.train or self.train, True), {"": read(self.options.dev or self.dev, False)}
        )

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """Configure two outputs: the start logit and the end logit."""
        del labels
        return {"num_labels": 2}

    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """Make one feature per window of each question."""
        check_fast_tokenizer(tokenizer, "question answering")
        return encode(split, tokenizer, max_length, self.options.stride, self.options.question_tokens)

    def predict(self, outputs: Outputs, features: Features) -> list[Found]:
        """Choose the best span of each question."""
        return best_spans(outputs, features, self.options.longest_answer, self.options.n_best)

    def measure(self, predictions: list[Found], split: Split) -> dict[str, float]:
        """Compute exact match and F1."""
        return (score_v2 if self.unanswerable else score_v1)(self.answers(predictions), split.labels)

    def answers(self, predictions: list[Found]) -> list[str]:
        """Return the predicted texts; "" means no answer."""
        if not self.unanswerable:
            return [found.text for found in predictions]
        return ["" if found.null > self.options.null_threshold else found.text for found in predictions]
