"""Entities in tagged sentences, and their precision, recall and F1, as in seqeval's default mode.

A tag is "O", or B-, I-, E- or S- followed by a type. An I or E continues the entity of the previous tag if that is a B
or an I of the same type; every other tag except O begins an entity. This reads IOB1, IOB2 and IOBES alike. An I without
a B before it begins an entity, as in the script of the CoNLL shared tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["OUTSIDE", "entities", "entity_classes", "entity_scores", "is_entity_tag", "to_iob2"]

OUTSIDE = "O"
Entity = tuple[str, int, int]


def is_entity_tag(tag: str) -> bool:
    """Whether `tag` is a valid entity tag."""
    return tag == OUTSIDE or re.fullmatch("[BIES]-.+", tag) is not None


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return (type, first word, last word) of each entity of one sentence."""
    found: list[Entity] = []
    previous = OUTSIDE
    for word, tag in enumerate(tags):
        if tag != OUTSIDE:
            continues = tag[0] in "IE" and previous[0] in "BI" and previous[2:] == tag[2:]
            first = found.pop()[1] if continues else word
            found.append((tag[2:], first, word))
        previous = tag
    return found


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Rewrite tags as IOB2: every entity begins with B and continues with I."""
    result = [OUTSIDE] * len(tags)
    for type_, first, last in entities(tags):
        result[first : last + 1] = [f"B-{type_}", *[f"I-{type_}"] * (last - first)]
    return result


def entity_classes(sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return O, then B and I of every type that occurs, types in alphabetical order."""
    types = sorted({tag[2:] for tags in sentences for tag in tags if tag != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI"))


def entity_scores(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compute `f1`, `precision` and `recall` over the entities of all sentences; 0 if they are undefined.

    An entity is correct if its type, first word and last word are.
    """
    found, expected = (
        {(number, *entity) for number, tags in enumerate(sentences) for entity in entities(tags)}
        for sentences in (predicted, true)
    )
    correct = len(found & expected)
    return {
        "f1": 2 * correct / (len(found) + len(expected)) if correct else 0.0,
        "precision": correct / len(found) if correct else 0.0,
        "recall": correct / len(expected) if correct else 0.0,
    }
