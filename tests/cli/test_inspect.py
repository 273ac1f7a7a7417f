from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from aerogel.cli import main

PNG = b"\x89PNG\r\n\x1a\n"
WORDS = ["the", "film", "was", "good", "and", "that", "is", "not", "very", "bad", "of", "it"]
VOID = {"meta", "img", "br"}


class Strict(HTMLParser):
    """Fails on mismatched tags, scripts and external resources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[bytes] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        values = dict(attrs)
        assert "href" not in values
        if tag == "img":
            kind, _, data = (values["src"] or "").partition(",")
            assert kind == "data:image/png;base64"
            self.images.append(base64.b64decode(data, validate=True))
            assert values["alt"]
        assert not any(name.startswith("on") for name in values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_outputs_are_written(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [" ".join(WORDS[first:] + WORDS[:first]) for first in range(4)]
    (tmp_path / "texts").write_text("\n".join(lines) + "\n")
    page, found = tmp_path / "<i>page.html", tmp_path / "found.json"
    words = ["inspect", str(tiny_checkpoint()), "--against", str(tiny_checkpoint(seed=1))]
    words += ["--dense", str(tiny_checkpoint(density=1.0)), "--text", str(tmp_path / "texts")]
    capsys.readouterr()
    assert main([*words, "--html", str(page), "--json", str(found), "--plots", str(tmp_path / "plots")]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    document = json.loads(found.read_text())
    assert document["schema"] == 1
    for sentence in document["summary"]:
        assert " ".join(sentence.split()) in " ".join(printed.split())
    assert set(document["sections"]) == {
        "agreement", "blocks", "density", "embeddings", "heads", "speed", "structure", "weights",
    }  # fmt: skip
    parser = Strict()
    parser.feed(page.read_text())
    assert parser.open == []
    plots = sorted((tmp_path / "plots").iterdir())
    assert [plot.stem for plot in plots] == [
        "agreement", "blocks", "density", "embeddings", "heads", "masks", "structure", "weights",
    ]  # fmt: skip
    assert sorted(parser.images) == sorted(plot.read_bytes() for plot in plots)
    assert all(image.startswith(PNG) for image in parser.images)
    assert "all 4 attention heads are alive" in parser.text.lower()


def test_names_are_escaped_in_html(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    link = tmp_path / "<script>alert(1)<"
    link.symlink_to(tiny_checkpoint())
    assert main(["inspect", str(link), "--html", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    parser = Strict()
    parser.feed(text)
    assert "<script>alert(1)<" in parser.text
    assert not re.search(r"https?://", text)


def test_json_on_standard_output_is_the_only_output(
    tiny_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_checkpoint()
    capsys.readouterr()
    assert main(["inspect", str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == str(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a directory"),
        (["{}", "--against", "nowhere"], "nowhere is not a directory"),
        (["{}", "--dense", "nowhere"], "--dense nowhere has no config.json"),
        (["{}", "--text", "texts"], "give --dense too"),
        (["{}", "--dense", "{}", "--text", "texts"], "texts cannot be read"),
        (["{}", "--dense", "{}", "--text", "../pairs"], "--text ../pairs: has two texts per line"),
        (["{}", "--html", "{}/page.html"], "lies in the checkpoint"),
        (["{}", "--html", "a", "--json", "a"], "--json a would overwrite --html"),
        (["{}", "--seed", "-1"], "--seed -1"),
    ],
)
def test_invalid_input_gives_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    path = str(tiny_checkpoint())
    (tmp_path / "pairs").write_text("one\tanother\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    capsys.readouterr()
    assert main(["inspect", *(word.replace("{}", path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not list((tmp_path / "here").iterdir())


def test_inspect_does_not_import_training_code(tiny_checkpoint: Callable[..., Path]) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom aerogel.cli import main\n"
        f"main(['inspect', {str(tiny_checkpoint())!r}, '--json', '-'])\n"
        "loaded = {'torch', 'matplotlib', 'aerogel.train.run', 'aerogel.train.loop'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
