"""What is sent to a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.registry import Registry
from aerogel.system.json_fields import MalformedJsonError, read

__all__ = ["ROUTES", "Route", "template"]

_TEXT, _MODEL = "{text}", "{model}"


@dataclass(frozen=True)
class Route:
    """One kind of request. A module of ``routes/`` defines ``ROUTE``, an instance.

    Attributes:
        path: path of the URL.
        body: JSON body of a (text, model).
    """

    path: str
    body: Callable[[str, str], Any]

    def encode(self, text: str, model: str) -> bytes:
        """The body in bytes."""
        return json.dumps(self.body(text, model), ensure_ascii=False).encode()


ROUTES: Registry[Route] = Registry("route", "aerogel.loadtest.routes", "ROUTE")


def template(file: Path, path: str) -> Route:
    """A route whose body is a JSON file, in which the values "{text}" and "{model}" are replaced.

    Raises:
        UsageError: the file is not JSON, or has no value "{text}".
    """
    try:
        document = read(file)
    except (OSError, MalformedJsonError) as error:
        raise UsageError(f"--body {file}: {error}; give a JSON file") from error
    if _TEXT not in _strings(document):
        raise UsageError(f'--body {file}: no value is "{_TEXT}"; put it where the text belongs')
    return Route(path, lambda text, model: _filled(document, {_TEXT: text, _MODEL: model}))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    return words.get(value, value) if isinstance(value, str) else value
