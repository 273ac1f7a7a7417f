from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pytest

from aerogel.data.tagging.read import read_columns
from aerogel.data.tasks import TASKS
from aerogel.errors import DataError, UsageError

FILE = """-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

-DOCSTART- -X- -X- O

Peter\tNNP\tI-NP\tI-PER
Blackburn NNP I-NP  I-PER\x20
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def test_reads_words_tags_and_locations(tmp_path: Path) -> None:
    file = write(tmp_path, train=FILE) / "train.txt"
    made = read_columns(file, 0, -1, entities=True)
    assert made.words == [("EU", "rejects"), ("Peter", "Blackburn")]
    assert made.tags == [["I-ORG", "O"], ["I-PER", "I-PER"]]
    assert made.locations == [f"{file}:3", f"{file}:8"]
    assert made.sha256 == hashlib.sha256(FILE.encode()).hexdigest()
    assert read_columns(file, 0, 1, entities=False).tags == [["NNP", "VBZ"], ["NNP", "NNP"]]


def test_unicode_blanks_belong_to_the_word(tmp_path: Path) -> None:
    write(tmp_path, train="10\u00a0000 O\n\u3000 B-X\r\n")
    assert read_columns(tmp_path / "train.txt", 0, 1, entities=True).words == [("10\u00a0000", "\u3000")]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (b"", (0, -1), "train.txt has no sentences"),
        (b"-DOCSTART- O\n\n", (0, -1), "train.txt has no sentences"),
        (
            b"EU I-ORG\nrejects\n",
            (0, -1),
            r"train.txt:2: 1 columns, expected words in column 0 and tags in column -1",
        ),
        (b"EU I-ORG\n", (0, 3), r"train.txt:1: 2 columns, expected words in column 0 and tags in column 3"),
        (b"EU I-ORG\n", (-3, 1), "train.txt:1: 2 columns"),
        (b"EU NNP\n", (0, -1), "train.txt:1: tag 'NNP' must be O, or .*; correct it or use --task conll"),
        (b"EU O\n\ncaf\xe9 O\n", (0, -1), "train.txt:3: not UTF-8"),
    ],
)
def test_rejects_bad_files_with_the_line(
    tmp_path: Path, content: bytes, columns: tuple[int, int], message: str
) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_columns(tmp_path / "train.txt", *columns, entities=True)


def test_task_has_the_classes_of_the_training_file_and_iob2_tags(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", train=FILE, dev="Peter B-PER\nleft O\n", test="EU I-ORG\n")
    data = TASKS.get("ner").load(folder)
    assert data.labels == ("O", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert data.train.labels == [(1, 0), (3, 4)]
    assert {name: split.labels for name, split in data.evaluation.items()} == {"": [(3, 0)], "test": [(1,)]}
    assert data.evaluation["test"].classes == data.labels
    (folder / "test.txt").unlink()
    assert set(TASKS.get("ner").load(folder).evaluation) == {""}
    with pytest.raises(DataError, match=r"tset\.txt"):
        TASKS.get("ner").configured({"test": "tset.txt"}, "ner").load(folder)


def test_any_column_can_be_the_tags(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", train=FILE, dev="VBZ is rejects\n")
    task = TASKS.get("conll").configured({"tag_column": "1", "dev": "train.txt"}, "conll")
    data = task.load(folder)
    assert data.labels == ("NNP", "VBZ")
    assert data.train.labels == [(0, 1), (0, 0)]
    other = TASKS.get("conll").configured(
        {"token_column": "-1", "tag_column": "0", "train": "dev.txt"}, "conll"
    )
    assert other.load(folder).train.texts == [("rejects",)]


def test_rejects_tag_missing_from_the_training_file_with_the_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", train=FILE, dev="x O\n\ny O\nz B-LOC\n")
    with pytest.raises(
        DataError, match=r"dev.txt:3: tag 'B-LOC' in this sentence does not occur in the training"
    ):
        TASKS.get("ner").load(folder)


def test_missing_files_and_data_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither dev.txt nor dev.txt.gz"):
        TASKS.get("ner").load(write(tmp_path / "data", train=FILE))
    with pytest.raises(UsageError, match="--data is missing"):
        TASKS.get("conll").load(None)
    with pytest.raises(UsageError, match="--task-option test=a/b: must be the name of a file"):
        TASKS.get("ner").configured({"test": "a/b"}, "ner")


NAMES = ["O", "B-PER", "I-PER"]


def saved(folder: Path, tags: list[Any], tokens: Any = None, names: list[str] | None = NAMES) -> Path:
    kind = datasets.Sequence(datasets.ClassLabel(names=names)) if names else None
    rows = {"tokens": tokens or [["Peter", "left"]], "ner_tags": tags}
    table = datasets.Dataset.from_dict(rows)
    if kind:
        table = table.cast_column("ner_tags", kind)
    datasets.DatasetDict(train=table, validation=table, test=table).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(("tags", "names"), [([[1, 0]], NAMES), ([["B-PER", "O"]], None)])
def test_a_saved_dataset_has_indices_or_names(
    tmp_path: Path, tags: list[Any], names: list[str] | None
) -> None:
    data = TASKS.get("ner").load(saved(tmp_path / "saved", tags, names=names))
    assert data.labels == ("O", "B-PER", "I-PER")
    assert data.train.texts == [("Peter", "left")]
    assert data.evaluation["test"].labels == [(1, 0)]


@pytest.mark.parametrize(
    ("tags", "tokens", "names", "message"),
    [
        ([["PER", "O"]], None, None, "row 0: tag 'PER' must be O, or"),
        ([["O"]], None, None, "row 0: tokens and ner_tags must be lists of equal length"),
        (["O"], ["Peter"], None, "row 0: tokens and ner_tags must be lists"),
        ([[3, 4]], None, None, "row 0: tag '3' must be O, or"),
        ([[]], [[]], None, "split 'train' has no sentences"),
    ],
)
def test_rejects_bad_datasets_with_the_row(
    tmp_path: Path, tags: list[Any], tokens: Any, names: list[str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        TASKS.get("ner").load(saved(tmp_path / "saved", tags, tokens, names))
