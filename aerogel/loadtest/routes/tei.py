"""text-embeddings-inference: ``POST /embed`` with one text."""

from __future__ import annotations

from typing import Any

from aerogel.loadtest.route import Route

__all__ = ["ROUTE"]


def _body(text: str, _model: str) -> dict[str, Any]:
    return {"inputs": text, "truncate": True}


ROUTE = Route("/embed", _body)
