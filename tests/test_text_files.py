from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aerogel.errors import DataError
from aerogel.text_files import decode_lines, read_bytes

FILE = Path("f.txt")


def test_plain_and_packed_files_read_alike(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(b"content")
    (tmp_path / "f.txt.gz").write_bytes(gzip.compress(b"content"))
    assert read_bytes(tmp_path / "f.txt") == read_bytes(tmp_path / "f.txt.gz") == b"content"


PACKED = gzip.compress(bytes(range(256)) * 4, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not packed", id="not packed"),
        pytest.param(PACKED[:-9], id="cut before the checksum"),
        pytest.param(PACKED[:40], id="cut in the data"),
        # zlib's own error.
        pytest.param(PACKED[:10] + bytes([PACKED[10] ^ 0xFF]) + PACKED[11:], id="a block of an unknown kind"),
        pytest.param(PACKED[:-8] + bytes(8), id="checksum and length of something else"),
    ],
)
def test_damaged_packed_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz cannot be read"):
        read_bytes(tmp_path / "bad.gz")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match=f"{path.name} cannot be read"):
            read_bytes(path)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a\r\nb", ["a", "b"]),
        ("a\n\nb\n\n", ["a", "", "b", ""]),
        ("\ufeffa\u2028b\x0cc\n", ["a\u2028b\x0cc"]),
    ],
)
def test_lines_end_at_line_feeds_only(text: str, lines: list[str]) -> None:
    assert decode_lines(FILE, text.encode()) == lines


def test_other_encodings_are_refused_by_line() -> None:
    with pytest.raises(DataError, match=r"f\.txt:3: not UTF-8"):
        decode_lines(FILE, b"a\nb\ncaf\xe9\n")
