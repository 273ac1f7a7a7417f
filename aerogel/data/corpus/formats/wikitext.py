"""WikiText: `` = Title = `` begins an article, `` = = Heading = = `` a section; one paragraph per line."""

from __future__ import annotations

import re

from aerogel.data.corpus.format import TextFormat
from aerogel.data.corpus.sentences import split_sentences

_TITLE = re.compile(r"\s*= [^=]*[^=\s] =\s*")
_HEADING = re.compile(r"\s*= = .* = =\s*")


def _sentences(line: str) -> list[str]:
    return [] if _HEADING.fullmatch(line) else split_sentences(line)


FORMAT = TextFormat(
    recognises=lambda first: _TITLE.fullmatch(first) is not None,
    separates=lambda line: _TITLE.fullmatch(line) is not None,
    sentences=_sentences,
)
