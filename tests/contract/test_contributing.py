"""The table of CONTRIBUTING.md names folders and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = [line for line in PAGE.splitlines() if line.startswith("| ")]
PATHS = sorted({path for line in TABLE for path in re.findall(r"`([\w-]+/[^`]*|[\w-]+/)`", line)})

REGISTRY = re.compile(r'Registry\(\s*"[^"]*",\s*"(aerogel[\w.]+)",\s*"(\w+)"')
"""The folder of a registry's plug-ins, and the name that each of them defines."""


def missing(pattern: str, root: Path = ROOT) -> str | None:
    """The first part of a path that does not exist; None if all do.

    A part with ``<name>`` stands for any file: at least one file must fit it.
    """
    folder, _, name = pattern.rpartition("/")
    if not (root / folder).is_dir():
        return folder
    fits = [path.name for path in (root / folder).glob(re.sub(r"<\w+>", "*", name) or "*")]
    return None if any(not fit.startswith("__") for fit in fits) else pattern


def test_the_table_has_a_path_in_every_row() -> None:
    assert len(TABLE) > 15
    assert len(PATHS) > len(TABLE)


@pytest.mark.parametrize("path", PATHS)
def test_paths_of_the_table_exist(path: str) -> None:
    assert missing(path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("aerogel/gone/<name>.py", "aerogel/gone"),
        ("aerogel/train/methods/<name>.toml", "aerogel/train/methods/<name>.toml"),
        ("aerogel/hf/gone.py", "aerogel/hf/gone.py"),
    ],
)
def test_a_path_that_does_not_exist_is_found(path: str, expected: str) -> None:
    assert missing(path) == expected


def test_every_folder_of_plug_ins_is_in_the_table() -> None:
    found = [
        (module.replace(".", "/"), attribute)
        for file in (ROOT / "aerogel").rglob("*.py")
        for module, attribute in REGISTRY.findall(file.read_text(encoding="utf-8"))
    ]
    assert len(found) > 15
    rows = [(folder, name) for folder, name in found if any(f"`{folder}/" in line for line in TABLE)]
    assert rows == found
    unnamed = [
        (folder, name)
        for folder, name in found
        if not any(f"`{folder}/" in line and f"`{name}`" in line for line in TABLE)
    ]
    assert unnamed == []
