from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerogel.data.corpus import stream
from aerogel.data.corpus.documents import Document
from aerogel.data.corpus.stream import Corpus, Place
from aerogel.errors import DataError
from aerogel.system.atomic_io import sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files of 1, 2, 3, 4, 5 documents, 15 in all."""
    for number in range(1, 6):
        text = "\n\n".join(f"This is document {number}-{at}." for at in range(number))
        (tmp_path / f"{number}.txt").write_text(text)
    return tmp_path


def blocks(corpus: Corpus, place: Place, count: int) -> list[tuple[Place, list[str]]]:
    found = []
    for _ in range(count):
        documents, after = corpus.read(place)
        found.append((place, [document.lines[0] for document in documents]))
        place = after
    return found


def test_each_epoch_reads_every_document_once_in_a_new_file_order(folder: Path) -> None:
    found = blocks(Corpus([folder], 0.0, 4, seed=0), Place(), 12)
    assert [(place.epoch, place.block) for place, _ in found] == list(itertools.product(range(3), range(4)))
    assert [len(texts) for _, texts in found] == [4, 4, 4, 3] * 3
    epochs = [[t for place, texts in found if place.epoch == epoch for t in texts] for epoch in range(3)]
    assert all(len(set(epoch)) == 15 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_any_block_can_be_read_from_its_place(folder: Path) -> None:
    found = blocks(Corpus([folder], 0.0, 4, seed=3), Place(), 9)
    for number, (place, _) in enumerate(found):
        assert blocks(Corpus([folder], 0.0, 4, seed=3), place, 9 - number) == found[number:]
    assert blocks(Corpus([folder], 0.0, 4, seed=4), Place(), 9) != found


def test_consecutive_blocks_open_each_file_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    real = stream.read_documents

    def counted(file: Path, offset: int = 0, line: int = 0) -> Iterator[Document]:
        begun.append(file)
        return real(file, offset, line)

    monkeypatch.setattr(stream, "read_documents", counted)
    corpus = Corpus([folder], 0.0, 2, seed=0)
    assert sum(len(texts) for _, texts in blocks(corpus, Place(), 8)) == 15
    assert len(begun) == 5 == len(set(begun))
    # Reading from another place reopens the file; reading one place twice gives the same block.
    corpus = Corpus([folder], 0.0, 2, seed=0)
    last = blocks(corpus, Place(), 7)[-1][0]
    _, after = corpus.read(last)
    assert corpus.read(after)[0] == corpus.read(after)[0]
    assert blocks(corpus, Place(), 8) == blocks(Corpus([folder], 0.0, 2, seed=0), Place(), 8)


def test_next_epoch_follows_a_block_that_ends_with_the_corpus(folder: Path) -> None:
    found = blocks(Corpus([folder], 0.0, 5, seed=0), Place(), 4)
    assert [len(texts) for _, texts in found] == [5, 5, 5, 5]
    assert len({text for _, texts in found[:3] for text in texts}) == 15


def test_held_out_documents_are_not_in_the_training_data(folder: Path) -> None:
    corpus = Corpus([folder], 0.4, 100, seed=0)
    held = [document.lines[0] for document in corpus.held_out_documents()]
    ((_, trained),) = blocks(corpus, Place(), 1)
    assert len(held) + len(trained) == 15
    assert not set(held) & set(trained)
    assert 0 < len(held) < 15
    other = Corpus([folder], 0.4, 3, seed=9)
    assert [document.lines[0] for document in other.held_out_documents()] == held


def test_rejects_corpus_without_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"--text .*a.txt: no training document found; give files with text"):
        Corpus([tmp_path], 0.0, 4, seed=0).read(Place())


def test_fingerprint_changes_with_any_file(folder: Path) -> None:
    corpus = Corpus([folder], 0.0, 4, seed=0)
    before = corpus.fingerprint()
    assert before["files"] == 5
    assert before["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    (folder / "3.txt").write_text("other")
    assert corpus.fingerprint()["sha256"] != before["sha256"]
    single = Corpus([folder / "3.txt"], 0.0, 4, seed=0)
    assert single.fingerprint()["sha256"] == sha256(folder / "3.txt")
