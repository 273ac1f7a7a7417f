"""Stream the documents of a text file. Reading can resume after any document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aerogel.data.corpus.format import TextFormat
from aerogel.data.corpus.formats import recognise
from aerogel.system.text import Line, read_lines

__all__ = ["Document", "read_documents"]

# Characters after which a document is cut. A file without separators would otherwise fill the memory.
_MAX_CHARACTERS = 1 << 18


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        lines: lines without separators.
        format: text format of the file.
        end: byte offset (unpacked) in the file where the next document is read from.
        line: number of lines before that offset.
    """

    lines: tuple[str, ...]
    format: TextFormat
    end: int
    line: int

    def sentences(self) -> list[str]:
        """Return the sentences, in order."""
        return [sentence for line in self.lines for sentence in self.format.sentences(line)]

    def fraction(self) -> float:
        """Hash the text to a number in [0, 1). Equal documents get equal numbers."""
        digest = hashlib.blake2b("\n".join(self.lines).encode(), digest_size=8).digest()
        # Use the upper 53 bits, the precision of a float: 2**64 - 1 would round to 1.
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def read_documents(path: Path, offset: int = 0, line: int = 0) -> Iterator[Document]:
    """Yield the documents of a file from byte `offset` on; `line` is the number of lines before it.

    A document of more than 256 Ki characters is cut into several.

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
            if size > _MAX_CHARACTERS:
                yield Document(tuple(kept), format, last.end, last.number)
                kept, size = [], 0
        elif kept:
            yield Document(tuple(kept), format, last.start, last.number - 1)
            kept, size = [], 0
    if kept:
        yield Document(tuple(kept), format, last.end, last.number)
