from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.data.corpus.documents import read_documents
from aerogel.data.qa.question import read_squad
from aerogel.data.tagging.read import read_columns
from aerogel.data.tasks import TASKS
from aerogel.errors import DataError, UsageError
from aerogel.export.verification_samples import read_texts
from aerogel.system import text
from aerogel.system.text import decode, read_bytes, read_lines
from aerogel.system.toml_config import read_toml


def lines_of(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return [line.text for line in read_lines(path, whole=True)]


def test_plain_and_gzipped_files_are_read_alike(tmp_path: Path) -> None:
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
        # An error of zlib.
        pytest.param(PACKED[:10] + bytes([PACKED[10] ^ 0xFF]) + PACKED[11:], id="a block of an unknown kind"),
        pytest.param(PACKED[:-8] + bytes(8), id="checksum and length of something else"),
    ],
)
def test_the_error_names_a_damaged_gzip_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz cannot be read"):
        read_bytes(tmp_path / "bad.gz")


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_read_lines_names_a_truncated_gzip_file(tmp_path: Path, cut: int) -> None:
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"one\ntwo\n" * 99)[:-cut])
    with pytest.raises(DataError, match=r"bad\.gz cannot be read"):
        list(read_lines(tmp_path / "bad.gz"))


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path, tmp_path / "none.gz"):
        with pytest.raises(DataError, match=f"{path.name} cannot be read"):
            read_bytes(path)
        with pytest.raises(DataError, match=f"{path.name} cannot be read"):
            list(read_lines(path))


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
def test_only_line_feeds_end_a_line(tmp_path: Path, text: str, lines: list[str]) -> None:
    assert lines_of(tmp_path / "f.txt", text.encode()) == lines


def test_the_error_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"f\.txt:3: not UTF-8"):
        lines_of(tmp_path / "f.txt", b"a\nb\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"f\.txt:3: not UTF-8"):
        decode(tmp_path / "f.txt", b"a\nb\ncaf\xe9\n")


def test_the_digest_covers_all_unpacked_bytes(tmp_path: Path) -> None:
    content = "\ufeffa\r\n\nb".encode()
    (tmp_path / "f.gz").write_bytes(gzip.compress(content))
    digest = hashlib.sha256()
    assert [line.number for line in read_lines(tmp_path / "f.gz", digest=digest)] == [1, 2, 3]
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


def task(name: str) -> Callable[[Path], object]:
    return lambda path: TASKS.get(name).load(path.parent)


READERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "bytes": ("f.txt", b"text\n", read_bytes),
    "table": ("train.tsv", b"question1\tquestion2\tis_duplicate\n", task("qqp")),
    "columns": ("train.txt", b"good O\n", lambda path: read_columns(path, 0, -1, entities=True)),
    "squad": ("train-v1.1.json", b"{", lambda path: read_squad(path, unanswerable=False, train=True)),
    "texts": ("texts.txt", b"one\n", read_texts),
    "toml": ("recipe.toml", b"epochs = 3\n", read_toml),
    "corpus": ("wiki.txt", b"A text.\n", lambda path: list(read_documents(path))),
}


@pytest.mark.parametrize("filler", [b"\n", b" " * 999 + b"\n"])
@pytest.mark.parametrize("reader", READERS)
def test_a_gzip_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, filler: bytes
) -> None:
    name, start, read = READERS[reader]
    monkeypatch.setattr(text, "_MIN_LIMIT", 1 << 12)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(start + filler * ((1 << 20) // len(filler))))
    bound = text._MAX_RATIO * path.stat().st_size
    assert 1 << 12 < bound < 1 << 19
    with pytest.raises((DataError, UsageError), match=rf"{name}\.gz unpacks to more than {bound:,} bytes"):
        read(path)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "corpus"])
def test_files_kept_in_memory_have_a_size_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    name, start, read = READERS[reader]
    monkeypatch.setattr(text, "_MAX_BYTES", 1 << 16)
    path = tmp_path / name
    path.write_bytes(start + b"\n" * (1 << 17))
    with pytest.raises((DataError, UsageError), match=rf"{name} is larger than 65,536 bytes"):
        read(path)


def test_the_size_limit_counts_empty_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_MAX_BYTES", 1 << 16)
    assert len(lines_of(tmp_path / "f.txt", b"\n" * 1000)) == 1000
    with pytest.raises(
        DataError, match=r"f\.txt is larger than 65,536 bytes, counting 64 more for each line"
    ):
        lines_of(tmp_path / "f.txt", b"\n" * 1100)


def test_ordinary_gzip_files_and_large_corpora_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_MIN_LIMIT", 1 << 10)
    monkeypatch.setattr(text, "_MAX_BYTES", 1 << 16)
    words = "\n".join(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(4096))
    (tmp_path / "corpus.gz").write_bytes(gzip.compress(words.encode()))
    assert sum(1 for _ in read_lines(tmp_path / "corpus.gz")) == 4096


def test_every_reader_ignores_a_byte_order_mark(tmp_path: Path) -> None:
    mark = "\ufeff"
    (tmp_path / "recipe.toml").write_text(f"{mark}epochs = 3\r\n", encoding="utf-8")
    assert read_toml(tmp_path / "recipe.toml") == {"epochs": 3}
    (tmp_path / "tags.txt").write_text(f"{mark}good O\n", encoding="utf-8")
    assert read_columns(tmp_path / "tags.txt", 0, -1, entities=True).words == [("good",)]
    (tmp_path / "texts.txt").write_text(f"{mark}one\n", encoding="utf-8")
    assert read_texts(tmp_path / "texts.txt") == (["one"], None)
    asked = {"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0}]}
    document = {"data": [{"paragraphs": [{"context": "c", "qas": [asked]}]}]}
    (tmp_path / "squad.json").write_text(mark + json.dumps(document), encoding="utf-8")
    assert read_squad(tmp_path / "squad.json", unanswerable=False, train=True).texts == [("q", "c")]
