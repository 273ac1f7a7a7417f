"""Argument types that several verbs share."""

from __future__ import annotations

import argparse
import re

__all__ = ["block"]


def block(text: str) -> tuple[int, int]:
    """A block shape written ROWSxCOLS, such as 4x1; both sides at least 1."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS with whole numbers from 1, such as 4x1")
    return int(match[1]), int(match[2])
