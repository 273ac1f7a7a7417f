from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import FormatError
from aerogel.torch.cuda import table
from aerogel.torch.cuda.table import Measured, predict

ROWS = [
    Measured("bsr", (32, 32), "float16", (768, 768), 4096, 0.1, 0.2),
    Measured("bsr", (32, 32), "float16", (768, 768), 4096, 0.5, 1.0),
    Measured("bsr", (32, 32), "float16", (768, 768), 1, 0.1, 0.9),
    Measured("bsr", (32, 32), "float16", (3072, 768), 4096, 0.1, 0.1),
]


@pytest.mark.parametrize(
    ("shape", "tokens", "density", "expected"),
    [
        ((768, 768), 4096, 0.1, 0.2), ((768, 768), 4096, 0.3, 0.6), ((768, 768), 4096, 0.5, 1.0),
        ((768, 768), 4096, 0.01, 0.2), ((768, 768), 4096, 0.51, None), ((768, 768), 8, 0.1, 0.9),
        ((700, 800), 9000, 0.1, 0.2), ((4096, 1024), 4096, 0.1, 0.1), ((4096, 1024), 4096, 0.2, None),
    ],
)  # fmt: skip
def test_nearest_measurement(
    shape: tuple[int, int], tokens: int, density: float, expected: float | None
) -> None:
    found = predict(ROWS, "bsr", (32, 32), "float16", shape, tokens, density)
    assert found == (None if expected is None else pytest.approx(expected))


def test_other_formats_are_not_used() -> None:
    for format, block, dtype in (
        ("csr", (32, 32), "float16"),
        ("bsr", (16, 16), "float16"),
        ("bsr", (32, 32), "x"),
    ):
        assert predict(ROWS, format, block, dtype, (768, 768), 4096, 0.1) is None


def test_save_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    path = table.table_path("NVIDIA H200 / x")
    assert path == tmp_path / "cache" / "gpu-nvidia-h200-x.json"
    assert table.load(path) == []
    table.save(path, "NVIDIA H200", ROWS)
    assert table.load(path) == ROWS


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 0}, {"tokens": True}, {"tokens": 1 << 40}, {"shape": [3]}, {"shape": [1, 2.0]}, {"block": "32"},
        {"density": 1.5}, {"ratio": 0}, {"ratio": "1"}, {"ratio": 1e999}, {"format": 1}, {"more": 1}, {"dtype": None},
    ],
)  # fmt: skip
def test_rejects_hostile_tables(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "table.json"
    table.save(path, "a", ROWS[:1])
    document = json.loads(path.read_text())
    document["rows"][0].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"table\.json as a table of measurements.*delete it"):
        table.load(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2, "rows": []}', '{"schema": 1, "rows": 3}', "[" * 9999]
)
def test_rejects_files_that_are_not_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(FormatError, match="as a table of measurements"):
        table.load(tmp_path / "table.json")
