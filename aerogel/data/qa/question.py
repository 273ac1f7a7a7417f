"""Read questions from SQuAD's JSON files and from the `datasets` library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.hub import columns, fingerprint
from aerogel.data.split import Split
from aerogel.errors import DataError
from aerogel.system.json_fields import MalformedJsonError, parse
from aerogel.system.text import decode, read_bytes

__all__ = ["Question", "from_dataset", "read_squad"]


@dataclass(frozen=True)
class Question:
    """True answers to one question. The row's text is the pair (question, context).

    Attributes:
        id: id of the question, unique in its file.
        answers: true answers; empty if the context has no answer.
        start: character offset of the first answer in the context; 0 without answers.
    """

    id: str
    answers: tuple[str, ...]
    start: int = 0


class _Rows:
    """Collect the questions of one file.

    Args:
        unanswerable: whether a question may have no answer, as in version 2.0.
        train: skip questions whose answer is not at its `answer_start`, because training needs the position.
            Evaluation keeps them, because metrics compare texts.
    """

    def __init__(self, *, unanswerable: bool, train: bool) -> None:
        self.unanswerable, self.train = unanswerable, train
        self.texts: list[tuple[str, str]] = []
        self.questions: list[Question] = []
        self.seen: set[str] = set()
        self.skipped = 0

    def add(
        self,
        where: str,
        id: Any,
        question: Any,
        context: Any,
        answers: list[tuple[Any, Any]],
        is_impossible: Any,
    ) -> None:
        """Check and keep one question.

        Args:
            where: location in the data, for messages.
            id: id of the question.
            question: text of the question.
            context: text of the context.
            answers: (text, answer_start) of each true answer.
            is_impossible: the field of that name in version 2.0; None if it is absent.

        Raises:
            DataError: a field is invalid or contradicts another.
        """
        for field, value in (("id", id), ("question", question), ("context", context)):
            if not isinstance(value, str):
                raise DataError(f"{where}: {field!r} is not text; correct the file")
            _check_surrogates(where, field, value)
        if id in self.seen:
            raise DataError(f"{where}: id {id!r} occurs twice; make ids unique")
        self.seen.add(id)
        for text, start in answers:
            if not isinstance(text, str) or type(start) is not int:
                raise DataError(f"{where}: an answer must have a string 'text' and an integer 'answer_start'")
            _check_surrogates(where, "text", text)
            if not 0 <= start < max(1, len(context)):
                raise DataError(
                    f"{where}: answer_start {start} is outside the context, which has {len(context)} characters"
                )
        if not answers and not self.unanswerable:
            raise DataError(f"{where}: no answers; use --task squad-v2 for data with unanswerable questions")
        if is_impossible is not None and is_impossible is not (not answers):
            raise DataError(
                f"{where}: is_impossible {is_impossible!r} contradicts {len(answers)} answers; correct one of them"
            )
        start = answers[0][1] if answers else 0
        if self.train and answers and context[start : start + len(answers[0][0])] != answers[0][0]:
            self.skipped += 1
            return
        self.texts.append((question, context))
        self.questions.append(Question(id, tuple(text for text, _ in answers), start))

    def split(self, where: str, sha256: str) -> Split:
        if not self.questions:
            reason = (
                f": {self.skipped} were skipped, no answer is at its answer_start" if self.skipped else ""
            )
            raise DataError(f"{where} has no usable questions{reason}")
        return Split(self.texts, self.questions, sha256, skipped=self.skipped)


def _check_surrogates(where: str, field: str, text: str) -> None:
    """Reject half of a surrogate pair. JSON can contain one, but it is not a character and breaks tokenizers."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: {field!r} has half of a surrogate pair at character {error.start}; correct the text"
        ) from error


def read_squad(path: Path, *, unanswerable: bool, train: bool) -> Split:
    """Read a file in the format of SQuAD 1.1 or 2.0, gzipped if its name ends in .gz.

    Args:
        path: the file.
        unanswerable: whether questions may have no answer.
        train: skip and count questions whose first answer is not at its `answer_start`.

    Raises:
        DataError: the file is not UTF-8, not JSON or not in this format; names the location in the file.
    """
    raw = read_bytes(path)
    try:
        document = parse(decode(path, raw))
    except MalformedJsonError as error:
        raise DataError(
            f"{path} is not valid JSON ({error}); download it again or give another file"
        ) from error
    rows = _Rows(unanswerable=unanswerable, train=train)
    for article, article_path in _items(document, "data", str(path)):
        for paragraph, paragraph_path in _items(article, "paragraphs", article_path):
            for entry, where in _items(paragraph, "qas", paragraph_path):
                answers = [
                    (answer.get("text"), answer.get("answer_start"))
                    for answer, _ in _items(entry, "answers", where)
                ]
                rows.add(
                    where, entry.get("id"), entry.get("question"), paragraph.get("context"), answers,
                    entry.get("is_impossible"),
                )  # fmt: skip
    return rows.split(str(path), hashlib.sha256(raw).hexdigest())


def _items(parent: Any, name: str, where: str) -> list[tuple[dict[str, Any], str]]:
    """Return the objects in list `name` of `parent`, each with its location in the file."""
    found = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{where} has no list {name!r}; give a file in SQuAD's format")
    result = []
    for number, item in enumerate(found):
        item_path = f"{where}: {name}[{number}]" if ": " not in where else f"{where}.{name}[{number}]"
        if not isinstance(item, dict):
            raise DataError(f"{item_path} is not an object; give a file in SQuAD's format")
        result.append((item, item_path))
    return result


def from_dataset(table: Any, where: str, *, unanswerable: bool, train: bool) -> Split:
    """Read the questions of a ``datasets.Dataset`` with the columns of `rajpurkar/squad`.

    Raises:
        DataError: a column is missing or a row is not a question; names the row.
    """
    ids, questions, contexts, answers = columns(table, ("id", "question", "context", "answers"), where)
    rows = _Rows(unanswerable=unanswerable, train=train)
    for number, (id, question, context, given) in enumerate(
        zip(ids, questions, contexts, answers, strict=True)
    ):
        row = f"{where}, row {number}"
        texts, starts = (
            given.get(key) if isinstance(given, dict) else None for key in ("text", "answer_start")
        )
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError(f"{row}: answers must have lists text and answer_start of equal length")
        rows.add(row, id, question, context, list(zip(texts, starts, strict=True)), None)
    return rows.split(where, fingerprint([ids, questions, contexts, answers]))
