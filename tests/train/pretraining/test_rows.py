from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from aerogel.data.corpus.encode import TextEncoder
from aerogel.data.corpus.stream import Corpus
from aerogel.errors import DataError
from aerogel.train.pretraining.rows import TextRows, held_out_batches

WORDS = ["the", "a", "and", "of", "film", "good", "bad", "not", "very"]


def write(folder: Path, files: int, documents: int, sentences: int = 6) -> Path:
    draw = random.Random(0)
    folder.mkdir(exist_ok=True)
    for number in range(files):
        made = [
            "\n".join(" ".join(draw.choices(WORDS, k=8)) for _ in range(sentences)) for _ in range(documents)
        ]
        (folder / f"{number}.txt").write_text("\n\n".join(made))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "text", files=3, documents=20)


@pytest.fixture
def encoder(tiny_checkpoint: Callable[..., Path]) -> Callable[..., TextEncoder]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint())
    return lambda pairs=True: TextEncoder(tokenizer, 48, pairs=pairs)


@pytest.fixture
def rows(folder: Path, encoder: Callable[..., TextEncoder]) -> Callable[..., TextRows]:
    def make(seed: int = 0, pairs: bool = True, block: int = 8) -> TextRows:
        return TextRows(Corpus([folder], 0.1, block, seed), encoder(pairs))

    return make


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("pairs", [True, False])
def test_row_does_not_depend_on_batch_or_process(rows: Callable[..., TextRows], pairs: bool) -> None:
    whole = rows(pairs=pairs)
    order = whole.batches(8, 0, 0)
    streams = [rows(pairs=pairs) for _ in range(2)]
    for batch in itertools.islice(order, 60):
        assert batch[-1] == batch[0] + 7
        expected = whole.batch(batch)
        for rank, stream in enumerate(streams):
            own = stream.batch(batch[4 * rank : 4 * rank + 4])
            for name, value in own.items():
                # Each process pads to the longest of its own rows.
                part = expected[name][4 * rank : 4 * rank + 4]
                assert torch.equal(value, part[:, : value.shape[1]] if value.ndim == 2 else part)
    # The test covers at least three epochs.
    assert whole.position()["epoch"] >= 3


def test_stream_resumes_from_saved_position(rows: Callable[..., TextRows]) -> None:
    stream = rows()
    positions = []
    straight = []
    for batch in itertools.islice(stream.batches(7, 0, 0), 40):
        straight.append(stream.batch(batch))
        positions.append(stream.position())
    for done in (1, 2, 17, 39):
        again = rows()
        again.seek(positions[done - 1])
        ahead = itertools.islice(again.batches(7, 0, done), 40 - done)
        assert all(
            equal(again.batch(batch), then) for batch, then in zip(ahead, straight[done:], strict=True)
        )


def test_rows_depend_on_seed_and_are_read_forwards(rows: Callable[..., TextRows]) -> None:
    one, other = rows(), rows(seed=1)
    assert equal(one.batch([0, 1, 2]), rows().batch([0, 1, 2]))
    assert not equal(one.batch([3]), other.batch([3]))
    one.batch([100])
    with pytest.raises(ValueError, match="row 0 is no longer in memory"):
        one.batch([0])


def test_held_out_rows_do_not_depend_on_seed(folder: Path, encoder: Callable[..., TextEncoder]) -> None:
    one, two = (held_out_batches(Corpus([folder], 0.3, 8, seed), encoder(), 20, 6) for seed in (0, 5))
    assert [len(batch["labels"]) for batch in one] == [6, 6, 6, 2]
    assert all(equal(*pair) for pair in zip(one, two, strict=True))
    lengths = [int(length) for batch in one for length in batch["attention_mask"].sum(1)]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("text", "pairs", "message"),
    [
        (
            "the film was good " * 20,
            True,
            r"need 2 documents of at least 16 tokens; 1 of 1 are long enough; .*no-nsp",
        ),
        ("the film\n\nwas good\n\nit was", True, r"0 of 3 are long enough"),
        ("the film\n\nwas good\n\nit was", False, r"text .*: no document has 16 tokens"),
    ],
)
def test_too_little_text_is_rejected(
    tmp_path: Path, encoder: Callable[..., TextEncoder], text: str, pairs: bool, message: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        TextRows(Corpus([tmp_path], 0.0, 100, 0), encoder(pairs))


def test_one_document_suffices_without_pairs(tmp_path: Path, encoder: Callable[..., TextEncoder]) -> None:
    (tmp_path / "a.txt").write_text("the film was good\n" * 20)
    stream = TextRows(Corpus([tmp_path], 0.0, 100, 0), encoder(False))
    assert stream.batch([0, 1, 2])["input_ids"].shape[0] == 3


def test_too_few_held_out_documents_are_rejected(folder: Path, encoder: Callable[..., TextEncoder]) -> None:
    with pytest.raises(
        DataError, match=r"held_out 0.0001: only 0 documents of at least 16 tokens are held out"
    ):
        held_out_batches(Corpus([folder], 0.0001, 8, 0), encoder(), 20, 6)
