"""Routes of tasks, compared with `aerogel.load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aerogel


def test_tag(server: Any, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["tagger"], threads=1)
    texts = ["the film was good", "zebra 42"]
    for aggregate in (True, "simple", False):
        expected = [[span._asdict() for span in spans] for spans in model.tag(texts, aggregate=aggregate)]
        assert any(expected)
        assert server.post("/v1/tag", {"inputs": texts, "aggregate": aggregate}).json() == expected
    assert server.post("/v1/tag", {"inputs": texts[0]}).json() == [s._asdict() for s in model.tag(texts)[0]]


def test_answer(server: Any, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["reader"], threads=1)
    question, context = "is it good?", "the film was not very good " * 20
    expected = [answer._asdict() for answer in model.answer(question, context, top_k=3, stride=20)]
    body = {"question": question, "context": context, "top_k": 3, "stride": 20}
    assert server.post("/v1/answer", body).json() == expected
    # The context is split into windows, so that it may be longer than the model's limit.
    assert server.post("/v1/answer", {**body, "question": "good " * 100}).status_code == 422


def test_fill_mask(server: Any, folders: dict[str, Path]) -> None:
    text = "the [MASK] was good"
    expected = [
        item._asdict() for item in aerogel.load(folders["filler"], threads=1).fill_mask(text, top_k=2)
    ]
    assert server.post("/v1/fill-mask", {"inputs": text, "top_k": 2}).json() == expected
    reply = server.post("/v1/fill-mask", {"inputs": "no mask"})
    assert reply.status_code == 422
    assert reply.json()["error"] == "text has 0 mask tokens; write [MASK] once, in place of the missing word"
