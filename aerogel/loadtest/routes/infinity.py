"""infinity: ``POST /embeddings`` with one text."""

from __future__ import annotations

from typing import Any

from aerogel.loadtest.route import Route

__all__ = ["ROUTE"]


def _body(text: str, model: str) -> dict[str, Any]:
    return {"model": model, "input": [text]}


ROUTE = Route("/embeddings", _body)
