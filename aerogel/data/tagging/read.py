"""Tagged sentences in column files, as in the CoNLL shared tasks, and in the `datasets` library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerogel.data.hub import columns, identity
from aerogel.data.tagging.entities import is_entity_tag
from aerogel.errors import DataError
from aerogel.system.text import Digest, read_lines

__all__ = ["Tagged", "read_columns", "read_dataset"]

_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Tagged:
    """The sentences of one file.

    Attributes:
        words: of each sentence.
        tags: as they stand in the file.
        places: where each sentence begins, for messages.
        sha256: identity of the data.
    """

    words: list[tuple[str, ...]]
    tags: list[list[str]]
    places: list[str]
    sha256: str


def read_columns(path: Path, token_column: int, tag_column: int, *, entities: bool) -> Tagged:
    """Read a file of one word a line, its columns apart by blanks or tabs, and an empty line after each sentence.

    Lines that begin with -DOCSTART- separate documents and are no words.

    Args:
        path: the file; one ending in .gz is unpacked.
        token_column: column of the word, from 0, or from the end if negative.
        tag_column: column of its tag.
        entities: demand tags of entities.

    Raises:
        DataError: too few columns, a tag that is none, no sentences, or not UTF-8; names file and line.
    """
    digest = hashlib.sha256()
    made = Tagged([], [], [], "")
    sentence: list[tuple[str, str]] = []
    for number, line in _lines(path, digest):
        fields = [field for field in re.split("[ \t]+", line) if field]
        if fields and fields[0] != _DOCUMENT:
            place = f"{path}:{number}"
            sentence.append(_word(fields, token_column, tag_column, place))
            if entities:
                _check_entity(sentence[-1][1], place)
            if len(sentence) == 1:
                made.places.append(place)
        elif sentence:
            made.words.append(tuple(word for word, _ in sentence))
            made.tags.append([tag for _, tag in sentence])
            sentence = []
    if not made.words:
        raise DataError(f"{path} has no sentences; give a file of a word and its tag a line")
    return replace(made, sha256=digest.hexdigest())


def _lines(path: Path, digest: Digest) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of each line, and an empty line at the end, which ends the last sentence."""
    number = 0
    for line in read_lines(path, whole=True, digest=digest):
        number = line.number
        yield number, line.text
    yield number + 1, ""


def _word(fields: list[str], token_column: int, tag_column: int, place: str) -> tuple[str, str]:
    count = len(fields)
    positions = [at if at >= 0 else count + at for at in (token_column, tag_column)]
    if not all(0 <= at < count for at in positions) or positions[0] == positions[1]:
        raise DataError(
            f"{place}: {count} columns, and words are to be in column {token_column} and tags in {tag_column}; "
            "correct the line or choose columns with --task-option"
        )
    return fields[positions[0]], fields[positions[1]]


def _check_entity(tag: str, place: str) -> None:
    if not is_entity_tag(tag):
        raise DataError(
            f"{place}: tag {tag!r} is neither O nor B-, I-, E- or S- and a type; correct it or use --task conll"
        )


def read_dataset(table: Any, place: str, words: str, tags: str) -> Tagged:
    """Sentences of a ``datasets.Dataset`` with a column of words and one of entity tags, names or class indices.

    Raises:
        DataError: a column is missing or a row is not a tagged sentence; names the row.
    """
    sentences, rows = columns(table, (words, tags), place)
    feature = table.features[tags]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    made = Tagged([], [], [], identity([sentences, rows, names]))
    for number, (sentence, row) in enumerate(zip(sentences, rows, strict=True)):
        where = f"{place}, row {number}"
        if not isinstance(sentence, list) or not isinstance(row, list) or len(sentence) != len(row):
            raise DataError(f"{where}: {words} and {tags} must be lists of one length")
        if not all(isinstance(word, str) for word in sentence):
            raise DataError(f"{where}: {words} must be text")
        if not sentence:
            continue
        if names:
            if not all(type(tag) is int and 0 <= tag < len(names) for tag in row):
                raise DataError(f"{where}: {tags} must be from 0 to {len(names) - 1}")
            row = [names[tag] for tag in row]
        for tag in row:
            _check_entity(str(tag), where)
        made.words.append(tuple(sentence))
        made.tags.append(row)
        made.places.append(where)
    if not made.words:
        raise DataError(f"{place} has no sentences")
    return made
