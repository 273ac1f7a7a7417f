from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.bulk import windows as module
from aerogel.bulk.reader import reader_for
from aerogel.bulk.windows import Source, windows
from aerogel.errors import DataError


def source(
    folder: Path, *contents: str, keep: tuple[str, ...] = (), columns: tuple[str, ...] = ("text",)
) -> Source:
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.csv"
        path.write_text(content)
        files.append((reader_for(path, None), path))
    return Source(files, columns, keep)


def test_windows_cross_files_and_keep_the_order(tmp_path: Path) -> None:
    found = list(windows(source(tmp_path, "text,n\na,1\nb,2\n", "text,n\n", "n,text\n3,c\n", keep=("n",)), 2))
    assert [window.rows for window in found] == [["a", "b"], ["c"]]
    assert [window.kept for window in found] == [{"n": ["1", "2"]}, {"n": ["3"]}]
    assert found[1].where == [f"{tmp_path}/2.csv:2"]
    assert found[-1].done == 1.0


def test_pairs_have_two_columns(tmp_path: Path) -> None:
    (window,) = windows(source(tmp_path, "q,d\na,b\n", columns=("q", "d")), 8)
    assert window.rows == [("a", "b")]


def test_long_texts_end_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW_CHARACTERS", 5)
    found = list(windows(source(tmp_path, "text\naaa\nbb\ncccccccc\nd\n"), 8))
    assert [window.rows for window in found] == [["aaa", "bb"], ["cccccccc"], ["d"]]


@pytest.mark.parametrize(
    ("other", "keep"),
    [("text,n\na,1\nbc,2\n", ()), ("text,n\na,1\nb,3\n", ("n",)), ("text,n\nab,1\n,2\n", ())],
)
def test_the_digest_depends_on_every_value(tmp_path: Path, other: str, keep: tuple[str, ...]) -> None:
    one = list(windows(source(tmp_path, "text,n\na,1\nb,2\n", keep=keep), 8))[-1].digest
    two = list(windows(source(tmp_path, other, keep=keep), 8))[-1].digest
    assert one != two


@pytest.mark.parametrize("line", ['{"text": 5}', '{"text": null}', '{"text": ["a"]}', '{"text": "\\ud800"}'])
def test_a_text_that_is_not_a_string_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' + line + "\n")
    with pytest.raises(
        DataError, match=r"a.jsonl:2: column 'text' (must be a string, not|has half of a surrogate)"
    ):
        list(windows(Source([(reader_for(path, None), path)], ("text",)), 8))


def test_a_text_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 4)
    with pytest.raises(DataError, match=r"0.csv:3: column 'text' has 5 characters; the limit is 4"):
        list(windows(source(tmp_path, "text\naaaa\nbbbbb\n"), 8))
