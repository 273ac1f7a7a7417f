"""The documents of text files, as a stream that can be taken up again behind any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aerogel.data.corpus.format import TextFormat
from aerogel.data.corpus.formats import recognise
from aerogel.system.text import Line, read_lines

__all__ = ["Document", "read_documents"]

# Characters after which a document is cut: a file without any separator must not be held in memory as a whole.
_LONGEST = 1 << 18


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        lines: its lines, separators left out.
        format: of the file that it is from.
        end: bytes (unpacked) in front of what follows it in its file.
        line: lines in front of what follows it.
    """

    lines: tuple[str, ...]
    format: TextFormat
    end: int
    line: int

    def sentences(self) -> list[str]:
        """Its sentences, in order."""
        return [sentence for line in self.lines for sentence in self.format.sentences(line)]

    def fraction(self) -> float:
        """A number in [0, 1) that depends on nothing but the text: equal documents have equal ones."""
        digest = hashlib.blake2b("\n".join(self.lines).encode(), digest_size=8).digest()
        # The upper 53 bits: a float holds no more, and 2**64 - 1 would round to 1.
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def read_documents(path: Path, offset: int = 0, line: int = 0) -> Iterator[Document]:
    """Documents of a file from byte `offset` on, in front of which there are `line` lines.

    A document of more than 256 Ki characters is cut, and counts as several.

    Raises:
        DataError: see `read_lines`.
    """
    first = next((found.text for found in read_lines(path) if found.text.strip()), None)
    if first is None:
        return
    format = recognise(first)
    kept: list[str] = []
    size = 0
    last = Line(offset, offset, line, "")
    for last in read_lines(path, offset, line):
        if not format.separates(last.text):
            if last.text.strip():
                kept.append(last.text)
                size += len(last.text)
            if size > _LONGEST:
                yield Document(tuple(kept), format, last.end, last.number)
                kept, size = [], 0
        elif kept:
            yield Document(tuple(kept), format, last.start, last.number - 1)
            kept, size = [], 0
    if kept:
        yield Document(tuple(kept), format, last.end, last.number)
