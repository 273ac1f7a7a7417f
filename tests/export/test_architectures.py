"""docs/architectures.md agrees with what the export does; tools/architectures.py writes it."""

from __future__ import annotations

import architectures
import pytest
import transformers
from architectures import DOCUMENT, FUSED, REFUSED, UNFUSED, UNTRIED, Outcome
from tiny_models import HEADS, classes

TRIED, KINDS = architectures.parse(DOCUMENT.read_text(encoding="utf-8"))

# One of each: fused, unfused, refused by a trial run, without a table of tokens, by its kind.
QUICK = [
    ("distilbert", "sequence"),
    ("xlm", "sequence"),
    ("funnel", "sequence"),
    ("canine", "sequence"),
    ("fnet", "plain"),
    ("bert", "choice"),
    ("qwen3_5", "token"),
    ("marian", "plain"),
    ("wav2vec2", "plain"),
]


@pytest.fixture(autouse=True)
def same_transformers() -> None:
    if f"transformers {transformers.__version__}." not in DOCUMENT.read_text(encoding="utf-8"):
        pytest.skip("docs/architectures.md was written with another transformers; run tools/architectures.py")


def check(kind: str, head: str) -> None:
    found = architectures.outcome(kind, head)
    if kind in KINDS:
        assert found.status == REFUSED
        assert found.why in KINDS[kind]
    else:
        assert (found.status, found.why) == TRIED[kind, head]
    assert "\n" not in found.why


@pytest.mark.parametrize(("kind", "head"), QUICK)
def test_document_says_what_the_export_does(kind: str, head: str) -> None:
    check(kind, head)


@pytest.mark.slow
@pytest.mark.parametrize("kind", architectures.kinds())
def test_document_says_what_the_export_does_with_each_class(kind: str) -> None:
    for head in HEADS:
        if kind in classes(head) and TRIED.get((kind, head), ("",))[0] != UNTRIED:
            check(kind, head)


def test_document_has_every_class_of_transformers() -> None:
    for head in HEADS:
        for kind in classes(head):
            assert kind in KINDS or (kind, head) in TRIED, (kind, head)


def test_most_used_encoders_are_tried_with_all_heads() -> None:
    for kind in architectures.COMMON:
        assert UNTRIED not in {TRIED[kind, head][0] for head in HEADS if kind in classes(head)}, kind


def test_a_document_reads_back_as_it_was_written() -> None:
    rows = [
        Outcome("bert", "plain", FUSED),
        Outcome("bert", "sequence", UNTRIED),
        Outcome("mra", "plain", UNFUSED),
        Outcome("mra", "choice", REFUSED, "takes 3 inputs (a. b: c)"),
        Outcome("vit", "plain", REFUSED, "takes pixels: no text", encoder=False),
        Outcome("swin", "plain", REFUSED, "takes pixels: no text", encoder=False),
        Outcome("swin", "token", REFUSED, "decodes", encoder=False),
    ]
    cells, refused = architectures.parse(architectures.render(rows))
    assert cells == {(row.kind, row.head): (row.status, row.why) for row in rows if row.encoder}
    assert refused == {"vit": {"takes pixels: no text"}, "swin": {"takes pixels: no text", "decodes"}}
