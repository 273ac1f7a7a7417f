"""What WikiExtractor writes: ``<doc id=...>``, the title, a paragraph or a heading a line, ``</doc>``."""

from __future__ import annotations

from aerogel.data.corpus.format import TextFormat
from aerogel.data.corpus.sentences import split_sentences

FORMAT = TextFormat(
    recognises=lambda first: first.startswith("<doc "),
    separates=lambda line: line.startswith("<doc ") or line.strip() == "</doc>",
    sentences=split_sentences,
)
