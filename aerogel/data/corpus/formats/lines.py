"""One sentence a line, a blank line between documents: what BERT was given."""

from __future__ import annotations

from aerogel.data.corpus.format import TextFormat

FORMAT = TextFormat(
    recognises=lambda first: False,  # noqa: ARG005  # nothing shows it: it is what every other file is read as
    separates=lambda line: not line.strip(),
    sentences=lambda line: [line.strip()],
)
