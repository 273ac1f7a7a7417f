from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.loadtest.route import ROUTES, template

BODIES: dict[str, tuple[str, Any]] = {
    "tei": ("/embed", {"inputs": "é", "truncate": True}),
    "openai": ("/v1/embeddings", {"model": "m", "input": "é"}),
    "infinity": ("/embeddings", {"model": "m", "input": ["é"]}),
}


def test_every_route_is_tested() -> None:
    assert set(ROUTES.names()) == set(BODIES)


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_those_of_the_servers(name: str) -> None:
    path, body = BODIES[name]
    assert ROUTES.get(name).path == path
    assert json.loads(ROUTES.get(name).encode("é", "m")) == body


def test_a_template_replaces_whole_values_only(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"q": ["{text}", {"m": "{model}"}], "n": 1, "x": "a {text}"}')
    assert json.loads(template(file, "/p").encode("{model}", "m")) == {
        "q": ["{model}", {"m": "m"}], "n": 1, "x": "a {text}",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", '{"a": "b"}', '{"{text}": 1}'])
def test_a_template_without_a_text_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "body.json").write_text(text)
    with pytest.raises(UsageError, match=r"--body .*body.json: "):
        template(tmp_path / "body.json", "/p")
