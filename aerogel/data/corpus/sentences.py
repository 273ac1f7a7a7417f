# ruff: noqa: RUF001  # the quotation marks and stops of other scripts are intended
"""Split paragraphs into sentences by rules. Next-sentence prediction needs boundaries that are mostly right."""

from __future__ import annotations

import re

__all__ = ["split_sentences"]

# Stops, closing quotes or brackets, and a blank; or a Chinese or Japanese stop, which needs no blank.
_STOP = re.compile(
    # Match only at the first of several stops: a line of stops would otherwise take quadratic time.
    r"(?<![.!?…])(?P<stop>[.!?…]+)[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡]*(?P<next>\w))"
    r"|(?<=[。！？])(?=[^\s。！？」』”’）])"
)
# Words that are written with a full stop. Those of the second set are abbreviations only before a number.
_ABBREVIATIONS = frozenset((
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "gov", "sen", "rep", "pres", "st",
    "mt", "sr", "jr", "vs", "etc", "al", "ca", "cf", "fig", "eq", "approx", "dept", "est", "inc", "ltd", "co", "corp",
    "bros", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
))  # fmt: skip
_BEFORE_NUMBERS = frozenset(("no", "nos", "vol", "vols", "p", "pp", "ch", "art", "sec", "op"))
# Characters before a stop that are searched for an abbreviation.
_MAX_WORD = 40


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences, stripped, in order. No sentence is empty.

    A sentence ends at ``.``, ``!``, ``?`` or an ellipsis that is followed by a blank and a word not in lower case,
    unless the full stop belongs to an abbreviation, an initial or an acronym such as U.S.
    """
    found, start = [], 0
    for match in _STOP.finditer(paragraph):
        before = paragraph[max(start, match.start() - _MAX_WORD) : match.start()]
        if match["stop"] is None or _ends(before, match["stop"], match["next"]):
            found.append(paragraph[start : match.end()].strip())
            start = match.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(before: str, stop: str, following: str) -> bool:
    """Whether `stop`, between the text `before` and the word `following`, ends a sentence."""
    if following.islower():
        return False
    if stop != ".":
        return True
    # The last word may be empty: pre-tokenised text has a blank before the stop.
    last = re.search(r"\S*$", before)
    word = (last[0] if last else "").lstrip("\"'“‘«([")
    if word.lower() in _ABBREVIATIONS or (word.lower() in _BEFORE_NUMBERS and following.isdigit()):
        return False
    return not re.fullmatch(r"[^\W\d_](\.[^\W\d_])*", word)
