"""docs/reference/ agrees with the program: every verb, flag, plug-in name and environment variable."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import write_reference

from aerogel.cli import parsers
from aerogel.cli._environment import variables
from aerogel.registry import plugin_names

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"
VERBS = parsers()[1]
# Verb, flag, and the folder of the plug-ins that the flag takes.
NAMED = [
    ("train", "--method", "aerogel.train.methods"),
    ("train", "--task", "aerogel.data.tasks"),
    ("pretrain", "--method", "aerogel.train.methods"),
    ("sweep", "--method", "aerogel.train.methods"),
    ("sweep", "--task", "aerogel.data.tasks"),
    ("export", "--to", "aerogel.export.targets"),
    ("export", "--format", "aerogel.sparse.formats"),
    ("export", "--weights", "aerogel.ops.value_types"),
    ("export", "--embeddings", "aerogel.ops.value_types"),
    ("bench", "--backends", "aerogel.bench.backends"),
]


def section(verb: str) -> str:
    """The section of cli.md about one verb."""
    found = re.search(rf"^## aerogel {verb}\n(.*?)(?=^## |\Z)", (PAGES / "cli.md").read_text(), re.M | re.S)
    assert found, f"cli.md has no section on {verb}"
    return found[1]


def arguments(verb: str) -> Iterator[argparse.Action]:
    return (action for action in VERBS[verb]._actions if not isinstance(action, argparse._HelpAction))


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_has_a_row_and_a_meaning(verb: str) -> None:
    text = section(verb)
    for action in arguments(verb):
        name = action.option_strings[0] if action.option_strings else action.metavar
        rows = re.findall(rf"^\| `{re.escape(str(name))}`[^|]*\| (.+) \|$", text.replace("\\|", "/"), re.M)
        assert rows, f"cli.md has no row on {verb} {name}; run python tools/write_reference.py"
        assert action.help, f"{verb} {name} has no help"


@pytest.mark.parametrize("verb", VERBS)
def test_every_row_is_a_flag_of_the_verb(verb: str) -> None:
    known = {name for action in arguments(verb) for name in action.option_strings}
    rows = re.findall(r"^\| `(--[a-z-]+)`", section(verb), re.M)
    assert set(rows) <= known


def test_every_environment_variable_has_a_row() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (PAGES / "environment.md").read_text(), re.M)
    assert rows == sorted(variables())


def test_environment_variables_of_the_code_are_reported() -> None:
    """AEROGEL_ variables anywhere in the package are those of ``aerogel env``."""
    files = [file.read_text() for file in (ROOT / "aerogel").rglob("*.py")]
    # A name that ends in an underscore is a prefix.
    found = {name for text in files for name in re.findall(r"\"(AEROGEL_[A-Z_]*[A-Z])\"", text)}
    assert found
    assert found <= set(variables())


@pytest.mark.parametrize(("verb", "flag", "package"), NAMED)
def test_help_lists_the_plugins(verb: str, flag: str, package: str) -> None:
    (action,) = (action for action in arguments(verb) if flag in action.option_strings)
    names = plugin_names(package)
    assert names
    assert set(names) <= set(re.findall(r"[a-z0-9-]+", str(action.help)))


def test_pages_are_those_that_the_program_writes() -> None:
    assert write_reference.main(["--check"]) == 0


def test_check_finds_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_reference, "FOLDER", tmp_path)
    monkeypatch.setattr(write_reference, "PAGES", {"page.md": lambda: "new\n"})
    assert write_reference.main([]) == 0
    assert write_reference.main(["--check"]) == 0
    (tmp_path / "page.md").write_text("old\n")
    assert write_reference.main(["--check"]) == 1
    assert "page.md is out of date" in capsys.readouterr().out
