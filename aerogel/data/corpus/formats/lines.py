"""One sentence per line, a blank line between documents: the format of BERT's pre-training data."""

from __future__ import annotations

from aerogel.data.corpus.format import TextFormat

FORMAT = TextFormat(
    recognises=lambda first: False,  # noqa: ARG005  # the fallback for files no other format recognises
    separates=lambda line: not line.strip(),
    sentences=lambda line: [line.strip()],
)
