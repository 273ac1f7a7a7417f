"""An exported model as LangChain embeddings: python examples/langchain_embeddings.py FOLDER QUERY TEXT [TEXT ...].

FOLDER is what `aerogel export MODEL --out FOLDER/model.onnx` wrote, of an embedder. Needs langchain-core.
"""

from __future__ import annotations

import sys

from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

import aerogel


class AerogelEmbeddings(Embeddings):
    """Embeddings of a model that `aerogel.load` opens.

    Args:
        folder: the exported model.
        options: of `aerogel.load`, such as ``threads=4``.
    """

    def __init__(self, folder: str, **options: int) -> None:
        self.model = aerogel.load(folder, **options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of texts to search in."""
        return self.model.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Vector of a query. Pass ``prompt="query"`` to `embed` for a model that has such a prompt."""
        return self.model.embed([text])[0].tolist()


def main(folder: str, query: str, *texts: str) -> None:
    """Print the text that is most similar to the query."""
    store = InMemoryVectorStore.from_texts(list(texts), AerogelEmbeddings(folder, threads=1))
    ((found, score),) = store.similarity_search_with_score(query, k=1)
    print(f"{score:.3f}  {found.page_content}")


if __name__ == "__main__":
    main(*sys.argv[1:])
