"""All documents of a corpus, epoch after epoch, in blocks that are small enough to be shuffled in memory.

The order is a function of the seed and the files alone: each epoch draws the order of the files anew, and what is made
of a block is shuffled within it. A block can be read again from its `Place` without what came before it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.data.corpus.documents import Document, read_documents
from aerogel.data.corpus.files import text_files
from aerogel.errors import DataError
from aerogel.system.atomic_io import sha256

__all__ = ["Corpus", "Place"]


@dataclass(frozen=True)
class Place:
    """Where a block begins.

    Attributes:
        epoch: passes over the corpus in front of it.
        block: blocks of this epoch in front of it.
        file: files of this epoch's order in front of the one that it begins in.
        offset: bytes (unpacked) of that file in front of it.
        line: lines of that file in front of it.
    """

    epoch: int = 0
    block: int = 0
    file: int = 0
    offset: int = 0
    line: int = 0


class Corpus:
    """The documents of some files, a fraction of them held out.

    A document is held out by its text alone, so that neither the order of the files nor the seed nor a copy of it moves
    it into what is trained on.

    Args:
        paths: files and directories.
        held_out: fraction of the documents that are not trained on.
        block: documents that are shuffled together.
        seed: decides the order.

    Raises:
        UsageError: see `text_files`.
    """

    def __init__(self, paths: Sequence[Path], held_out: float, block: int, seed: int) -> None:
        self.files = text_files(paths)
        self.held_out, self.block, self.seed = held_out, block, seed
        # Where the last block ended, and the documents from there on in its file: a .gz can be read on from there only
        # by unpacking all of it again.
        self._open: tuple[Place, Iterator[Document]] | None = None

    def read(self, place: Place) -> tuple[list[Document], Place]:
        """The documents to train on of the block at `place`, and the place of the next.

        Raises:
            DataError: see `read_lines`; or there is no document to train on in the whole corpus.
        """
        order = self._order(place.epoch)
        opened, self._open = self._open, None
        found: list[Document] = []
        offset, line = place.offset, place.line
        for number in range(place.file, len(order)):
            if number == place.file and opened and opened[0] == place:
                documents = opened[1]
            else:
                documents = read_documents(order[number], offset, line)
            for document in documents:
                if document.fraction() >= self.held_out:
                    found.append(document)
                if len(found) == self.block:
                    after = Place(place.epoch, place.block + 1, number, document.end, document.line)
                    self._open = after, documents
                    return found, after
            offset = line = 0
        if not found and not place.block:
            raise DataError(
                f"--text {self.files[0]}{' and the others' if len(self.files) > 1 else ''}: "
                "no document to train on; give files with text, or lower --eval-fraction"
            )
        after = Place(place.epoch + 1)
        return (found, after) if found else self.read(after)

    def held_documents(self) -> Iterator[Document]:
        """The documents that are held out, in the order of the files.

        Raises:
            DataError: see `read_lines`.
        """
        documents = itertools.chain.from_iterable(map(read_documents, self.files))
        return (document for document in documents if document.fraction() < self.held_out)

    def identity(self) -> dict[str, Any]:
        """Number, bytes and SHA-256 of the files as they are on the disk.

        Raises:
            DataError: one cannot be read.
        """
        try:
            digests = [sha256(file) for file in self.files]
            size = sum(file.stat().st_size for file in self.files)
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}); see to it") from error
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return {"files": len(self.files), "bytes": size, "sha256": whole}

    def _order(self, epoch: int) -> list[Path]:
        return random.Random(f"files {self.seed} {epoch}").sample(self.files, len(self.files))
