from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.bench.configurations import points, read_lengths
from aerogel.bench.result import Settings
from aerogel.errors import UsageError


def test_every_combination_once_with_threads_slowest() -> None:
    found = points([1, 2], [1, 8], [16], None, Settings(rounds=3))
    assert [(p.threads, p.batch, p.seq, p.rounds, p.lengths) for p in found] == [
        (1, 1, 16, 3, ()), (1, 8, 16, 3, ()), (2, 1, 16, 3, ()), (2, 8, 16, 3, ()),
    ]  # fmt: skip
    assert points([1], None, None, None, Settings()) == [Settings(batch=1, seq=128)]


def test_a_batch_of_the_same_size_uses_lengths_as_given() -> None:
    for batches in (None, [3]):
        (found,) = points([1], batches, None, [16, 40, 128], Settings())
        assert (found.batch, found.seq, found.lengths, found.tokens) == (3, 128, (16, 40, 128), 184)


def test_another_batch_size_samples_lengths_with_the_seed() -> None:
    samples = [points([1], [50], None, [16, 40, 128], Settings(seed=seed))[0].lengths for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert set(samples[0]) == {16, 40, 128}
    (small,) = points([1], [1], None, [16, 40], Settings(seed=0))
    assert small.lengths == (small.seq,)


def test_lengths_as_text_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_text("5\n12\n\n7\n")
    assert read_lengths(str(file)) == [5, 12, 7]
    assert read_lengths("16,40") == [16, 40]


@pytest.mark.parametrize("content", ["", "5\nsix\n", "-1\n", "0\n", "99999999999999999999\n"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "lengths.txt"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"--lengths .*lengths\.txt"):
        read_lengths(str(file))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_bytes(b"\xff\xfe5")
    with pytest.raises(UsageError, match="must be integers separated by commas"):
        read_lengths(str(file))
