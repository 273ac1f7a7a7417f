"""Read tagged sentences from column files, as in the CoNLL shared tasks, and from the `datasets` library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerogel.data.hub import columns, fingerprint
from aerogel.data.tagging.entities import is_entity_tag
from aerogel.errors import DataError
from aerogel.system.text import Digest, read_lines

__all__ = ["Tagged", "read_columns", "read_dataset"]

_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Tagged:
    """The sentences of one file.

    Attributes:
        words: words of each sentence.
        tags: tags of each sentence, as in the file.
        locations: where each sentence begins, for messages.
        sha256: hash of the data.
    """

    words: list[tuple[str, ...]]
    tags: list[list[str]]
    locations: list[str]
    sha256: str


def read_columns(path: Path, token_column: int, tag_column: int, *, entities: bool) -> Tagged:
    """Read a file with one word per line, columns separated by blanks or tabs, and an empty line after each sentence.

    Lines that begin with -DOCSTART- separate documents and are skipped.

    Args:
        path: the file, gzipped if its name ends in .gz.
        token_column: column of the word, from 0, or from the end if negative.
        tag_column: column of the tag, counted likewise.
        entities: check that the tags are entity tags.

    Raises:
        DataError: too few columns, an invalid tag, no sentences, or not UTF-8; names file and line.
    """
    digest = hashlib.sha256()
    made = Tagged([], [], [], "")
    sentence: list[tuple[str, str]] = []
    for number, line in _lines(path, digest):
        fields = [field for field in re.split("[ \t]+", line) if field]
        if fields and fields[0] != _DOCUMENT:
            where = f"{path}:{number}"
            sentence.append(_word(fields, token_column, tag_column, where))
            if entities:
                _check_entity(sentence[-1][1], where)
            if len(sentence) == 1:
                made.locations.append(where)
        elif sentence:
            made.words.append(tuple(word for word, _ in sentence))
            made.tags.append([tag for _, tag in sentence])
            sentence = []
    if not made.words:
        raise DataError(f"{path} has no sentences; give a file with one word and its tag per line")
    return replace(made, sha256=digest.hexdigest())


def _lines(path: Path, digest: Digest) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of each line, then an empty line, which ends the last sentence."""
    number = 0
    for line in read_lines(path, whole=True, digest=digest):
        number = line.number
        yield number, line.text
    yield number + 1, ""


def _word(fields: list[str], token_column: int, tag_column: int, where: str) -> tuple[str, str]:
    """Return the word and the tag of one line."""
    count = len(fields)
    positions = [column if column >= 0 else count + column for column in (token_column, tag_column)]
    if not all(0 <= position < count for position in positions) or positions[0] == positions[1]:
        raise DataError(
            f"{where}: {count} columns, expected words in column {token_column} and tags in column {tag_column}; "
            "correct the line or set --task-option token_column and tag_column"
        )
    return fields[positions[0]], fields[positions[1]]


def _check_entity(tag: str, where: str) -> None:
    if not is_entity_tag(tag):
        raise DataError(
            f"{where}: tag {tag!r} must be O, or B-, I-, E- or S- and a type; correct it or use --task conll"
        )


def read_dataset(table: Any, where: str, words: str, tags: str) -> Tagged:
    """Read sentences from a ``datasets.Dataset`` with a column of words and one of entity tags or their indices.

    Raises:
        DataError: a column is missing or a row is not a tagged sentence; names the row.
    """
    sentences, rows = columns(table, (words, tags), where)
    feature = table.features[tags]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    made = Tagged([], [], [], fingerprint([sentences, rows, names]))
    for number, (sentence, row) in enumerate(zip(sentences, rows, strict=True)):
        location = f"{where}, row {number}"
        if not isinstance(sentence, list) or not isinstance(row, list) or len(sentence) != len(row):
            raise DataError(f"{location}: {words} and {tags} must be lists of equal length")
        if not all(isinstance(word, str) for word in sentence):
            raise DataError(f"{location}: {words} must be text")
        if not sentence:
            continue
        if names:
            if not all(type(tag) is int and 0 <= tag < len(names) for tag in row):
                raise DataError(f"{location}: {tags} must be from 0 to {len(names) - 1}")
            row = [names[tag] for tag in row]
        for tag in row:
            _check_entity(str(tag), location)
        made.words.append(tuple(sentence))
        made.tags.append(row)
        made.locations.append(location)
    if not made.words:
        raise DataError(f"{where} has no sentences; give a dataset with examples")
    return made
