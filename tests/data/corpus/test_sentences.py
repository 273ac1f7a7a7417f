# ruff: noqa: RUF001  # the stops of other scripts are intended
from __future__ import annotations

import time

import pytest

from aerogel.data.corpus.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "We stayed in!", "Why?", "Because… well, no one knows.", "Ah."],
        ["He met Mr. Smith of Acme Inc. in Jan. 1999.", "They talked."],
        ["J. R. R. Tolkien wrote it.", "So did C.S. Lewis, e.g. in Narnia."],
        ["The U.S. Senate met at 5 p.m. that day.", "It adjourned."],
        ['"Stop!" he cried.', '"Never," she said.', "(It was late.)", "They left."],
        ["See No. 5 and pp. 12 to 14.", "I say no.", "You agree."],
        ["It cost 3.50 dollars in 1990.", "2 men paid."],
        ["Über alles.", "Écoute.", "Ñandú."],
        ["A species of lobster .", "It is blue ."],
        ["no capital. after a stop.", "Then one."],
        ["これは本です。", "私は読みます！", "本当？"],
        ["One"],
    ],
)
def test_splits_sentences(sentences: list[str]) -> None:
    joint = "" if "。" in sentences[0] else "  "
    assert split_sentences(joint.join(sentences)) == sentences


@pytest.mark.parametrize("text", ["", "   ", "\t"])
def test_blank_text_has_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


def test_only_blanks_are_dropped() -> None:
    text = "a.B?! C...D  . E\u2028. “F.” G. H\x00. 3.4.5 . )(. I" * 50
    assert "".join(split_sentences(text)).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("unit", [".", ". ", "a. ", "A. ", '."', "!? ", "。", " ", '" ', ".\u2028"])
def test_runtime_is_linear_for_hostile_lines(unit: str) -> None:
    began = time.process_time()
    split_sentences(unit * 300_000)
    assert time.process_time() - began < 20
