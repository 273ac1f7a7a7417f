"""Argument types that several verbs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError

__all__ = ["Pairs", "apart", "block", "numbers", "words"]


class Pairs(argparse.Action):
    """NAME=VALUE, given any number of times; the argument is a dict of texts."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, __: Any = None) -> None:
        name, equals, value = str(values).partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentError(self, f"{values!r} is not NAME=VALUE")
        given = getattr(namespace, self.dest)
        if name in given:
            raise argparse.ArgumentError(self, f"{name} is given twice")
        # A new dict: the default is shared by all parses.
        setattr(namespace, self.dest, {**given, name: value})


def block(text: str) -> tuple[int, int]:
    """A block shape written ROWSxCOLS, such as 4x1; both sides at least 1."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS with whole numbers from 1, such as 4x1")
    return int(match[1]), int(match[2])


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between."""
    if not re.fullmatch(r"-?[0-9]{1,18}(,-?[0-9]{1,18})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, or several with commas between")
    return [int(word) for word in text.split(",")]


def words(text: str) -> list[str]:
    """Names with commas between."""
    return [word for word in text.split(",") if word]


def apart(outputs: Mapping[str, Path | None], taken: Mapping[str, Path | None]) -> None:
    """Refuse outputs, by flag, that would overwrite one another or one of the files `taken`, by what they are.

    Raises:
        UsageError: two of them are the same file, symbolic and hard links followed.
    """
    seen = [(what, path) for what, path in taken.items() if path is not None]
    for flag, path in outputs.items():
        if path is None:
            continue
        for what, other in seen:
            if _same(path, other):
                raise UsageError(f"{flag} {path} would overwrite {what}; choose another name")
        seen.append((flag, path))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, RuntimeError):  # one does not exist, or is a link to itself
        return False
