"""docs/architectures.md, which tools/architectures.py writes, agrees with the exports."""

from __future__ import annotations

import architectures
import pytest
import transformers
from architectures import DOCUMENT, FUSED, REFUSED, UNFUSED, UNTRIED, Outcome
from tiny_models import HEADS, classes

DOCUMENTED = architectures.parse(DOCUMENT.read_text(encoding="utf-8"))

# One example of each outcome: fused, unfused, refused in a trial run, without token embeddings, by its class.
QUICK = [
    ("distilbert", "sequence"),
    ("xlm", "sequence"),
    ("funnel", "sequence"),
    ("canine", "sequence"),
    ("fnet", "plain"),
    ("bert", "choice"),
]


@pytest.fixture(autouse=True)
def same_transformers() -> None:
    if f"transformers {transformers.__version__}." not in DOCUMENT.read_text(encoding="utf-8"):
        pytest.skip("docs/architectures.md was written with another transformers; run tools/architectures.py")


def check(kind: str, head: str) -> None:
    found = architectures.outcome(kind, head)
    documented = DOCUMENTED.get((kind, head)) or DOCUMENTED[kind, ""]
    assert (found.status, found.reason) == documented
    assert "\n" not in found.reason


@pytest.mark.parametrize(("kind", "head"), QUICK)
def test_document_agrees_with_the_export(kind: str, head: str) -> None:
    check(kind, head)


@pytest.mark.slow
@pytest.mark.parametrize("kind", architectures.model_types())
def test_document_agrees_with_the_export_of_each_class(kind: str) -> None:
    for head in HEADS:
        if kind in classes(head) and DOCUMENTED.get((kind, head), ("",))[0] != UNTRIED:
            check(kind, head)


def test_document_has_every_class_of_transformers() -> None:
    whole = {kind for kind, head in DOCUMENTED if not head}
    for head in HEADS:
        for kind in classes(head):
            assert kind in whole or (kind, head) in DOCUMENTED, (kind, head)


def test_common_encoders_are_tried_with_all_heads() -> None:
    for kind in architectures.COMMON:
        assert UNTRIED not in {DOCUMENTED[kind, head][0] for head in HEADS if kind in classes(head)}, kind


def test_rendered_document_parses_to_the_same_outcomes() -> None:
    rows = [
        Outcome("bert", "plain", FUSED),
        Outcome("bert", "sequence", UNTRIED),
        Outcome("mra", "plain", UNFUSED),
        Outcome("mra", "choice", REFUSED, "takes 3 inputs (a. b: c)"),
        Outcome("vit", "plain", REFUSED, "takes pixels: no text", encoder=False),
        Outcome("swin", "plain", REFUSED, "takes pixels: no text", encoder=False),
    ]
    found = architectures.parse(architectures.render(rows))
    assert found == {
        (row.model_type, row.head if row.encoder else ""): (row.status, row.reason) for row in rows
    }
