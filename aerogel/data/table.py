"""Tasks in table form: tab-separated files, plain or gzipped, or a dataset of the `datasets` library."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerogel.data.files import find_file
from aerogel.data.hub import HubTable, is_saved_dataset
from aerogel.data.sequence import Metrics, SequenceTask
from aerogel.data.split import Split, TaskData
from aerogel.errors import DataError
from aerogel.system.text import Digest, read_lines

__all__ = ["TableTask"]


@dataclass(frozen=True)
class TableTask(SequenceTask):
    """A task declared by its files and columns.

    Attributes:
        texts: columns of the sentence or the two sentences.
        label: column of the label.
        labels: label values in files, by class index; None for a regression.
        metrics: see `SequenceTask`.
        hub: the same data on the hub.
        train: name of the training file, which may also end in ``.gz``.
        evaluation: (name of the split, name of its file).
        header: column names, if the file has no header line.
        value_range: accepted values of a regression.
        skip_ragged: skip rows with a wrong number of fields instead of rejecting the file. For data that is published
            with such rows.
    """

    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...] | None
    metrics: Metrics
    hub: HubTable
    train: str = "train.tsv"
    evaluation: tuple[tuple[str, str], ...] = (("", "dev.tsv"),)
    header: tuple[str, ...] | None = None
    value_range: tuple[float, float] = (-math.inf, math.inf)
    skip_ragged: bool = False

    def load(self, data: Path | None) -> TaskData:
        """Read the files in `data` or a dataset saved there; without `data`, load the dataset from the hub."""
        if data is None or is_saved_dataset(data):
            return self.hub.load(data, self.labels, self.value_range)
        return TaskData(
            train=self._read(data, self.train),
            evaluation={split: self._read(data, name) for split, name in self.evaluation},
        )

    def _read(self, folder: Path, name: str) -> Split:
        """Read one file.

        Lines are rows and tabs separate fields. Quotes have no special meaning, as in all GLUE files.
        """
        path = find_file(folder, name)
        digest = hashlib.sha256()
        rows = _rows(path, digest)
        header = self.header or next(rows, (0, ()))[1]
        if not header:
            raise DataError(
                f"{path} is empty; give a file with the columns {', '.join((*self.texts, self.label))}"
            )
        positions = [_position(path, header, column) for column in (*self.texts, self.label)]
        texts: list[tuple[str, ...]] = []
        labels: list[float] = []
        skipped = 0
        for line, fields in rows:
            if len(fields) != len(header):
                if self.skip_ragged:
                    skipped += 1
                    continue
                raise DataError(
                    f"{path}:{line}: expected {len(header)} fields, found {len(fields)}; correct the line"
                )
            *sentences, label = (fields[position] for position in positions)
            texts.append(tuple(sentences))
            labels.append(self._parse_label(label, f"{path}:{line}"))
        if not labels:
            raise DataError(f"{path} has no rows; give a file with examples")
        return Split(texts, labels, digest.hexdigest(), self.labels, skipped)

    def _parse_label(self, text: str, where: str) -> float:
        """Return the class index, or the value of a regression; `where` is the file and line, for messages."""
        if self.labels is not None:
            if text not in self.labels:
                raise DataError(
                    f"{where}: label {text!r} is not one of {', '.join(self.labels)}; "
                    f"write one of these in column {self.label!r}"
                )
            return self.labels.index(text)
        low, high = self.value_range
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise DataError(
                f"{where}: label {text!r} is not a number from {low:g} to {high:g}; "
                f"write such a number in column {self.label!r}"
            )
        return value


def _rows(path: Path, digest: Digest) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number, from 1, and the fields of each non-empty line; update `digest` with the file's bytes."""
    for line in read_lines(path, whole=True, digest=digest):
        if line.text:
            yield line.number, line.text.split("\t")


def _position(path: Path, header: Sequence[str], column: str) -> int:
    if column not in header:
        raise DataError(f"{path} has no column {column!r}; its columns are {', '.join(header)}")
    return list(header).index(column)
