from __future__ import annotations

import random

import pytest

from aerogel.data.tagging.entities import entities, entity_classes, entity_scores, is_entity_tag, to_iob2


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        # IOB1: an entity begins with I unless it follows one of its own type.
        ("I-PER I-PER O I-LOC B-LOC I-LOC", [("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 5)]),
        # IOBES.
        ("S-PER B-LOC I-LOC E-LOC S-LOC", [("PER", 0, 0), ("LOC", 1, 3), ("LOC", 4, 4)]),
        # Invalid in all schemes, but still defined.
        ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),
        ("E-PER I-PER E-PER", [("PER", 0, 0), ("PER", 1, 2)]),
        ("S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-PER E-PER E-PER", [("PER", 0, 1), ("PER", 2, 2)]),
        ("B-A-B I-A-B I-A", [("A-B", 0, 1), ("A", 2, 2)]),
    ],
)
def test_entities_by_hand(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == found


def test_iob2_has_the_same_entities_and_only_b_and_i() -> None:
    draw = random.Random(0)
    known = ["O", *(f"{prefix}-{type_}" for prefix in "BIES" for type_ in "XY")]
    for _ in range(300):
        tags = draw.choices(known, k=8)
        made = to_iob2(tags)
        assert entities(made) == entities(tags)
        assert {tag[0] for tag in made} <= set("BIO")
        assert to_iob2(made) == made
    assert to_iob2(["I-PER", "I-PER", "B-PER", "E-LOC"]) == ["B-PER", "I-PER", "B-PER", "B-LOC"]


@pytest.mark.parametrize(
    ("tag", "known"), [("O", True), ("B-x", True), ("S-A-B", True), ("B", False), ("B-", False), ("L-PER", False),
                       ("o", False), ("NN", False), ("-", False), ("", False)],
)  # fmt: skip
def test_is_entity_tag(tag: str, known: bool) -> None:
    assert is_entity_tag(tag) is known


def test_classes_have_both_tags_of_every_type() -> None:
    assert entity_classes([["B-LOC", "O"], ["B-ART"]]) == ("O", "B-ART", "I-ART", "B-LOC", "I-LOC")


def test_scores_by_hand() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"], ["B-LOC"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "B-ORG"], ["O"]]
    # PER and one ORG are correct, of four predicted and four true entities.
    assert entity_scores(predicted, true) == {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    # A wrong end, then a spurious entity.
    assert entity_scores([["B-PER", "O"]], [["B-PER", "I-PER"]])["f1"] == 0.0
    assert entity_scores([["B-X", "B-X", "O"]], [["B-X", "O", "O"]]) == {
        "f1": pytest.approx(2 / 3),
        "precision": 0.5,
        "recall": 1.0,
    }


def test_scores_are_zero_without_entities() -> None:
    zero = {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert entity_scores([["O"]], [["O"]]) == entity_scores([["B-X"]], [["O"]]) == zero
    assert entity_scores([["O"]], [["B-X"]]) == zero


def test_entities_of_different_sentences_are_different() -> None:
    assert entity_scores([["B-X"], ["O"]], [["O"], ["B-X"]])["f1"] == 0.0
