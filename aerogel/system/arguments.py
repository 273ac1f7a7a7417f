"""Types and actions of command line arguments that several verbs share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

__all__ = ["Pairs", "block", "numbers", "output", "words"]


class Pairs(argparse.Action):
    """Collect NAME=VALUE arguments, given any number of times, into a dict of texts."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, __: Any = None) -> None:
        """Add one pair to the namespace; see `argparse.Action`."""
        name, equals, value = str(values).partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentError(self, f"{values!r} is not NAME=VALUE")
        given = getattr(namespace, self.dest)
        if name in given:
            raise argparse.ArgumentError(self, f"{name} is given twice")
        # A new dict, because all parses share the default.
        setattr(namespace, self.dest, {**given, name: value})


def block(text: str) -> tuple[int, int]:
    """Parse a block shape ROWSxCOLS, such as 4x1, with both sides at least 1."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS with whole numbers from 1, such as 4x1")
    return int(match[1]), int(match[2])


def numbers(text: str) -> list[int]:
    """Parse comma-separated integers."""
    if not re.fullmatch(r"-?[0-9]{1,18}(,-?[0-9]{1,18})*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number or a comma-separated list of whole numbers"
        )
    return [int(word) for word in text.split(",")]


def words(text: str) -> list[str]:
    """Parse comma-separated names; empty ones are dropped."""
    return [word for word in text.split(",") if word]


def output(text: str) -> Path:
    """Parse the path of a file or folder to write; tests find output flags by this type."""
    return Path(text)
