from __future__ import annotations

from pathlib import Path
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


def test_from_json_reads_every_field() -> None:
    head = Head.from_json(GOOD, Path("m.json"))
    assert {name: getattr(head, name) for name in GOOD} == GOOD
    assert Head.from_json({"kind": "tokens", "output": "x"}, Path("m.json")) == Head("tokens", "x")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "kind",
            "pool",
            r'head\.kind is "pool", not one of answer, classify, embed, fill_mask, multi_vector',
        ),
        ("kind", None, r"head\.kind is null, not one of answer"),
        ("kind", ["embed"], r'head\.kind is \["embed"\], not one of'),
        ("output", "", r"head\.output is empty"),
        ("dimensions", 0, r"head\.dimensions is 0, not an integer from 1 up to 2147483648 or null"),
        ("dimensions", True, r"head\.dimensions is true, not an integer"),
        ("dimensions", 10**400, r"head\.dimensions is 1000.*, not an integer"),
        ("normalized", 1, r"head\.normalized is 1, not true or false"),
        ("labels", [], r"head\.labels is empty"),
        ("labels", ["a", 1], r"head\.labels\[1\] is 1, not text"),
        ("labels", ["\ud800"], r"head\.labels\[0\] is .*ud800.*, not text"),
        ("activation", "relu", r'head\.activation is "relu", not one of softmax, sigmoid, identity'),
        ("prompts", {"a": 1}, r"head\.prompts\.a is 1, not text"),
        ("prompts", {"\ud800": ""}, r"a name in head\.prompts is .*ud800.*, not text"),
        ("default_prompt", "passage", r"head\.default_prompt is 'passage', which is not in prompts"),
        ("pad_id", -1, r"head\.pad_id is -1, not an integer from 0"),
        ("pad", 1, r"head\.pad is not a known field; known: kind, output, dimensions"),
    ],
)
def test_the_error_names_a_malformed_field(field: str, value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"^m.json: {message}") as caught:
        Head.from_json(GOOD | {field: value}, Path("m.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["kind", "output"])
def test_the_error_names_a_missing_field(field: str) -> None:
    value = {name: item for name, item in GOOD.items() if name != field}
    with pytest.raises(ArtifactError, match=rf"^m\.json: head\.{field} is missing"):
        Head.from_json(value, Path("m.json"))


@pytest.mark.parametrize("value", [None, [], "embed", 3])
def test_a_head_must_be_an_object(value: Any) -> None:
    with pytest.raises(ArtifactError, match=r"m\.json: head is .*, not an object"):
        Head.from_json(value, Path("m.json"))
