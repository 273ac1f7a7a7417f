from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from aerogel.data.corpus.documents import Document
from aerogel.data.corpus.encode import TextEncoder
from aerogel.data.corpus.formats import FORMATS
from aerogel.data.corpus.pairs import Row
from aerogel.data.features import IGNORED
from aerogel.errors import UsageError


@pytest.fixture
def tokenizer(tiny_checkpoint: Callable[..., Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_checkpoint())


def document(*lines: str) -> Document:
    return Document(lines, FORMATS.get("lines"), 0, 0)


def restored(batch: dict[str, np.ndarray]) -> np.ndarray:
    """Undo the masking."""
    return np.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])


@pytest.mark.parametrize(("family", "segments"), [("bert", True), ("roberta", False)])
def test_batch_equals_the_tokenizers_encoding_of_the_segments(
    tiny_checkpoint: Callable[..., Path], family: str, segments: bool
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint(family))
    texts = [("the film was good", "it was not bad"), ("a film", "the bad film that it was")]
    ids = [[tokenizer(t, add_special_tokens=False)["input_ids"] for t in pair] for pair in texts]
    rows = [Row(first, second, bool(number)) for number, (first, second) in enumerate(ids)]
    batch = TextEncoder(tokenizer, 64, pairs=True).batch(
        [(row, np.random.default_rng(n)) for n, row in enumerate(rows)]
    )
    expected = tokenizer(*map(list, zip(*texts, strict=True)), padding=True, return_tensors="np")
    assert set(batch) == {*expected, "labels", "next_sentence_label"}
    assert ("token_type_ids" in batch) is segments
    for name in expected:
        np.testing.assert_array_equal(restored(batch) if name == "input_ids" else batch[name], expected[name])
        assert batch[name].dtype == np.int64
    assert batch["next_sentence_label"].tolist() == [0, 1]
    special = np.isin(expected["input_ids"], tokenizer.all_special_ids)
    assert (batch["labels"][special] == IGNORED).all()
    # 15% of 8 ordinary tokens in each row, rounded.
    assert (batch["labels"] != IGNORED).sum(1).tolist() == [1, 1]


def test_unknown_tokens_are_not_predicted(tokenizer: Any) -> None:
    row = Row([tokenizer.unk_token_id] * 60)
    batch = TextEncoder(tokenizer, 64, pairs=False).batch([(row, np.random.default_rng(0))])
    assert (batch["labels"] == IGNORED).all()
    assert "next_sentence_label" not in batch


def test_special_tokens_spelled_out_in_the_text_are_text(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, 64, pairs=False)
    ((sentence,),) = encoder.tokenise([document("[MASK] the film [SEP] was good [PAD] [CLS] a b c d e")])
    assert not set(sentence) & set(tokenizer.all_special_ids)
    # The tokenizer itself is unchanged.
    assert tokenizer("[MASK]", add_special_tokens=False)["input_ids"] == [tokenizer.mask_token_id]


def test_skips_short_documents_and_empty_sentences(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, 64, pairs=True)
    found = encoder.tokenise(
        [document("a " * 15), document("a " * 9, "\u200b", "the " * 7), document(), document("a " * 16)]
    )
    assert [[len(sentence) for sentence in sentences] for sentences in found] == [[9, 7], [16]]


def test_many_sentences_stay_in_their_documents(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, 64, pairs=True)
    documents = [document(*["film " * (1 + (d + s) % 7) for s in range(20 + d % 30)]) for d in range(100)]
    for made, given in zip(encoder.tokenise(documents), documents, strict=True):
        assert [len(sentence) for sentence in made] == [line.count("film") for line in given.lines]


@pytest.mark.parametrize(("pairs", "least"), [(True, 19), (False, 18)])
def test_rejects_max_length_without_room_for_text(tokenizer: Any, pairs: bool, least: int) -> None:
    assert TextEncoder(tokenizer, least, pairs=pairs).room == 16
    with pytest.raises(
        UsageError, match=rf"--max-length {least - 1}: must be at least {least} \({least - 16} special tokens"
    ):
        TextEncoder(tokenizer, least - 1, pairs=pairs)


def test_rejects_tokenizer_without_mask_token(tokenizer: Any) -> None:
    tokenizer.mask_token = None
    with pytest.raises(UsageError, match="has no mask token"):
        TextEncoder(tokenizer, 64, pairs=True)
