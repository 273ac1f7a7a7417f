"""Links between the pages of the documentation point at files and headings that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)```.*?^ *```", re.DOTALL | re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Targets of the relative links of a page, those in code excepted."""
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "code", FENCE.sub("", text))):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page whose file or heading does not exist."""
    found = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or ROOT not in file.resolve().parents:
            found.append(target)
        elif anchor and file.suffix == ".md":
            other = text if file == page else file.read_text(encoding="utf-8")
            found += [target] if anchor not in anchors(other) else []
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_points_at_an_existing_file(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def messages() -> Iterator[str]:
    """Every string of the program; a value in an f-string is a NUL."""
    for file in (ROOT / "aerogel").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_of_the_troubleshooting_page_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    assert len(quoted) >= 12
    patterns = {text: re.compile(".*".join(map(re.escape, text.split("..."))), re.DOTALL) for text in quoted}
    known = list(messages())
    assert [text for text, pattern in patterns.items() if not any(map(pattern.search, known))] == []


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for target in links(page.read_text(encoding="utf-8")):
            file = (page.parent / target.partition("#")[0]).resolve()
            if file.suffix == ".md" and file not in reached and file.is_file():
                reached.add(file)
                waiting.append(file)
    assert [page for page in PAGES if page.resolve() not in reached and page.name != "README.md"] == []


@pytest.mark.parametrize(
    "text",
    ["[a](gone.md)", "[a](README.md#no-such-heading)", "![a](docs/gone.png)", "[a](../../outside.md)"],
)
def test_a_broken_link_is_found(text: str) -> None:
    assert len(broken(ROOT / "README.md", text)) == 1


@pytest.mark.parametrize(
    "text",
    ["[a](https://example.org/x)", "`[a](gone.md)`", "```\n[a](gone.md)\n```", "[a](docs/README.md#help)"],
)
def test_other_links_and_code_are_accepted(text: str) -> None:
    assert broken(ROOT / "README.md", text) == []
