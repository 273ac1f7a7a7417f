# ruff: noqa: RUF001  # quotation marks and stops of other scripts are meant
"""Paragraphs into sentences, by rules: a next-sentence row needs boundaries that are mostly right, not all of them."""

from __future__ import annotations

import re

__all__ = ["split_sentences"]

# Stops, what closes behind them, and a blank; or a stop of Chinese or Japanese, which needs no blank.
_STOP = re.compile(
    # Looked for at the first of several stops only: a line of nothing but stops would take for ever.
    r"(?<![.!?…])(?P<stop>[.!?…]+)[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡]*(?P<next>\w))"
    r"|(?<=[。！？])(?=[^\s。！？」』”’）])"
)
# Words that a full stop belongs to. Those of the second set are meant so only in front of a number.
_ABBREVIATIONS = frozenset((
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "gov", "sen", "rep", "pres", "st",
    "mt", "sr", "jr", "vs", "etc", "al", "ca", "cf", "fig", "eq", "approx", "dept", "est", "inc", "ltd", "co", "corp",
    "bros", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
))  # fmt: skip
_BEFORE_NUMBERS = frozenset(("no", "nos", "vol", "vols", "p", "pp", "ch", "art", "sec", "op"))
# Characters in front of a stop among which the word is that it may belong to.
_WORD = 40


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph, in order and without blanks around them; none is empty.

    A sentence ends at ``.``, ``!``, ``?`` or an ellipsis followed by a blank and something that does not begin in
    lower case, unless the full stop belongs to an abbreviation, an initial or letters with stops between (U.S.).
    """
    found, start = [], 0
    for match in _STOP.finditer(paragraph):
        before = paragraph[max(start, match.start() - _WORD) : match.start()]
        if match["stop"] is None or _ends(before, match["stop"], match["next"]):
            found.append(paragraph[start : match.end()].strip())
            start = match.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(before: str, stop: str, following: str) -> bool:
    """Whether `stop` behind the text `before` ends a sentence that `following` would begin the next of."""
    if following.islower():
        return False
    if stop != ".":
        return True
    # Only a blank can be in front of the last word; text that is already cut into words has one in front of the stop.
    last = re.search(r"\S*$", before)
    word = (last[0] if last else "").lstrip("\"'“‘«([")
    if word.lower() in _ABBREVIATIONS or (word.lower() in _BEFORE_NUMBERS and following.isdigit()):
        return False
    return not re.fullmatch(r"[^\W\d_](\.[^\W\d_])*", word)
