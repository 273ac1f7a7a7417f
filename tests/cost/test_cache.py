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

Calibrations = Callable[..., CostModel]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept(made_up: Calibrations) -> Path:
    return cache.save(made_up(host=this_machine(1), edges=(1e-6, 2e-9, 3e-9, 0, 0), place=1e-12))


def damage(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    found = cache.find()
    assert isinstance(found, str)
    assert str(path) in found
    assert "run `aerogel calibrate`" in found
    assert "\n" not in found
    return found


def test_what_was_kept_is_found(made_up: Calibrations, folder: Path) -> None:
    made = made_up(host=this_machine(1), edges=(1e-6, 2e-9, 3e-9, 0, 0), place=1e-12)
    path = cache.save(made)
    assert path.parent == folder
    assert cache.find() == made
    later = replace(made, time="2026-01-03T00:00:00+00:00")
    assert cache.save(later) == path
    assert cache.find() == later
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_what_was_never_measured_says_how_to_measure_it(kept: Path) -> None:
    kept.unlink()
    assert cache.find() == "this machine has no calibration for 1 thread; run `aerogel calibrate`"
    assert (
        cache.find(2) == "this machine has no calibration for 2 threads; run `aerogel calibrate --threads 2`"
    )


def test_a_calibration_holds_for_its_threads_and_instruction_set_only(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(cache.find(2), str)
    monkeypatch.setenv("AEROGEL_ISA", "scalar")
    assert kept.is_file()
    assert "no calibration" in str(cache.find())


def test_one_of_another_machine_under_this_ones_name_is_refused(kept: Path) -> None:
    for field in ("cpu", "isa", "library", "onnxruntime"):
        before = kept.read_text()
        assert "another host" in damage(kept, lambda d, field=field: d["host"].update({field: "other"}))
        kept.write_text(before)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"schema": 1}',
        "[" * 100_000,
        "\ud800",
        '{"schema": 1, "host": NaN}',
    ],
)
def test_what_is_no_calibration_is_refused(kept: Path, text: str) -> None:
    kept.write_text(text, errors="surrogatepass")
    found = cache.find()
    assert isinstance(found, str)
    assert str(kept) in found
    assert "run `aerogel calibrate`" in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "cost", [-1e-9, 1e9, float("nan"), float("inf"), 10**400, True, None, "1e-6", [1e-6], {}]
)
def test_costs_that_cannot_be_meant_are_refused(kept: Path, cost: object) -> None:
    before = kept.read_text()
    for change in (
        lambda d: d["near"]["fp32-4"][2].__setitem__(1, cost),
        lambda d: d["far"]["int8-1"][0].__setitem__(0, cost),
        lambda d: d["dense"][4].__setitem__(3, cost),
        lambda d: d["rest"]["int8"].__setitem__(0, cost),
    ):
        kept.write_text(before)
        wrong = ("not a number from 0 up to 1000", "is not a JSON number", "does not fit into 64 bits")
        found = damage(kept, change)
        assert any(words in found for words in wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema=2),
        lambda d: d.update(time=3),
        lambda d: d.pop("host"),
        lambda d: d.pop("rest"),
        lambda d: d["near"].pop("fp16-2"),
        lambda d: d.update(far=[]),
        lambda d: d["dense"].pop(),
        lambda d: d["dense"].append(d["dense"][0]),
        lambda d: d["near"]["fp32-1"][0].pop(),
        lambda d: d["near"]["fp32-1"][0].append(0.0),
        lambda d: d["near"].update({"fp32-1": "costs"}),
        lambda d: d["rest"].update(dense=5),
        lambda d: d["rest"].update(dense=[]),
        lambda d: d.update(unknown=1),
    ],
)
def test_missing_superfluous_and_misshapen_parts_are_refused(
    kept: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    damage(kept, change)


def test_a_folder_in_its_place_is_no_calibration(kept: Path) -> None:
    kept.unlink()
    kept.mkdir()
    assert isinstance(cache.find(), str)


def test_a_cache_that_cannot_be_written_is_named(made_up: Calibrations, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(OutputError, match="cache"):
        cache.save(made_up(host=this_machine(1)))


def test_without_the_library_nothing_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_where_calibrations_are_kept(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)
