"""Questions, and how they stand in SQuAD's JSON files and in the `datasets` library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.hub import columns, identity
from aerogel.data.split import Split
from aerogel.errors import DataError
from aerogel.system.json_fields import MalformedJsonError, parse
from aerogel.system.text import decode, read_bytes

__all__ = ["Question", "from_dataset", "read_squad"]


@dataclass(frozen=True)
class Question:
    """What is right for one row; its text is the pair (question, context).

    Attributes:
        id: of the question, unique in its file.
        answers: true answers; none where the context has no answer.
        start: character of the context where the first answer begins; 0 without answers.
    """

    id: str
    answers: tuple[str, ...]
    start: int = 0


class _Rows:
    """Collects the questions of one file.

    Args:
        unanswerable: whether a question may have no answer, as in version 2.0.
        train: leave out questions whose answer does not stand where it is said to, as there is nothing to learn from
            them. Metrics compare texts, so evaluation keeps them.
    """

    def __init__(self, *, unanswerable: bool, train: bool) -> None:
        self.unanswerable, self.train = unanswerable, train
        self.texts: list[tuple[str, str]] = []
        self.questions: list[Question] = []
        self.seen: set[str] = set()
        self.left_out = 0

    def add(
        self, place: str, name: Any, question: Any, context: Any, answers: list[tuple[Any, Any]], says: Any
    ) -> None:
        """Check and keep one question; `answers` are (text, start), `says` is is_impossible or None."""
        for what, value in (("id", name), ("question", question), ("context", context)):
            if not isinstance(value, str):
                raise DataError(f"{place}: {what!r} is not text; correct the file")
            _demand_characters(place, what, value)
        if name in self.seen:
            raise DataError(f"{place}: id {name!r} occurs twice; give every question its own")
        self.seen.add(name)
        for text, start in answers:
            if not isinstance(text, str) or type(start) is not int:
                raise DataError(f"{place}: an answer must be a text and a whole number, its 'answer_start'")
            _demand_characters(place, "text", text)
            if not 0 <= start < max(1, len(context)):
                raise DataError(
                    f"{place}: answer_start {start} is outside of the context of {len(context)} characters"
                )
        if not answers and not self.unanswerable:
            raise DataError(f"{place}: no answers; data with unanswerable questions is for --task squad-v2")
        if says is not None and says is not (not answers):
            raise DataError(
                f"{place}: is_impossible {says!r} contradicts {len(answers)} answers; correct one of them"
            )
        start = answers[0][1] if answers else 0
        if self.train and answers and context[start : start + len(answers[0][0])] != answers[0][0]:
            self.left_out += 1
            return
        self.texts.append((question, context))
        self.questions.append(Question(name, tuple(text for text, _ in answers), start))

    def split(self, place: str, sha256: str) -> Split:
        if not self.questions:
            wrong = (
                f"; of {self.left_out}, none has its answer where it is said to be" if self.left_out else ""
            )
            raise DataError(f"{place} has no questions{wrong}")
        return Split(self.texts, self.questions, sha256, left_out=self.left_out)


def _demand_characters(place: str, what: str, text: str) -> None:
    """JSON can spell half of a surrogate pair, which is no character and which tokenizers do not take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: {what!r} has half of a surrogate pair at character {error.start}; correct the text"
        ) from error


def read_squad(path: Path, *, unanswerable: bool, train: bool) -> Split:
    """Read a file in the layout of SQuAD 1.1 or 2.0; a name ending in .gz is unpacked.

    Args:
        path: the file.
        unanswerable: whether questions may have no answer.
        train: leave out, and count, questions whose first answer does not stand at its `answer_start`.

    Raises:
        DataError: not UTF-8, not JSON, or not of that layout; names the place in the file.
    """
    raw = read_bytes(path)
    try:
        document = parse(decode(path, raw))
    except MalformedJsonError as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); give the whole file") from error
    rows = _Rows(unanswerable=unanswerable, train=train)
    for article, at in _items(document, "data", str(path)):
        for paragraph, below in _items(article, "paragraphs", at):
            for entry, place in _items(paragraph, "qas", below):
                answers = [
                    (answer.get("text"), answer.get("answer_start"))
                    for answer, _ in _items(entry, "answers", place)
                ]
                rows.add(
                    place, entry.get("id"), entry.get("question"), paragraph.get("context"), answers,
                    entry.get("is_impossible"),
                )  # fmt: skip
    return rows.split(str(path), hashlib.sha256(raw).hexdigest())


def _items(parent: Any, name: str, place: str) -> list[tuple[dict[str, Any], str]]:
    """The objects in list `name` of an object, each with its place in the file."""
    found = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{place} has no list {name!r}; the file is not in SQuAD's layout")
    result = []
    for number, item in enumerate(found):
        below = f"{place}: {name}[{number}]" if ": " not in place else f"{place}.{name}[{number}]"
        if not isinstance(item, dict):
            raise DataError(f"{below} is not an object; the file is not in SQuAD's layout")
        result.append((item, below))
    return result


def from_dataset(table: Any, place: str, *, unanswerable: bool, train: bool) -> Split:
    """Questions of a ``datasets.Dataset`` with the columns of `rajpurkar/squad`.

    Raises:
        DataError: a column is missing or a row is not a question; names the row.
    """
    names, questions, contexts, answers = columns(table, ("id", "question", "context", "answers"), place)
    rows = _Rows(unanswerable=unanswerable, train=train)
    for number, (name, question, context, given) in enumerate(
        zip(names, questions, contexts, answers, strict=True)
    ):
        where = f"{place}, row {number}"
        texts, starts = (
            given.get(key) if isinstance(given, dict) else None for key in ("text", "answer_start")
        )
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError(f"{where}: answers must have lists text and answer_start of one length")
        rows.add(where, name, question, context, list(zip(texts, starts, strict=True)), None)
    return rows.split(place, identity([names, questions, contexts, answers]))
