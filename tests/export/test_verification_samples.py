from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aerogel.errors import DataError
from aerogel.export.verification_samples import PAIRS, SENTENCES, read_texts


def test_one_text_a_line(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("first\r\n\n the\u2028third \n".encode())
    assert read_texts(file) == (["first", "", " the\u2028third "], None)


def test_pairs_and_packed_files(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv.gz"
    file.write_bytes(gzip.compress(b"a\tb\nc\t"))
    assert read_texts(file) == (["a", "c"], ["b", ""])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\nb\tc\n", ":2: 2 fields"),
        (b"a\tb\nc\n", ":2: 1 fields"),
        (b"a\tb\tc\n", ":1: 3 fields"),
        (b"fine\ncaf\xe9\n", ":2: not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"texts\.txt.*{message}"):
        read_texts(file)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        read_texts(tmp_path / "none.txt")
    (tmp_path / "bad.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match=r"bad\.gz cannot be read"):
        read_texts(tmp_path / "bad.gz")


def test_bundled_texts_differ_in_length_and_go_beyond_ascii() -> None:
    lengths = {len(text.split()) for text in SENTENCES}
    assert min(lengths) == 1
    assert max(lengths) > 15
    assert not " ".join(SENTENCES).isascii()
    assert len(PAIRS) >= 3
