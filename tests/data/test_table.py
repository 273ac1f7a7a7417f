from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy, correlations
from aerogel.data.table import TableTask
from aerogel.errors import DataError, UsageError

HUB = HubTable(("sentence",), "none")
TASK = TableTask(("sentence",), "label", ("no", "yes"), accuracy, HUB)
VALUE = TableTask(("a", "b"), "score", None, correlations, HUB, value_range=(0.0, 5.0))
GOOD = "sentence\tlabel\nfine \tyes\npoor\tno\n"


def folder(tmp_path: Path, train: str | bytes, dev: str = GOOD) -> Path:
    (tmp_path / "train.tsv").write_bytes(train if isinstance(train, bytes) else train.encode())
    (tmp_path / "dev.tsv").write_text(dev)
    return tmp_path


def test_reads_rows_labels_and_hash(tmp_path: Path) -> None:
    train = TASK.load(folder(tmp_path, GOOD)).train
    assert train.texts == [("fine ",), ("poor",)]
    assert train.labels == [1, 0]
    assert train.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


def test_gzipped_files_are_the_same_data(tmp_path: Path) -> None:
    plain = TASK.load(folder(tmp_path, GOOD)).train
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    assert TASK.load(tmp_path).train == plain


def test_accepts_byte_order_mark_carriage_returns_and_any_column_order(tmp_path: Path) -> None:
    task = TableTask(("b", "a"), "label", ("no", "yes"), accuracy, HUB)
    text = "\ufefflabel\ta\tid\tb\r\nyes\tone\t7\ttwo\r\n"
    train = task.load(folder(tmp_path, text, text)).train
    assert (train.texts, train.labels) == ([("two", "one")], [1])


def test_quotes_and_odd_line_separators_are_ordinary_characters(tmp_path: Path) -> None:
    train = TASK.load(folder(tmp_path, 'sentence\tlabel\n"open\x85 quote\u2028\tyes\n')).train
    assert train.texts == [('"open\x85 quote\u2028',)]


def test_reads_file_without_header_by_declared_columns(tmp_path: Path) -> None:
    task = TableTask(("s",), "y", ("0", "1"), accuracy, HUB, header=("id", "y", "mark", "s"))
    train = task.load(folder(tmp_path, "a1\t1\t\tfirst\na2\t0\t*\tsecond\n", "a3\t1\t\tx\n")).train
    assert (train.texts, train.labels) == ([("first",), ("second",)], [1, 0])


def test_regression_values(tmp_path: Path) -> None:
    text = "a\tb\tscore\nx\ty\t2.500\nx\tz\t0\n"
    assert VALUE.load(folder(tmp_path, text, text)).train.labels == [2.5, 0.0]


def test_skips_ragged_rows_only_with_skip_ragged(tmp_path: Path) -> None:
    ragged = GOOD + "no label here\n" + "late\tyes\n"
    lenient = TableTask(("sentence",), "label", ("no", "yes"), accuracy, HUB, skip_ragged=True)
    assert lenient.load(folder(tmp_path, ragged)).train.labels == [1, 0, 1]
    with pytest.raises(DataError, match=r"train.tsv:4: expected 2 fields, found 1"):
        TASK.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"train.tsv is empty; give a file with the columns sentence, label"),
        ("sentence\tlabel\n", r"train.tsv has no rows"),
        ("sentence\tclass\nfine\tyes\n", r"train.tsv has no column 'label'; its columns are sentence, class"),
        (
            GOOD + "\nodd\tmaybe\n",
            r"train.tsv:5: label 'maybe' is not one of no, yes; write one of these in column 'label'$",
        ),
        (GOOD + "odd\tyes\textra\n", r"train.tsv:4: expected 2 fields, found 3"),
        (GOOD.encode() + b"caf\xe9\tyes\n", r"train.tsv:4: not UTF-8"),
    ],
)
def test_rejects_bad_files_with_name_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.load(folder(tmp_path, content))


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "-0.1", "5.01"])
def test_rejects_bad_values(tmp_path: Path, score: str) -> None:
    with pytest.raises(
        DataError, match=r"train.tsv:2: label .* is not a number from 0 to 5; .* column 'score'$"
    ):
        VALUE.load(folder(tmp_path, f"a\tb\tscore\nx\ty\t{score}\n"))


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    (folder(tmp_path, GOOD) / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"neither dev.tsv nor dev.tsv.gz"):
        TASK.load(tmp_path)
    with pytest.raises(UsageError, match="is not a directory"):
        TASK.load(tmp_path / "nowhere")


def test_rejects_truncated_gzip_file(tmp_path: Path) -> None:
    folder(tmp_path, GOOD)
    (tmp_path / "train.tsv").unlink()
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(GOOD.encode() * 50)[:40])
    with pytest.raises(DataError, match=r"train.tsv.gz cannot be read"):
        TASK.load(tmp_path)
