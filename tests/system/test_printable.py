from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.cli import main
from aerogel.system.printable import escaped, unprintable
from aerogel.system.terminal import console


@pytest.mark.parametrize("text", ["a\ud800", "\x1b[31m", "a\nb", "\x9b", "\u2028", "\u202e", "\x00"])
def test_terminal_control_characters_are_found_and_escaped(text: str) -> None:
    assert unprintable({"a": [1, None, (text,)]}) == ascii(text)
    assert unprintable({text: 1}) == ascii(text)
    escaped(text).encode("utf-8")
    assert unprintable(escaped(text).replace("\n", "")) is None


def test_text_of_any_language_is_unchanged() -> None:
    for text in ("größer", "模型", "\u00a0", "\U0001f468\u200d\U0001f4bb", "a\\b"):
        assert unprintable([text]) is None
        assert escaped(text) == text
    assert unprintable(Path("a\udcff")) == "'a\\udcff'"


def test_tables_escape_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(title="\x1b]0;t")
    table.add_column("c\x1b[2J")
    table.add_row("r\udcff")
    out = console()
    out.print(table)
    out.print("p\x1b[2J")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    for text in (r"\x1b]0;t", r"c\x1b[2J", r"r\udcff", r"p\x1b[2J"):
        assert text in printed


def test_an_argument_that_is_not_utf8_is_a_one_line_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--arch", "bert-base", "--out", "x\udcff"]) == 2
    assert capsys.readouterr().err == (
        "aerogel: error: argument 'x\\udcff' is not valid UTF-8; rename the file\n"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"method": "\x1b[31mred"},
        {"task": "a\ud800"},
        {"metrics": {"a\ud800": 1.0}},
        {"config": {"a": ["\x07"]}},
    ],
)
def test_a_record_with_unprintable_text_is_refused(
    tiny_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
) -> None:
    source, copy = tiny_checkpoint("bert", num_hidden_layers=1), tmp_path / "c"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    record = json.loads((copy / "aerogel.json").read_text()) | change
    (copy / "aerogel.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["inspect", str(copy), "--html", str(tmp_path / "p.html")]) == 2
    said = capsys.readouterr().err
    assert "aerogel.json has text that cannot be printed" in said
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert not (tmp_path / "p.html").exists()
