from __future__ import annotations

from typing import Any

import pytest

from aerogel.errors import ArtifactError
from aerogel.model import Head

GOOD: dict[str, Any] = {
    "kind": "embed",
    "output": "sentence_embedding",
    "dimensions": 8,
    "normalized": True,
    "labels": None,
    "activation": None,
    "prompts": {"query": "query: "},
    "default_prompt": "query",
    "pad_id": 0,
}


def test_a_head_is_read_as_written() -> None:
    head = Head.from_json(GOOD, "m.json: head")
    assert {name: getattr(head, name) for name in GOOD} == GOOD
    assert Head.from_json({"kind": "tokens", "output": "x"}, "m.json: head") == Head("tokens", "x")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "pool", r"head\.kind is 'pool'; known: answer, classify, embed, fill_mask, multi_vector"),
        ("kind", None, r"head\.kind must be a string, not None"),
        ("kind", ["embed"], r"head\.kind must be a string"),
        ("output", "", r"head\.output must be the name of an output"),
        ("dimensions", 0, r"head\.dimensions must be an integer from 1"),
        ("dimensions", True, r"head\.dimensions must be an integer"),
        ("dimensions", 10**400, r"head\.dimensions must be an integer"),
        ("normalized", 1, r"head\.normalized must be true or false"),
        ("labels", [], r"head\.labels must be a list of one label"),
        ("labels", ["a", 1], r"head\.labels must be a list of strings"),
        ("labels", ["\ud800"], r"head\.labels must be a list of strings"),
        ("activation", "relu", r"head\.activation is 'relu'; known: softmax, sigmoid, identity"),
        ("prompts", {"a": 1}, r"head\.prompts must be an object of strings"),
        ("default_prompt", "passage", r"head\.default_prompt is 'passage', which prompts does not have"),
        ("pad_id", -1, r"head\.pad_id must be an integer from 0"),
        ("pad", 1, r"head\.pad is not a known field"),
    ],
)
def test_a_malformed_field_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"m.json: {message}") as caught:
        Head.from_json(GOOD | {field: value}, "m.json: head")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "embed", 3])
def test_a_head_is_an_object(value: Any) -> None:
    with pytest.raises(ArtifactError, match=r"m\.json: head must be an object"):
        Head.from_json(value, "m.json: head")
