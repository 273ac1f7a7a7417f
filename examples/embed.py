"""Rank texts by their similarity to a query: python examples/embed.py FOLDER QUERY TEXT [TEXT ...].

FOLDER is what `aerogel export MODEL --out FOLDER/model.onnx` wrote, of an embedder or a plain encoder.
"""

from __future__ import annotations

import sys

import aerogel


def main(folder: str, query: str, *texts: str) -> None:
    """Print the cosine similarity of each text, the most similar first."""
    model = aerogel.load(folder, threads=1)
    options = {"pooling": "mean"} if model.head.kind == "tokens" else {}
    vectors = model.embed([query, *texts], normalize=True, **options)
    similarities = vectors[1:] @ vectors[0]
    for index in similarities.argsort()[::-1]:
        print(f"{similarities[index]:.3f}  {texts[index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
