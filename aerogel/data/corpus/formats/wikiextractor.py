"""WikiExtractor's output: ``<doc id=...>``, the title, one paragraph or heading per line, ``</doc>``."""

from __future__ import annotations

from aerogel.data.corpus.format import TextFormat
from aerogel.data.corpus.sentences import split_sentences

FORMAT = TextFormat(
    recognises=lambda first: first.startswith("<doc "),
    separates=lambda line: line.startswith("<doc ") or line.strip() == "</doc>",
    sentences=split_sentences,
)
