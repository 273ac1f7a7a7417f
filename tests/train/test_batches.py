from __future__ import annotations

import itertools
import random

import pytest
from transformers import AutoTokenizer

from aerogel.data import sequence
from aerogel.data.features import length_order
from aerogel.data.split import Split
from aerogel.data.tasks import TASKS
from aerogel.errors import UsageError
from aerogel.train.batches import Rows, epoch_batches

TASK = TASKS.get("sst2")
DRAW = random.Random(0)
LENGTHS = [DRAW.randint(3, 60) for _ in range(1003)]


def test_epoch_contains_every_row_once() -> None:
    batches = epoch_batches(LENGTHS, 16, seed=1, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(1003))
    assert sorted({len(batch) for batch in batches}) == [11, 16]


def test_order_depends_only_on_seed_and_epoch() -> None:
    first = epoch_batches(LENGTHS, 16, seed=1, epoch=0)
    assert first == epoch_batches(LENGTHS, 16, seed=1, epoch=0)
    assert first != epoch_batches(LENGTHS, 16, seed=1, epoch=1)
    assert first != epoch_batches(LENGTHS, 16, seed=2, epoch=0)


def test_rows_of_similar_length_share_a_batch() -> None:
    batches = epoch_batches(LENGTHS, 16, seed=1, epoch=0)
    padded = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)
    assert padded < 1.1 * sum(LENGTHS)
    # The batches are not sorted by length.
    longest = [max(LENGTHS[row] for row in batch) for batch in batches]
    assert longest != sorted(longest)


def test_evaluation_batches_are_sorted_by_length() -> None:
    order = [row for batch in length_order([5, 2, 9, 2], 3) for row in batch]
    assert order == [1, 3, 0, 2]


def test_rows_are_truncated_and_padded_to_longest_in_batch(tiny_checkpoint) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint())
    split = Split([("good film", "a b"), ("the good bad film was not good", "bad")], [1, 0], "")
    rows = Rows(TASK.encode(split, tokenizer, 9))
    batch = rows.batch([0, 1])
    pad, cls, sep = (tokenizer.convert_tokens_to_ids(token) for token in ("[PAD]", "[CLS]", "[SEP]"))
    assert rows.lengths == [7, 9]
    ids = batch["input_ids"].tolist()
    assert ids[0][0] == cls
    assert ids[0][3] == ids[0][6] == sep
    assert ids[0][7:] == [pad, pad]
    assert batch["attention_mask"].tolist() == [[1] * 7 + [0] * 2, [1] * 9]
    assert batch["token_type_ids"][0].tolist() == [0] * 4 + [1] * 3 + [0] * 2
    assert batch["labels"].tolist() == [1, 0]
    assert rows.batch([0])["input_ids"].shape == (1, 7)


@pytest.mark.parametrize(("texts", "least"), [(("good film",), 3), (("good film", "a b"), 5)])
def test_max_length_too_short_for_text_is_rejected(
    tiny_checkpoint, texts: tuple[str, ...], least: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint())
    split = Split([texts], [1], "")
    assert Rows(TASK.encode(split, tokenizer, least)).lengths == [least]
    with pytest.raises(UsageError, match=rf"--max-length {least - 1}: .* at least {least}"):
        Rows(TASK.encode(split, tokenizer, least - 1))


def test_rows_are_tokenized_in_chunks(tiny_checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint())
    split = Split([(f"good film {'very ' * n}",) for n in range(7)], [1] * 7, "")
    whole = TASK.encode(split, tokenizer, 9).inputs
    monkeypatch.setattr(sequence, "_CHUNK", 3)
    assert TASK.encode(split, tokenizer, 9).inputs == whole


def test_batches_resume_at_any_step(tiny_checkpoint) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint())
    rows = Rows(TASK.encode(Split([("good",)] * 7, [1] * 7, ""), tokenizer, 9))
    whole = list(itertools.islice(rows.batches(3, 5, 0), 8))
    assert whole == [batch for epoch in range(3) for batch in epoch_batches(rows.lengths, 3, 5, epoch)][:8]
    for step in range(8):
        assert list(itertools.islice(rows.batches(3, 5, step), 8 - step)) == whole[step:]
