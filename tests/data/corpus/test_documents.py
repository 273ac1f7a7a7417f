from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aerogel.data.corpus.documents import Document, read_documents
from aerogel.data.corpus.files import text_files
from aerogel.errors import DataError, UsageError
from aerogel.system.text import read_lines

WIKI = """<doc id="1" url="u" title="Tea">
Tea

Tea is a drink. It is hot.
History.
</doc>
<doc id="2" url="u" title="Empty">

</doc>
<doc id="3" url="u" title="Milk">
Milk
Milk is white.
"""
WIKITEXT = """ 
 = Tea = 
 
 Tea is a drink . It is hot , = or cold = . 
 = = History = = 
 
 = = = Early = = = 
 Long ago . 
 = Milk = 
 Milk is white . 
"""
LINES = "\n\nTea is a drink. It is hot.\n  It is old. \n\n \nMilk is white.\n"


def write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def sentences(documents: list[Document]) -> list[list[str]]:
    return [document.sentences() for document in documents]


@pytest.mark.parametrize("ending", ["txt", "gz"])
@pytest.mark.parametrize("lf", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WIKI, [["Tea", "Tea is a drink.", "It is hot.", "History."], ["Milk", "Milk is white."]]),
        (WIKITEXT, [["Tea is a drink .", "It is hot , = or cold = .", "Long ago ."], ["Milk is white ."]]),
        (LINES, [["Tea is a drink. It is hot.", "It is old."], ["Milk is white."]]),
        ("\ufeffOne line", [["One line"]]),
        ("\n \n", []),
        ("", []),
    ],
)
def test_reads_documents_of_each_format(
    tmp_path: Path, text: str, expected: list[list[str]], lf: str, ending: str
) -> None:
    path = write(tmp_path / f"a.{ending}", text.replace("\n", lf))
    documents = list(read_documents(path))
    assert sentences(documents) == expected
    # Reading can resume after any document.
    for number, document in enumerate(documents):
        rest = list(read_documents(path, document.end, document.line))
        assert rest == documents[number + 1 :]


def test_a_long_document_is_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "word " * 2000 + "\n" + ("x" * 999 + "\n") * 600)
    documents = list(read_documents(path))
    assert [len("".join(document.lines)) for document in documents] == [
        10_000 + 999 * 253,
        999 * 263,
        999 * 84,
    ]
    assert list(read_documents(path, documents[0].end, documents[0].line)) == documents[1:]


def test_fraction_depends_on_the_text_only_and_is_uniform(tmp_path: Path) -> None:
    text = "\n\n".join(f"Document {number}.\nEnd." for number in range(4000))
    fractions = [document.fraction() for document in read_documents(write(tmp_path / "a", text))]
    again = [document.fraction() for document in read_documents(write(tmp_path / "b.gz", "\n" + text))]
    assert fractions == again
    assert len(set(fractions)) == 4000
    for tenth in range(10):
        # 400 expected; the standard deviation is 19.
        assert 310 < sum(tenth <= 10 * fraction < tenth + 1 for fraction in fractions) < 490


def test_text_files_searches_directories_in_order(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt", "a.txt", ".git/x", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert text_files([tmp_path]) == [tmp_path / name for name in ("a.txt", "b/1.txt", "b/2.txt")]
    with pytest.raises(UsageError, match=r"--text .*b/1.txt: given twice"):
        text_files([tmp_path, tmp_path / "b" / "1.txt"])
    with pytest.raises(UsageError, match=r"--text .*nowhere: no such file or directory"):
        text_files([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"--text .*empty: the directory has no files"):
        text_files([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\n\xff\xfe\n", r"a.txt:2: not UTF-8 \(.*\); convert"),
        ("a.txt", b"ok\n\n" + b"x" * (1 << 20) + b"y\n", r"a.txt:3: more than 1 MiB in a line"),
        ("a.gz", b"", r"a.gz cannot be read"),
    ],
)
def test_rejects_invalid_text_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path / name, content or "text " * 1000)
    if not content:
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=message):
        list(read_lines(path))


def test_rejects_gz_file_that_is_not_gzipped(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_text("plain")
    with pytest.raises(DataError, match=r"a.gz cannot be read \(.*\)"):
        list(read_documents(tmp_path / "a.gz"))
