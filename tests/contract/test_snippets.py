"""Commands and Python code in the documentation fit the command line and the public functions of today."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aerogel
from aerogel.cli import parsers
from aerogel.errors import UsageError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Results pages keep the commands that measured them, as they were then.
CURRENT = [page for page in PAGES if page.parent.name != "results"]


def blocks(text: str, language: str) -> Iterator[str]:
    """Fenced blocks of a language in Markdown."""
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        yield inspect.cleandoc(" \n" + found.group(2))


def commands(text: str) -> Iterator[str]:
    """Lines that begin with `aerogel`, alone or behind $, in fenced or indented code; continued lines are joined."""
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        found = re.match(r"(?: {4,}|\$ |)(?:\$ )?(aerogel [a-z].*)", line)
        if found:
            yield re.split(r"\s(?:#|\||>|&&|2>)", found.group(1))[0].rstrip("\\ ")


def calls(code: str) -> Iterator[tuple[Any, ast.Call]]:
    """Calls of public functions of the package in a piece of code: (function, call)."""
    tree = ast.parse(code)
    models = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "aerogel.load(" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "aerogel":
                yield getattr(aerogel, node.func.attr), node
            elif isinstance(owner, ast.Name) and owner.id in models:
                yield getattr(aerogel.Model, node.func.attr), node


def misfit(function: Any, call: ast.Call) -> str:
    """Why a call does not fit a function's signature; empty if it does."""
    signature = inspect.signature(function)
    method = next(iter(signature.parameters), "") == "self"
    if any(isinstance(value, ast.Starred) for value in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return ""
    try:
        signature.bind(*[None] * (len(call.args) + method), **{str(key.arg): None for key in call.keywords})
    except TypeError as error:
        return f"{ast.unparse(call)}: {error}"
    return ""


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", CURRENT, ids=page_id)
def test_commands_are_accepted_by_the_command_line(page: Path) -> None:
    parser, _ = parsers()
    for command in commands(page.read_text(encoding="utf-8")):
        words = [word for word in shlex.split(command)[1:] if word not in ("...", "…")]
        if "--help" in words or "[" in command:
            continue
        try:
            _, rest = parser.parse_known_args(words)
        except UsageError as error:
            pytest.fail(f"{command}: {error}")
        assert rest == [], command


@pytest.mark.parametrize("page", CURRENT, ids=page_id)
def test_python_code_fits_the_signatures(page: Path) -> None:
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        assert [reason for function, call in calls(code) if (reason := misfit(function, call))] == []


def test_the_help_of_the_package_fits_the_signatures() -> None:
    examples = str(aerogel.__doc__).partition("Run an exported model:")[2]
    code = "\n".join(line[4:] for line in examples.splitlines() if line.startswith("    "))
    found = list(calls(code))
    assert len(found) >= 6
    assert [reason for function, call in found if (reason := misfit(function, call))] == []


def test_a_stale_call_is_found() -> None:
    ((function, call),) = calls('aerogel.ExportConfig(checkpoint="x", out="y")')
    assert "checkpoint" in misfit(function, call)


def test_commands_are_found() -> None:
    text = (
        "    aerogel export MODEL \\\n        --out x.onnx  # why\n\n$ aerogel env | head\n`aerogel bench`\n"
    )
    assert list(commands(text)) == ["aerogel export MODEL --out x.onnx", "aerogel env"]
