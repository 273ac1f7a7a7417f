"""An exported model as LlamaIndex embeddings: python examples/llama_index_embeddings.py FOLDER QUERY TEXT [TEXT ...].

FOLDER is what `aerogel export MODEL --out FOLDER/model.onnx` wrote, of an embedder. Needs llama-index-core.
"""

from __future__ import annotations

import asyncio
import sys

from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from pydantic import PrivateAttr

import aerogel


class AerogelEmbedding(BaseEmbedding):
    """Embeddings of a model that `aerogel.load` opens.

    Args:
        folder: the exported model.
        threads: threads of one call.
    """

    _model: aerogel.Model = PrivateAttr()

    def __init__(self, folder: str, threads: int | None = None) -> None:
        super().__init__(model_name=folder)
        self._model = aerogel.load(folder, threads=threads)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._model.embed([text])[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.embed(texts).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, query)


def main(folder: str, query: str, *texts: str) -> None:
    """Print the text that is most similar to the query."""
    nodes = [TextNode(text=text) for text in texts]
    index = VectorStoreIndex(nodes, embed_model=AerogelEmbedding(folder, threads=1))
    (found,) = index.as_retriever(similarity_top_k=1).retrieve(query)
    print(f"{found.score:.3f}  {found.node.get_content()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
