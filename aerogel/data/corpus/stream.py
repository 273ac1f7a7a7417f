"""Stream the documents of a corpus, epoch after epoch, in blocks that are small enough to shuffle in memory.

The order depends only on the seed and the files. Each epoch shuffles the files; the rows of a block are shuffled within
it. A block can be read from its `Place` without reading the blocks before it.
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
    """Position in the corpus where a block begins.

    Attributes:
        epoch: number of completed epochs.
        block: index of the block in this epoch.
        file: index of the file in this epoch's order.
        offset: byte offset (unpacked) in that file.
        line: number of lines before that offset.
    """

    epoch: int = 0
    block: int = 0
    file: int = 0
    offset: int = 0
    line: int = 0


class Corpus:
    """Documents of some files, a fraction of them held out for evaluation.

    Only its text decides whether a document is held out. Neither the file order, nor the seed, nor a copy of the
    document can move it into the training data.

    Args:
        paths: files and directories.
        held_out: fraction of the documents held out for evaluation.
        block: documents that are shuffled together.
        seed: seed of the file order.

    Raises:
        UsageError: see `text_files`.
    """

    def __init__(self, paths: Sequence[Path], held_out: float, block: int, seed: int) -> None:
        self.files = text_files(paths)
        self.held_out, self.block, self.seed = held_out, block, seed
        # Where the last block ended, and the iterator over the rest of its file. Reopening a .gz there would mean
        # unpacking it from the start.
        self._open: tuple[Place, Iterator[Document]] | None = None

    def read(self, place: Place) -> tuple[list[Document], Place]:
        """Read the training documents of the block at `place`; return them and the place of the next block.

        Raises:
            DataError: see `read_lines`; or the whole corpus has no training document.
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
                "no training document found; give files with text, or lower --eval-fraction"
            )
        after = Place(place.epoch + 1)
        return (found, after) if found else self.read(after)

    def held_out_documents(self) -> Iterator[Document]:
        """Yield the held-out documents, in the order of the files.

        Raises:
            DataError: see `read_lines`.
        """
        documents = itertools.chain.from_iterable(map(read_documents, self.files))
        return (document for document in documents if document.fraction() < self.held_out)

    def fingerprint(self) -> dict[str, Any]:
        """Return the number, total bytes and SHA-256 of the files on disk, packed ones as they are.

        Raises:
            DataError: a file cannot be read.
        """
        try:
            digests = [sha256(file) for file in self.files]
            size = sum(file.stat().st_size for file in self.files)
        except OSError as error:
            raise DataError(
                f"cannot read {error.filename} ({error.strerror}); check the path and its permissions"
            ) from error
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return {"files": len(self.files), "bytes": size, "sha256": whole}

    def _order(self, epoch: int) -> list[Path]:
        return random.Random(f"files {self.seed} {epoch}").sample(self.files, len(self.files))
