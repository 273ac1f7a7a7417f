"""Tasks as tables of the `datasets` library: from the hub, or from a directory that ``save_to_disk`` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.task import Split, TaskData
from aerogel.errors import DataError, require

__all__ = ["HubTable", "is_saved_dataset"]


@dataclass(frozen=True)
class HubTable:
    """Where a task is found in the `datasets` library, and how its columns are called there.

    Attributes:
        texts: columns of the sentence or the two sentences.
        name: configuration of the dataset.
        path: dataset on the hub, or a local folder of data files.
        label: column of the label.
        evaluation: (split of the task, split of the dataset).
    """

    texts: tuple[str, ...]
    name: str | None
    path: str = "nyu-mll/glue"
    label: str = "label"
    evaluation: tuple[tuple[str, str], ...] = (("", "validation"),)

    def load(
        self, saved: Path | None, labels: tuple[str, ...] | None, value_range: tuple[float, float]
    ) -> TaskData:
        """Load from directory `saved`, or from the hub if that is None.

        Args:
            saved: directory of a saved DatasetDict.
            labels: class names; the dataset's labels are their indices. None for a regression.
            value_range: accepted values of a regression.

        Raises:
            DataError: not reachable, or a split, column or label is not what the task needs.
        """
        datasets = require("datasets", "train")
        source = str(saved or self.path)
        try:
            found = datasets.load_from_disk(source) if saved else datasets.load_dataset(self.path, self.name)
        except (
            Exception
        ) as error:  # the library raises errors of many packages, most of them without a common base
            mend = "save it anew" if saved else "give a directory of its files, or check the network"
            raise DataError(
                f"dataset {source} cannot be loaded ({type(error).__name__}: {error}); {mend}"
            ) from error
        if not isinstance(found, datasets.DatasetDict):
            raise DataError(f"dataset {source} has no named splits; save a DatasetDict with a split 'train'")

        def split(name: str) -> Split:
            return self._split(found, name, f"dataset {source}, split {name!r}", labels, value_range)

        return TaskData(split("train"), {ours: split(theirs) for ours, theirs in self.evaluation})

    def _split(
        self,
        found: Mapping[str, Any],
        name: str,
        place: str,
        labels: tuple[str, ...] | None,
        value_range: tuple[float, float],
    ) -> Split:
        if name not in found:
            raise DataError(f"{place} is missing; it has {', '.join(found)}")
        table = found[name]
        for column in (*self.texts, self.label):
            if column not in table.column_names:
                raise DataError(
                    f"{place} has no column {column!r}; its columns are {', '.join(table.column_names)}"
                )
        texts = list(zip(*(table[column] for column in self.texts), strict=True))
        values = list(table[self.label])
        if not values:
            raise DataError(f"{place} has no rows")
        low, high = (0, len(labels) - 1) if labels else value_range
        for row, (sentences, value) in enumerate(zip(texts, values, strict=True)):
            whole = labels is None or isinstance(value, int)
            if not isinstance(value, (int, float)) or not low <= value <= high or not whole:
                raise DataError(f"{place}, row {row}: label {value!r} is not from {low:g} to {high:g}")
            if not all(isinstance(sentence, str) for sentence in sentences):
                raise DataError(f"{place}, row {row}: {', '.join(self.texts)} must be text")
        rows = json.dumps([texts, values], ensure_ascii=True).encode()
        return Split(texts, values, hashlib.sha256(rows).hexdigest())


def is_saved_dataset(path: Path) -> bool:
    """Whether directory `path` was written by ``DatasetDict.save_to_disk``."""
    return (path / "dataset_dict.json").is_file()
