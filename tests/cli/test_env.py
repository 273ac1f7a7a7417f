from __future__ import annotations

import json

import pytest

from aerogel.cli import _environment, main


def test_json_flag_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(_environment.environment()))


def test_table_shows_the_state_of_each_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        _environment,
        "_library",
        lambda: {
            "path": "/lib/libaerogel.so",
            "reason": None,
            "selected": "avx2",
            "instruction_sets": [
                {"name": "scalar", "available": True, "reason": ""},
                {"name": "avx2", "available": True, "reason": ""},
                {"name": "avx512", "available": False, "reason": "this processor lacks it"},
            ],
        },
    )
    assert main(["env"]) == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    kernels = {line[1]: line[2].strip() for line in lines if line[0] == "kernels,"}
    assert kernels == {"scalar": "available", "avx2": "in use", "avx512": "no: this processor lacks it"}


def test_table_shows_the_reason_for_a_missing_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    assert main(["env"]) == 0
    assert "not usable: AEROGEL_LIBRARY is empty" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["lib[/x].so", "[bold]lib.so", "lib:smile:.so"])
def test_values_are_printed_without_markup(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", path)
    assert main(["env"]) == 0
    assert repr(path) in capsys.readouterr().out


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AEROGEL_API_KEY", "first-secret")
    assert main(["env", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "first-secret" not in printed
    assert json.loads(printed)["variables"]["AEROGEL_API_KEY"]["value"] == "(set, not shown)"
