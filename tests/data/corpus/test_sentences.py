# ruff: noqa: RUF001  # stops of other scripts are meant
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
def test_sentences_end_where_a_reader_would_end_them(sentences: list[str]) -> None:
    joint = "" if "。" in sentences[0] else "  "
    assert split_sentences(joint.join(sentences)) == sentences


@pytest.mark.parametrize("text", ["", "   ", "\t"])
def test_nothing_has_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


def test_nothing_but_blanks_is_lost_whatever_the_text() -> None:
    text = "a.B?! C...D  . E\u2028. “F.” G. H\x00. 3.4.5 . )(. I" * 50
    assert "".join(split_sentences(text)).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("unit", [".", ". ", "a. ", "A. ", '."', "!? ", "。", " ", '" ', ".\u2028"])
def test_hostile_lines_take_no_longer_than_their_length(unit: str) -> None:
    began = time.process_time()
    split_sentences(unit * 300_000)
    assert time.process_time() - began < 20
