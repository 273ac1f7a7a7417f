"""Argument types that several verbs share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

__all__ = ["Pairs", "block", "numbers", "output", "words"]


class Pairs(argparse.Action):
    """NAME=VALUE, given any number of times; the argument is a dict of texts."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, __: Any = None) -> None:
        """Add one pair to the namespace; see argparse."""
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


def output(text: str) -> Path:
    """The path of a file or folder to write. Flags of this type are tested for devices, pipes and links."""
    return Path(text)
