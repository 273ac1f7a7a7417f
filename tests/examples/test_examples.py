"""Run each file of examples/ on a tiny model."""

from __future__ import annotations

import asyncio
import json
import runpy
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import aerogel
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.kernels.cpu.library import find_library
from aerogel.runtime import session_options

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> None:
    runpy.run_path(str(EXAMPLES / name))["main"](*arguments)


def test_a_dense_model_is_exported_and_embeds_texts(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint("bert", "", density=1.0, num_hidden_layers=1)
    capsys.readouterr()
    run("export_from_python.py", str(model), str(tmp_path / "served" / "model.onnx"))
    printed = capsys.readouterr().out
    assert "density of the encoder's matrices 100.0%" in printed
    assert "difference" in printed
    run("embed.py", str(tmp_path / "served"), "good film", "bad film", "good film")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1.000  good film"
    assert [line[7:] for line in lines] == ["good film", "bad film"]


@pytest.fixture(scope="session")
def embedder(tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported embedder in the hub's layout."""
    folder = tmp_path_factory.mktemp("embedder")
    source = folder / "source"
    shutil.copytree(tiny_checkpoint("bert", "", density=1.0, num_hidden_layers=1), source)
    for name in ("aerogel.json", "masks.safetensors"):
        (source / name).unlink()
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (source / "modules.json").write_text(
        json.dumps([{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds])
    )
    export(ExportConfig(source, folder / "hub", layout="hub"))
    return folder / "hub"


def modules(monkeypatch: pytest.MonkeyPatch, **names: dict[str, Any]) -> None:
    """Put stand-ins of packages that the tests do not install in place; a dot in a name is written ``__``."""
    for name, content in names.items():
        parts = name.split("__")
        for end in range(1, len(parts) + 1):
            module = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, module, sys.modules.get(module, types.ModuleType(module)))
        for key, value in content.items():
            setattr(sys.modules[".".join(parts)], key, value)


def nearest(query: list[float], vectors: list[list[float]]) -> tuple[int, float]:
    """Index of the vector with the largest cosine, and the cosine."""
    q, v = np.array(query), np.array(vectors)
    scores = v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q)
    return int(scores.argmax()), float(scores.max())


def test_langchain_gets_vectors_of_texts_and_queries(
    embedder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Store:
        @classmethod
        def from_texts(cls, texts: list[str], embedding: Any) -> Store:
            store = cls()
            store.texts, store.embedding = texts, embedding
            store.vectors = embedding.embed_documents(texts)
            assert type(store.vectors[0][0]) is float
            return store

        def similarity_search_with_score(self, query: str, k: int) -> list[tuple[Any, float]]:
            assert k == 1
            index, score = nearest(self.embedding.embed_query(query), self.vectors)
            return [(types.SimpleNamespace(page_content=self.texts[index]), score)]

    modules(
        monkeypatch,
        langchain_core__embeddings={"Embeddings": object},
        langchain_core__vectorstores={"InMemoryVectorStore": Store},
    )
    run("langchain_embeddings.py", str(embedder), "good film", "bad", "good film")
    assert capsys.readouterr().out == "1.000  good film\n"


def test_llama_index_gets_vectors_of_texts_and_queries(
    embedder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Embedding:
        def __init__(self, model_name: str) -> None:
            self.model_name = model_name

    class Index:
        def __init__(self, nodes: list[Any], embed_model: Any) -> None:
            self.nodes, self.model = nodes, embed_model
            self.vectors = embed_model._get_text_embeddings([node.text for node in nodes])

        def as_retriever(self, similarity_top_k: int) -> Index:
            assert similarity_top_k == 1
            return self

        def retrieve(self, query: str) -> list[Any]:
            vector = self.model._get_query_embedding(query)
            assert asyncio.run(self.model._aget_query_embedding(query)) == vector
            index, score = nearest(vector, self.vectors)
            content = self.nodes[index].text
            return [
                types.SimpleNamespace(score=score, node=types.SimpleNamespace(get_content=lambda: content))
            ]

    modules(
        monkeypatch,
        llama_index__core={"VectorStoreIndex": Index},
        llama_index__core__embeddings={"BaseEmbedding": Embedding},
        llama_index__core__schema={"TextNode": types.SimpleNamespace},
        pydantic={"PrivateAttr": lambda: None},
    )
    run("llama_index_embeddings.py", str(embedder), "good film", "bad", "good film")
    assert capsys.readouterr().out == "1.000  good film\n"


def test_sentence_transformers_gets_the_file_and_options_that_run_it(
    embedder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in opens the session as optimum does, and reads the output that optimum reads."""
    loaded = aerogel.load(embedder, threads=1)

    class SentenceTransformer:
        def __init__(self, folder: str, backend: str, model_kwargs: dict[str, Any]) -> None:
            assert backend == "onnx"
            self.session = onnxruntime.InferenceSession(
                str(Path(folder) / model_kwargs["file_name"]), model_kwargs["session_options"]
            )

        def encode(self, texts: list[str]) -> np.ndarray:
            vectors = []
            for text in texts:
                ids = np.array([loaded.tokenize([text])[0].ids], np.int64)
                feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
                vectors.append(self.session.run(["last_hidden_state"], feed)[0][0].mean(0))
            np.testing.assert_allclose(vectors, loaded.embed(texts), atol=1e-4)
            return np.array(vectors)

        def similarity(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
            return (one @ other.T) / np.linalg.norm(one) / np.linalg.norm(other, axis=1)

    if find_library() is None:
        monkeypatch.setattr(aerogel, "session_options", lambda **_: session_options())
    modules(monkeypatch, sentence_transformers={"SentenceTransformer": SentenceTransformer})
    run("sentence_transformers_backend.py", str(embedder), "onnx/model_sparse.onnx", "good film", "good film")
    assert capsys.readouterr().out == "1.000  good film\n" * 2


def test_every_example_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [file.name for file in EXAMPLES.glob("*.py") if f'"{file.name}"' not in source] == []
