from __future__ import annotations

import pytest

from aerogel.bench import kernels


def test_time_grows_with_density() -> None:
    found = kernels.ratios((256, 256), "csr", (1, 1), (0.02, 1.0), tokens=64, turns=20)
    (thin, dense_a), (full, dense_b) = found
    assert min(thin, full, dense_a, dense_b) > 0
    # Fifty times the entries: far from any noise.
    assert full > 3 * thin


def test_the_table_has_a_row_for_every_layer_and_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "_SHAPES", ((16, 16), (32, 16)))
    assert kernels.main(["--turns", "1", "--tokens", "3"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[:2] for row in rows[:4]] == [
        ["| 16x16", "unstructured"], ["| 16x16", "2x1"], ["| 16x16", "4x1"], ["| 16x16", "16x16"],
    ]  # fmt: skip
    assert len(rows) == 8
