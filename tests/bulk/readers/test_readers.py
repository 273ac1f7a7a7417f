from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aerogel.bulk.reader import READERS, reader_for
from aerogel.errors import DataError, UsageError

ROWS = [{"id": "1", "text": "one two"}, {"id": "2", "text": "three"}, {"id": "3", "text": ""}]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def values(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    return [row.values for row in reader_for(path, None).read(path, columns)]


def make_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)


MADE: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda path: write(
        path,
        '{"id": "1", "text": "one two", "more": [1]}\n\n{"text": "three", "id": "2"}\n{"id":"3","text":""}',
    ),
    "a.jsonl.gz": lambda path: write(
        path, '{"id":"1","text":"one two"}\n{"id":"2","text":"three"}\n{"id":"3","text":""}\n'
    ),
    "a.csv": lambda path: write(path, b'\xef\xbb\xbfid,text\r\n1,"one two"\r\n2,three\r\n3,""\r\n'),
    "a.tsv": lambda path: write(path, "id\ttext\n1\tone two\n2\tthree\n3\t\n"),
    "a.parquet": make_parquet,
}


@pytest.mark.parametrize("name", MADE)
def test_rows_of_each_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    MADE[name](path)
    assert values(path, ["id", "text"]) == ROWS
    reader = reader_for(path, None)
    size = reader.size(path)
    ends = [row.end for row in reader.read(path, ["text"])]
    assert ends == sorted(ends)
    assert size is None if path.suffix == ".gz" else ends[-1] == size


def test_text_lines_are_rows_and_empty_lines_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\r\n\nthree")
    assert values(path, ["text"]) == [{"text": "one"}, {"text": ""}, {"text": "three"}]


def test_quoted_values_span_lines_and_contain_separators(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'id,text\n1,"one, ""two""\nthree"\n2,four\n')
    rows = list(reader_for(path, None).read(path, ["text"]))
    assert [row.values["text"] for row in rows] == ['one, "two"\nthree', "four"]
    assert [row.number for row in rows] == [3, 4]


def test_quotes_are_ordinary_in_tab_separated_files(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.tsv", 'text\n"one\ntwo"\n'), ["text"]) == [
        {"text": '"one'},
        {"text": 'two"'},
    ]


BAD = {
    "broken.jsonl": ('{"text": "a"}\n{"text": \n', "broken.jsonl:2: it is not JSON"),
    "list.jsonl": ("[1]\n", "list.jsonl:1: the document is [1], not an object"),
    "twice.jsonl": ('{"text": "a", "text": "b"}\n', "twice.jsonl:1: "),
    "deep.jsonl": ('{"text": ' + "[" * 5000 + "\n", "deep.jsonl:1: "),
    "nan.jsonl": ('{"text": NaN}\n', "nan.jsonl:1: NaN is not a JSON number"),
    "missing.jsonl": (
        '{"text": "a"}\n{"txt": "a"}\n',
        "missing.jsonl:2: no column 'text'; choose with --column",
    ),
    "bytes.jsonl": (b'{"text": "\xff"}\n', "bytes.jsonl:1: not UTF-8"),
    "huge.jsonl": ('{"text": "' + "a" * (1 << 20) + '"}\n', "huge.jsonl:1: more than 1 MiB in a line"),
    "missing.csv": (
        "id,txt\n1,a\n",
        "missing.csv:1: no column 'text'; choose with --column or --keep from: id, txt",
    ),
    "short.csv": ("id,text\n1,a\n2\n", "short.csv:3: 1 values, but the header has 2"),
    "long.csv": ("id,text\n1,a,b\n", "long.csv:2: 3 values, but the header has 2"),
    "open.csv": ('text\n"a\n', "open.csv:2: unexpected end of data"),
    "after.csv": ('text\n"a"b\n', "after.csv:2: "),
    "wide.csv": ('text\n"' + ("a" * 1000 + "\n") * 1100 + '"\n', "field larger than field limit"),
    "repeated.csv": ("text,text\na,b\n", "repeated.csv:1: the header repeats a column"),
    "nul.csv": ("text\na\0b\n", "nul.csv:2: contains a NUL byte"),
    "nul.txt": ("a\n\0\n", "nul.txt:2: contains a NUL byte"),
    "utf16.txt": ("text\n".encode("utf-16"), "utf16.txt:1: not UTF-8"),
    "damaged.txt.gz": (b"\x1f\x8b\x08garbage", "damaged.txt.gz cannot be read"),
    "garbage.parquet": (b"PAR1garbage", "garbage.parquet: cannot be read as Parquet"),
    "empty.parquet": (b"", "empty.parquet: cannot be read as Parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_files_are_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        values(path, ["text"])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_parquet_file_without_the_column_is_refused(tmp_path: Path) -> None:
    make_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'body'; choose with --column or --keep from: id, text"):
        values(tmp_path / "a.parquet", ["body"])


def test_an_unknown_suffix_needs_a_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"choose one with --format: csv, jsonl, parquet, tsv, txt"):
        reader_for(tmp_path / "a.log", None)
    assert reader_for(tmp_path / "a.log", "txt") is READERS.get("txt")
    assert reader_for(tmp_path / "a.CSV", None) is READERS.get("csv")
