"""An exported model in sentence-transformers: python examples/sentence_transformers_backend.py FOLDER FILE TEXT ...

FOLDER is what `aerogel export MODEL --layout hub --out FOLDER` wrote, and FILE the model in it, such as
onnx/model_sparse_int8.onnx. Needs sentence-transformers[onnx].
"""

from __future__ import annotations

import sys

from sentence_transformers import SentenceTransformer

import aerogel


def main(folder: str, file: str, *texts: str) -> None:
    """Print the similarity of each text to the first."""
    options = aerogel.session_options(library=True)
    model = SentenceTransformer(
        folder, backend="onnx", model_kwargs={"file_name": file, "session_options": options}
    )
    vectors = model.encode(list(texts))
    for text, similarity in zip(texts, model.similarity(vectors[:1], vectors)[0].tolist(), strict=True):
        print(f"{similarity:.3f}  {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
