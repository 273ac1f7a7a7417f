from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aerogel.cost import cache
from aerogel.cost.machine import this_machine
from aerogel.cost.model import CostModel
from aerogel.errors import OutputError
from aerogel.system.cache import CACHE_VARIABLE, cache_folder

CostModels = Callable[..., CostModel]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def saved(fake_cost_model: CostModels) -> Path:
    return cache.save(fake_cost_model(machine=this_machine(1), overhead=(1e-6, 2e-9, 3e-9, 0, 0), slot=1e-12))


def assert_ignored(path: Path) -> str:
    """`cache.find` must name the file and the remedy in one line, which is returned."""
    reason = cache.find()
    assert isinstance(reason, str)
    assert str(path) in reason
    assert "run `aerogel calibrate`" in reason
    assert "\n" not in reason
    return reason


def damage(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return assert_ignored(path)


def test_saved_model_is_found_and_replaced(fake_cost_model: CostModels, folder: Path) -> None:
    first = fake_cost_model(machine=this_machine(1), overhead=(1e-6, 2e-9, 3e-9, 0, 0), slot=1e-12)
    path = cache.save(first)
    assert path.parent == folder
    assert cache.find() == first
    second = replace(first, time="2026-01-03T00:00:00+00:00")
    assert cache.save(second) == path
    assert cache.find() == second
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_missing_file_says_how_to_calibrate(saved: Path) -> None:
    saved.unlink()
    assert cache.find() == "this machine has no calibration for 1 thread; run `aerogel calibrate`"
    assert (
        cache.find(2) == "this machine has no calibration for 2 threads; run `aerogel calibrate --threads 2`"
    )


def test_file_applies_to_its_threads_and_instruction_set_only(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(cache.find(2), str)
    monkeypatch.setenv("AEROGEL_ISA", "scalar")
    assert saved.is_file()
    assert "no calibration" in str(cache.find())


@pytest.mark.parametrize("field", ["cpu", "isa", "library", "onnxruntime"])
def test_file_of_another_machine_is_refused(saved: Path, field: str) -> None:
    assert "another machine" in damage(saved, lambda d: d["machine"].update({field: "other"}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"schema": 2}',
        "[" * 100_000,
        "\ud800",
        '{"schema": 2, "machine": NaN}',
    ],
)
def test_malformed_file_is_refused(saved: Path, text: str) -> None:
    saved.write_text(text, errors="surrogatepass")
    assert_ignored(saved)


def test_file_of_an_older_schema_is_refused(saved: Path) -> None:
    saved.write_text('{"schema": 1, "host": {}, "time": "2026-01-02T03:04:05+00:00", "near": {}, "far": {}}')
    assert "it has schema 1, and this version reads 2" in assert_ignored(saved)


@pytest.mark.parametrize(
    "cost", [-1e-9, 1e9, float("nan"), float("inf"), 10**400, True, None, "1e-6", [1e-6], {}]
)
def test_costs_out_of_range_are_refused(saved: Path, cost: object) -> None:
    before = saved.read_text()
    for change in (
        lambda d: d["cache_resident"]["fp32-4"][2].__setitem__(1, cost),
        lambda d: d["dram_resident"]["int8-1"][0].__setitem__(0, cost),
        lambda d: d["dense"][4].__setitem__(3, cost),
        lambda d: d["non_gemm"]["int8"].__setitem__(0, cost),
    ):
        saved.write_text(before)
        wrong = ("not a number from 0 up to 1000", "is not a JSON number", "does not fit into 64 bits")
        reason = damage(saved, change)
        assert any(words in reason for words in wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema=3),
        lambda d: d.update(schema="2"),
        lambda d: d.update(time=3),
        lambda d: d.pop("machine"),
        lambda d: d.pop("non_gemm"),
        lambda d: d["cache_resident"].pop("fp16-2"),
        lambda d: d.update(dram_resident=[]),
        lambda d: d["dense"].pop(),
        lambda d: d["dense"].append(d["dense"][0]),
        lambda d: d["cache_resident"]["fp32-1"][0].pop(),
        lambda d: d["cache_resident"]["fp32-1"][0].append(0.0),
        lambda d: d["cache_resident"].update({"fp32-1": "costs"}),
        lambda d: d["non_gemm"].update(dense=5),
        lambda d: d["non_gemm"].update(dense=[]),
        lambda d: d.update(unknown=1),
    ],
)
def test_missing_unknown_and_misshapen_fields_are_refused(
    saved: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    damage(saved, change)


def test_folder_instead_of_file_is_ignored(saved: Path) -> None:
    saved.unlink()
    saved.mkdir()
    assert isinstance(cache.find(), str)


def test_save_names_a_cache_that_cannot_be_written(fake_cost_model: CostModels, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(OutputError, match="cache"):
        cache.save(fake_cost_model(machine=this_machine(1)))


def test_find_without_library_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    assert "native library" in str(cache.find())


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {CACHE_VARIABLE: "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/aerogel"),
        ("linux", {}, "/home/me/.cache/aerogel"),
        ("darwin", {}, "/home/me/Library/Caches/aerogel"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/aerogel"),
    ],
)
def test_cache_folder_by_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)
