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
def fake_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend to run on a GPU, with a fake clock."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "interpreted", lambda: False)
    monkeypatch.setattr(tuning, "measure", lambda run: run())
    tuning.forget()


def run(tiles: Tiles) -> float:
    if tiles == HUGE:
        raise triton.runtime.errors.OutOfResources(2, 1, "shared memory")
    return {FAST: 1.0, SLOW: 2.0}[tiles]


def lookup(case: tuning.Case = CASE, device: Device | None = None) -> Tiles | None:
    return tuning.stored(case, device or Device(), lambda: [SLOW, FAST])


def test_stores_the_fastest_tiles() -> None:
    assert lookup() is None
    assert tuning.tune(CASE, Device(), [HUGE, SLOW, FAST], run) == FAST
    assert lookup() == FAST
    tuning.forget()
    assert lookup() == FAST
    # Same power of two of tokens, same 1/20 of density.
    assert lookup(tuning.Case("bsr_linear", (768, 3072), (32, 32), 2100, 0.11, "float16")) == FAST
    for other in (
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 2048, 0.1, "float16"),
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 4096, 0.2, "float16"),
        tuning.Case("bsr_linear", (768, 3072), (32, 32), 4096, 0.1, "bfloat16"),
        tuning.Case("bsr_linear", (3072, 768), (32, 32), 4096, 0.1, "float16"),
        tuning.Case("csr_linear", (768, 3072), (32, 32), 4096, 0.1, "float16"),
    ):
        assert lookup(other) is None
    assert lookup(device=Device("another")) is None


def test_adds_cases_to_the_file() -> None:
    other = tuning.Case("bsr_linear", (64, 64), (16, 16), 1, 0.1, "float32")
    tuning.tune(CASE, Device(), [SLOW, FAST], run)
    tuning.tune(other, Device(), [SLOW], run)
    assert (lookup(), lookup(other)) == (FAST, SLOW)
    assert [path.name for path in tuning.cache_file().parent.iterdir()] == ["tiles.json"]


def test_no_fitting_candidate_is_an_error() -> None:
    with pytest.raises(UsageError, match="no candidate tiles fit NVIDIA H200"):
        tuning.tune(CASE, Device(), [HUGE], run)
    assert not tuning.cache_file().exists()


def test_interpreter_ignores_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.tune(CASE, Device(), [SLOW, FAST], run)
    monkeypatch.setattr(tuning, "interpreted", lambda: True)
    assert lookup() is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b'{"version": 1, "tiles": []}',
        b'{"version": 2, "tiles": {}}', b'{"version": 1, "tiles": {}, "more": 1}',
        b'{"version": 1, "tiles": {"a": 3}}', b'{"version": 1, "tiles": {"a": {"tokens": "64"}}}',
        b'{"version": 1, "tiles": {"a": {"tokens": true}}}',
    ],
)  # fmt: skip
def test_warns_about_and_ignores_a_malformed_file(content: bytes) -> None:
    path = tuning.cache_file()
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"tiles\.json .* is ignored; delete it"):
        assert lookup() is None


@pytest.mark.parametrize(
    "entry",
    [
        {}, {"tokens": 64}, {"tokens": 3, "step": 1, "splits": 1, "warps": 4, "stages": 3},
        {"tokens": 64, "step": 1, "splits": 10**9, "warps": 4, "stages": 3},
        {"tokens": 64, "step": 1, "splits": 1, "warps": 4, "stages": 3, "more": 1},
    ],
)  # fmt: skip
def test_ignores_tiles_that_are_not_candidates(entry: dict[str, int]) -> None:
    path = tuning.cache_file()
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "tiles": {CASE.key(Device()): entry}}))
    assert lookup() is None


def test_cache_file_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tuning.cache_file() == tmp_path / "cache" / "tiles.json"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuning.cache_file() == tmp_path / "aerogel" / "tiles.json"


def test_each_kernel_uses_the_tuned_tiles(
    pruned: Callable[..., dict[str, torch.Tensor]], draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = draw(40, 64)
    block = bsr_linear.BsrWeight.from_arrays(pruned("bsr", 32, 64, block=(16, 16)), 64)
    rows = csr_linear.CsrWeight.from_arrays(pruned("csr", 32, 64), 64)
    packed = packed_linear.PackedWeight.from_csr(pruned("csr", 32, 64), 64)
    # The fake clock makes the last candidate the fastest; the rules choose another.
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
def test_first_candidate_follows_the_rules_and_all_fit(tokens: int) -> None:
    device = Device()
    blocks = bsr_linear.candidates(tokens, 24, 10, (64, 64), 2, device)
    assert blocks[0] == bsr_linear.choose_tiles(tokens, 24, 10, (64, 64), 2, device)
    rows = csr_linear.candidates(tokens, 768, 77.0, 4, device)
    assert rows[0] == csr_linear.choose_tiles(tokens, 768, 77.0, 4, device)
    packed = packed_linear.candidates(tokens, 64, 64, device)
    assert packed[0] == packed_linear.choose_tiles(tokens, 64, 64, device)
    for found in (blocks, rows, packed):
        assert 1 < len(found) == len(set(found)) < 150
