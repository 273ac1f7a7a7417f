"""Ordinary English for comparing outputs: what a model meets in use, from one word to the longest it takes."""

from __future__ import annotations

from pathlib import Path

from aerogel.errors import DataError
from aerogel.system.text import read_lines

__all__ = ["PAIRS", "SENTENCES", "read_texts"]

SENTENCES = (
    "Yes.",
    "The kettle is already on.",
    "It rained all night, and by morning the lower field was under water.",
    "I have never seen a duller film, nor laughed so much at one.",
    "Could you tell me when the next train to Porto leaves?",
    "Prices rose by 3.4% in May; economists had expected half of that.",
    "She didn't say no, but she didn't exactly say yes either.",
    "Turn left at the church, then follow the river for about two miles until you reach the old mill.",
    "The committee, which met twice last year, has still not decided whether the bridge should be rebuilt.",
    "'Where have you been?' he asked, though he knew the answer well enough.",
    "Batteries are not included!",
    "Our order (no. 48-1127) arrived on Tuesday with two cups broken and a third one missing.",
    "Bees see ultraviolet light, which is why many flowers carry patterns that we cannot see.",
    "The soup was cold, the waiter was rude, and we will certainly be back next week.",
    "Nobody in the village could remember a winter that had begun so early or lasted so long.",
    "Write to me at the café, c/o M. Dubois, 12 rue de l'Église.",
)

PAIRS = (
    ("Who wrote the letter?", "The letter, unsigned, was in her brother's hand."),
    ("A man is playing a guitar on stage.", "Someone makes music."),
    (
        "How tall is the tower?",
        "Built in 1911, the tower stands 42 metres high and can be seen from the harbour.",
    ),
    ("The shop closes at six.", "You can buy bread there at half past seven in the evening."),
    (
        "What do bees see that we do not?",
        "Bees see ultraviolet light, which is why many flowers carry patterns.",
    ),
    ("No.", "The two sides agreed on nothing except the date of their next meeting."),
)


def read_texts(path: Path) -> tuple[list[str], list[str] | None]:
    """Read a file of texts, one a line, or of text pairs with a tab between; a name ending in .gz is unpacked.

    Returns:
        The texts, and their partners if the file has pairs.

    Raises:
        DataError: the file is missing, is empty, is not UTF-8, or a line has another number of fields than the first.
    """
    rows = [line.text.split("\t") for line in read_lines(path, whole=True)]
    if not rows:
        raise DataError(f"{path} is empty; give one text, or two with a tab between, a line")
    fields = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != fields or fields > 2:
            raise DataError(
                f"{path}:{number}: {len(row)} fields where one text, or two with a tab between, should be in every line"
            )
    return [row[0] for row in rows], [row[1] for row in rows] if fields == 2 else None
