"""Tasks in the `datasets` library: from the hub, or from a directory that ``save_to_disk`` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.split import Split, TaskData
from aerogel.errors import DataError, require

__all__ = ["Hub", "HubTable", "columns", "identity", "is_saved_dataset"]


@dataclass(frozen=True)
class Hub:
    """A dataset of the `datasets` library.

    Attributes:
        path: dataset on the hub, or the absolute path of a folder of data files.
        name: configuration of the dataset.
        evaluation: (split of the task, split of the dataset).
    """

    path: str
    name: str | None = None
    evaluation: tuple[tuple[str, str], ...] = (("", "validation"),)

    def read(self, saved: Path | None, parse: Callable[[Any, str, bool], Split]) -> TaskData:
        """Load from directory `saved`, or from the hub if that is None.

        Args:
            saved: directory of a saved DatasetDict.
            parse: makes a split of a ``datasets.Dataset``, what to call it in messages, and whether it is for training.

        Raises:
            DataError: not reachable, a split is not what the task needs, or a folder with the name of the hub dataset
                is in the current one: the library would read the folder.
        """
        datasets = require("datasets", "train")
        source = str(saved or self.path)
        if saved is None and not Path(self.path).is_absolute() and Path(self.path).exists():
            raise DataError(
                f"{Path(self.path).absolute()} has the name of the hub dataset {self.path} and would be read in its "
                "place; give its files with --data, or run in another folder"
            )
        try:
            if saved:
                found = datasets.load_from_disk(source)
            else:
                found = datasets.load_dataset(self.path, self.name, trust_remote_code=False)
        except Exception as error:  # the library raises errors of many packages without a common base
            action = "save it again" if saved else "give a directory of its files, or check the network"
            raise DataError(
                f"dataset {source} cannot be loaded ({type(error).__name__}: {error}); {action}"
            ) from error
        if not isinstance(found, datasets.DatasetDict):
            raise DataError(f"dataset {source} has no named splits; save a DatasetDict with a split 'train'")

        def split(name: str, train: bool) -> Split:
            place = f"dataset {source}, split {name!r}"
            if name not in found:
                raise DataError(f"{place} is missing; it has {', '.join(found)}")
            return parse(found[name], place, train)

        return TaskData(
            split("train", True), {ours: split(theirs, False) for ours, theirs in self.evaluation}
        )


def columns(table: Any, names: tuple[str, ...], place: str) -> list[list[Any]]:
    """Columns of a ``datasets.Dataset`` as lists.

    Raises:
        DataError: one is missing, or they have no rows.
    """
    for name in names:
        if name not in table.column_names:
            raise DataError(
                f"{place} has no column {name!r}; its columns are {', '.join(table.column_names)}"
            )
    if not len(table):
        raise DataError(f"{place} has no rows")
    return [list(table[name]) for name in names]


def identity(rows: Any) -> str:
    """SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class HubTable:
    """Where a task of sentences is found, and how its columns are called there.

    Attributes:
        texts: columns of the sentence or the two sentences.
        name: configuration of the dataset.
        path: see `Hub`.
        label: column of the label.
        evaluation: (split of the task, split of the dataset).
        classes: what the classes are called there, in the order of the task's; None where they have the task's names.
    """

    texts: tuple[str, ...]
    name: str | None
    path: str = "nyu-mll/glue"
    label: str = "label"
    evaluation: tuple[tuple[str, str], ...] = (("", "validation"),)
    classes: tuple[str, ...] | None = None

    def load(
        self, saved: Path | None, labels: tuple[str, ...] | None, value_range: tuple[float, float]
    ) -> TaskData:
        """Load from directory `saved`, or from the hub if that is None.

        Args:
            saved: directory of a saved DatasetDict.
            labels: class names; the dataset's labels are their indices, or those of names of its own for them.
                None for a regression.
            value_range: accepted values of a regression.

        Raises:
            DataError: not reachable, or a split, column or label is not what the task needs.
        """

        def parse(table: Any, place: str, train: bool) -> Split:
            del train
            return self._split(table, place, labels, value_range)

        return Hub(self.path, self.name, self.evaluation).read(saved, parse)

    def _split(
        self, table: Any, place: str, labels: tuple[str, ...] | None, value_range: tuple[float, float]
    ) -> Split:
        *sentences, values = columns(table, (*self.texts, self.label), place)
        texts = list(zip(*sentences, strict=True))
        low, high = (0, len(labels) - 1) if labels else value_range
        for row, (parts, value) in enumerate(zip(texts, values, strict=True)):
            whole = labels is None or isinstance(value, int)
            if not isinstance(value, (int, float)) or not low <= value <= high or not whole:
                allowed = ", ".join(map(str, range(len(labels)))) if labels else f"from {low:g} to {high:g}"
                raise DataError(
                    f"{place}, row {row}: label {value!r} is not {'one of ' * bool(labels)}{allowed}; "
                    "save the dataset with such labels"
                )
            if not all(isinstance(part, str) for part in parts):
                raise DataError(f"{place}, row {row}: {', '.join(self.texts)} must be text")
        if labels is None:
            values = [float(value) for value in values]
        else:
            order = self._order(table, place, labels)
            values = [order[value] for value in values]
        return Split(texts, values, identity([texts, values]), labels)

    def _order(self, table: Any, place: str, labels: tuple[str, ...]) -> list[int]:
        """The task's index of each class, by the dataset's index: a dataset that names its classes may order them."""
        names = getattr(table.features[self.label], "names", None) or list(labels)
        for known in (labels, self.classes or labels):
            if sorted(names) == sorted(known):
                return [known.index(name) for name in names]
        raise DataError(
            f"{place}: its classes are {', '.join(names)}, those of the task {', '.join(self.classes or labels)}; "
            "name them so"
        )


def is_saved_dataset(path: Path) -> bool:
    """Whether directory `path` was written by ``DatasetDict.save_to_disk``."""
    return (path / "dataset_dict.json").is_file()
