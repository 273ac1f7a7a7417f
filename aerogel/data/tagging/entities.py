"""Entities in tagged sentences, and their precision, recall and F1: what seqeval computes in its default mode.

A tag is "O" or one of B-, I-, E-, S- with a type behind it. An I or E goes on with the entity of the tag before it if
that is a B or an I of the same type; every other tag but O begins an entity. So IOB1, IOB2 and IOBES files are all read
as they are meant, and an I without a B before it counts as the beginning of an entity, as in the script of the CoNLL
shared tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["OUTSIDE", "entities", "entity_classes", "entity_scores", "is_entity_tag", "to_iob2"]

OUTSIDE = "O"
Entity = tuple[str, int, int]


def is_entity_tag(tag: str) -> bool:
    """Whether `tag` is one of those described above."""
    return tag == OUTSIDE or re.fullmatch("[BIES]-.+", tag) is not None


def entities(tags: Sequence[str]) -> list[Entity]:
    """(type, first word, last word) of each entity of one sentence."""
    found: list[Entity] = []
    before = OUTSIDE
    for word, tag in enumerate(tags):
        if tag != OUTSIDE:
            goes_on = tag[0] in "IE" and before[0] in "BI" and before[2:] == tag[2:]
            first = found.pop()[1] if goes_on else word
            found.append((tag[2:], first, word))
        before = tag
    return found


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities, each beginning with B and going on with I."""
    result = [OUTSIDE] * len(tags)
    for kind, first, last in entities(tags):
        result[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    return result


def entity_classes(sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """O, and B and I of every type that occurs, types in alphabetical order."""
    kinds = sorted({tag[2:] for tags in sentences for tag in tags if tag != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


def entity_scores(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> dict[str, float]:
    """`f1`, `precision` and `recall` over the entities of all sentences; 0 where they are undefined.

    An entity is right if its type, its first and its last word are.
    """
    ours, theirs = (
        {(number, *entity) for number, tags in enumerate(sentences) for entity in entities(tags)}
        for sentences in (predicted, true)
    )
    right = len(ours & theirs)
    return {
        "f1": 2 * right / (len(ours) + len(theirs)) if right else 0.0,
        "precision": right / len(ours) if right else 0.0,
        "recall": right / len(theirs) if right else 0.0,
    }
