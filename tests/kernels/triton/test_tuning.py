from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

from aerogel.errors import UsageError
from aerogel.kernels.triton import bsr_linear, csr_linear, packed_linear, tuning
from aerogel.kernels.triton.bsr_linear import Tiles
from aerogel.kernels.triton.launch import Device
from aerogel.system.cache import CACHE_VARIABLE

CASE = tuning.Case("bsr_linear", (768, 3072), (32, 32), 4096, 0.1, "float16")
FAST, SLOW, HUGE = Tiles(64), Tiles(128), Tiles(256)


@pytest.fixture(autouse=True)
def device_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a GPU, with a clock of our own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "interpreted", lambda: False)
    monkeypatch.setattr(tuning, "measure", lambda run: run())
    tuning.forget()


def run(tiles: Tiles) -> float:
    if tiles == HUGE:
        raise triton.runtime.errors.OutOfResources(2, 1, "shared memory")
    return {FAST: 1.0, SLOW: 2.0}[tiles]


def asked(case: tuning.Case = CASE, device: Device | None = None) -> Tiles | None:
    return tuning.stored(case, device or Device(), lambda: [SLOW, FAST])


def test_the_fastest_is_kept() -> None:
    assert asked() is None
    assert tuning.tune(CASE, Device(), [HUGE, SLOW, FAST], run) == FAST
    assert asked() == FAST
    tuning.forget()
    assert asked() == FAST
    # The same power of two, the same twentieth.
    assert asked(tuning.Case("bsr_linear", (768, 3072), (32, 32), 2100, 0.11, "float16")) == FAST
    for other in (
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 2048, 0.1, "float16"),
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 4096, 0.2, "float16"),
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 4096, 0.1, "bfloat16"),
        tuning.Case("bsr_linear", (3072, 768), (32, 32), 4096, 0.1, "float16"),
        tuning.Case("csr_linear", (768, 3072), (32, 32), 4096, 0.1, "float16"),
    ):
        assert asked(other) is None
    assert asked(device=Device("another")) is None


def test_cases_are_added_to_what_is_there() -> None:
    other = tuning.Case("bsr_linear", (64, 64), (16, 16), 1, 0.1, "float32")
    tuning.tune(CASE, Device(), [SLOW, FAST], run)
    tuning.tune(other, Device(), [SLOW], run)
    assert (asked(), asked(other)) == (FAST, SLOW)
    assert [path.name for path in tuning.cache_file().parent.iterdir()] == ["tiles.json"]


def test_nothing_that_fits_is_an_error() -> None:
    with pytest.raises(UsageError, match="none of the tiles tried fits NVIDIA H200"):
        tuning.tune(CASE, Device(), [HUGE], run)
    assert not tuning.cache_file().exists()


def test_the_interpreter_uses_no_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.tune(CASE, Device(), [SLOW, FAST], run)
    monkeypatch.setattr(tuning, "interpreted", lambda: True)
    assert asked() is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b'{"version": 1, "tiles": []}',
        b'{"version": 2, "tiles": {}}', b'{"version": 1, "tiles": {}, "more": 1}',
        b'{"version": 1, "tiles": {"a": 3}}', b'{"version": 1, "tiles": {"a": {"tokens": "64"}}}',
        b'{"version": 1, "tiles": {"a": {"tokens": true}}}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_cache_is_named_and_not_used(content: bytes) -> None:
    path = tuning.cache_file()
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"tiles\.json .* is not used; delete it"):
        assert asked() is None


@pytest.mark.parametrize(
    "entry",
    [
        {}, {"tokens": 64}, {"tokens": 3, "step": 1, "splits": 1, "warps": 4, "stages": 3},
        {"tokens": 64, "step": 1, "splits": 10**9, "warps": 4, "stages": 3},
        {"tokens": 64, "step": 1, "splits": 1, "warps": 4, "stages": 3, "more": 1},
    ],
)  # fmt: skip
def test_tiles_that_are_no_candidates_are_never_used(entry: dict[str, int]) -> None:
    path = tuning.cache_file()
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "tiles": {CASE.key(Device()): entry}}))
    assert asked() is None


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tuning.cache_file() == tmp_path / "cache" / "tiles.json"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuning.cache_file() == tmp_path / "aerogel" / "tiles.json"


def test_each_kernel_uses_what_was_tuned(
    pruned: Callable[..., dict[str, torch.Tensor]], draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = draw(40, 64)
    block = bsr_linear.BsrWeight.from_arrays(pruned("bsr", 32, 64, block=(16, 16)), 64)
    rows = csr_linear.CsrWeight.from_arrays(pruned("csr", 32, 64), 64)
    packed = packed_linear.PackedWeight.from_csr(pruned("csr", 32, 64), 64)
    # The last candidate is made the fastest, and is not what the rules choose.
    clock = iter(range(1000, 0, -1))
    monkeypatch.setattr(tuning, "measure", lambda _: next(clock))
    chosen = bsr_linear.tune(x, block), csr_linear.tune(x, rows), packed_linear.tune(x, packed)
    asked: list[Any] = []
    plain = tuning.stored

    def noted(*arguments: Any) -> Any:
        asked.append(plain(*arguments))
        return asked[-1]

    monkeypatch.setattr(tuning, "stored", noted)
    bsr_linear.bsr_linear(x, block)
    csr_linear.csr_linear(x, rows)
    packed_linear.packed_linear(x, packed)
    assert tuple(asked) == chosen
    assert chosen[0] != bsr_linear.choose_tiles(40, 2, block.longest, (16, 16), 4, Device())


@pytest.mark.parametrize("tokens", [1, 16, 4096])
def test_candidates_begin_with_the_rules_and_fit(tokens: int) -> None:
    device = Device()
    blocks = bsr_linear.candidates(tokens, 24, 10, (64, 64), 2, device)
    assert blocks[0] == bsr_linear.choose_tiles(tokens, 24, 10, (64, 64), 2, device)
    rows = csr_linear.candidates(tokens, 768, 77.0, 4, device)
    assert rows[0] == csr_linear.choose_tiles(tokens, 768, 77.0, 4, device)
    packed = packed_linear.candidates(tokens, 64, 64, device)
    assert packed[0] == packed_linear.choose_tiles(tokens, 64, 64, device)
    for found in (blocks, rows, packed):
        assert 1 < len(found) == len(set(found)) < 150
