"""Load tasks with the `datasets` library: from the hub, or from a directory that ``save_to_disk`` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.split import Split, TaskData
from aerogel.errors import DataError, require

__all__ = ["Hub", "HubTable", "columns", "fingerprint", "is_saved_dataset"]


@dataclass(frozen=True)
class Hub:
    """A dataset of the `datasets` library.

    Attributes:
        path: id of the dataset on the hub, or the absolute path of a folder of data files.
        name: configuration of the dataset.
        evaluation: (name of the task's split, name of the dataset's split).
    """

    path: str
    name: str | None = None
    evaluation: tuple[tuple[str, str], ...] = (("", "validation"),)

    def read(self, saved: Path | None, parse: Callable[[Any, str, bool], Split]) -> TaskData:
        """Load a saved dataset or download one from the hub.

        Args:
            saved: directory of a saved DatasetDict; without it, the hub is used.
            parse: makes a split from a ``datasets.Dataset``, its name for messages, and whether it is for training.

        Raises:
            DataError: the dataset cannot be loaded, or a split is not what the task needs; or the current directory has
                a folder with the name of the hub dataset, which the library would read instead.
        """
        datasets = require("datasets", "train")
        source = str(saved or self.path)
        if saved is None and not Path(self.path).is_absolute() and Path(self.path).exists():
            raise DataError(
                f"{Path(self.path).absolute()} has the name of the hub dataset {self.path} and would be read instead; "
                "pass its files with --data, or run in another directory"
            )
        try:
            if saved:
                found = datasets.load_from_disk(source)
            else:
                found = datasets.load_dataset(self.path, self.name, trust_remote_code=False)
        except Exception as error:  # datasets raises errors of many packages that share no base class
            action = "save it again" if saved else "give a directory of its files, or check the network"
            raise DataError(
                f"cannot load dataset {source} ({type(error).__name__}: {error}); {action}"
            ) from error
        if not isinstance(found, datasets.DatasetDict):
            raise DataError(f"dataset {source} has no named splits; save a DatasetDict with a split 'train'")

        def split(name: str, train: bool) -> Split:
            where = f"dataset {source}, split {name!r}"
            if name not in found:
                raise DataError(f"{where} is missing; the dataset has {', '.join(found)}")
            return parse(found[name], where, train)

        return TaskData(
            split("train", True), {name: split(source_name, False) for name, source_name in self.evaluation}
        )


def columns(table: Any, names: tuple[str, ...], where: str) -> list[list[Any]]:
    """Return columns of a ``datasets.Dataset`` as lists.

    Args:
        table: the dataset.
        names: names of the columns.
        where: name of the dataset, for messages.

    Raises:
        DataError: a column is missing, or the dataset has no rows.
    """
    for name in names:
        if name not in table.column_names:
            raise DataError(
                f"{where} has no column {name!r}; its columns are {', '.join(table.column_names)}"
            )
    if not len(table):
        raise DataError(f"{where} has no rows; give a dataset with examples")
    return [list(table[name]) for name in names]


def fingerprint(rows: Any) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class HubTable:
    """A hub dataset of sentences and its column names.

    Attributes:
        texts: columns of the sentence or the two sentences.
        name: configuration of the dataset.
        path: see `Hub`.
        label: column of the label.
        evaluation: (name of the task's split, name of the dataset's split).
        classes: names of the classes in the dataset, in the task's order; None if they are the task's names.
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
        """Load a saved dataset or download one from the hub.

        Args:
            saved: directory of a saved DatasetDict; without it, the hub is used.
            labels: class names; the dataset's labels are indices of these or of its own class names. None for a
                regression.
            value_range: accepted values of a regression.

        Raises:
            DataError: the dataset cannot be loaded, or a split, column or label is not what the task needs.
        """

        def parse(table: Any, where: str, train: bool) -> Split:
            del train
            return self._split(table, where, labels, value_range)

        return Hub(self.path, self.name, self.evaluation).read(saved, parse)

    def _split(
        self, table: Any, where: str, labels: tuple[str, ...] | None, value_range: tuple[float, float]
    ) -> Split:
        *sentences, values = columns(table, (*self.texts, self.label), where)
        texts = list(zip(*sentences, strict=True))
        low, high = (0, len(labels) - 1) if labels else value_range
        for row, (parts, value) in enumerate(zip(texts, values, strict=True)):
            valid_type = labels is None or isinstance(value, int)
            if not isinstance(value, (int, float)) or not low <= value <= high or not valid_type:
                allowed = ", ".join(map(str, range(len(labels)))) if labels else f"from {low:g} to {high:g}"
                raise DataError(
                    f"{where}, row {row}: label {value!r} is not {'one of ' * bool(labels)}{allowed}; "
                    "save the dataset with such labels"
                )
            if not all(isinstance(part, str) for part in parts):
                raise DataError(f"{where}, row {row}: {', '.join(self.texts)} must be text")
        if labels is None:
            values = [float(value) for value in values]
        else:
            order = self._order(table, where, labels)
            values = [order[value] for value in values]
        return Split(texts, values, fingerprint([texts, values]), labels)

    def _order(self, table: Any, where: str, labels: tuple[str, ...]) -> list[int]:
        """Map the dataset's class indices to the task's: a dataset that names its classes may order them freely."""
        names = getattr(table.features[self.label], "names", None) or list(labels)
        for known in (labels, self.classes or labels):
            if sorted(names) == sorted(known):
                return [known.index(name) for name in names]
        raise DataError(
            f"{where}: the classes are {', '.join(names)}; rename them to the task's, "
            f"{', '.join(self.classes or labels)}"
        )


def is_saved_dataset(path: Path) -> bool:
    """Whether directory `path` was written by ``DatasetDict.save_to_disk``."""
    return (path / "dataset_dict.json").is_file()
