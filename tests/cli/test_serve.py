from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from aerogel.cli import main, parsers
from aerogel.serve.config import read_config, to_toml
from aerogel.serve.settings import Settings, flag

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def test_every_setting_is_a_flag_and_documented() -> None:
    _, verbs = parsers()
    flags = {option for action in verbs["serve"]._actions for option in action.option_strings}
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("| setting |") :]
    for item in fields(Settings):
        assert item.name == "models" or flag(item.name) in flags
        assert f"`{item.name}`" in table


def test_every_route_is_documented() -> None:
    from aerogel.serve.endpoint import endpoints

    page = PAGE.read_text(encoding="utf-8")
    for endpoint in endpoints():
        last = re.sub(r"\{\w+\}", "NAME", endpoint.path)
        assert f"{last}`" in page or "/admin/" in last, endpoint.path


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "serve",
        "a=b c",
        "d",
        "--port",
        "9",
        "--cors",
        "https://x,https://y",
        "--no-snapshot",
        "--log-texts",
    ]
    assert main([*arguments, "--uds", 'q"\\\t', "--timeout", "2.5", "--print-config"]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "serve.toml"
    file.write_text(printed)
    settings = Settings(**read_config(file))
    assert settings == Settings(
        models=("a=b c", "d"), port=9, cors=("https://x", "https://y"), snapshot=False, log_texts=True,
        uds=Path('q"\\\t'), timeout=2.5,
    )  # fmt: skip
    assert to_toml(settings) == printed
    assert main(["serve", "--config", str(file), "--port", "10", "--print-config"]) == 0
    assert "port = 10\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown key 'prot'; did you mean port?"),
        ("port = '1'", "port must be a whole number, not '1'"),
        ("models = 'a'", "models must be a list of strings, not 'a'"),
        ("port = ", "not valid TOML"),
        ("port = 99999999", "--port 99999999 is out of range"),
    ],
)
def test_bad_configurations_are_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(f"{text}\n")
    assert main(["serve", "a", "--config", str(file), "--print-config"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_cannot_be_served_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    keys = tmp_path / "keys"
    keys.write_text("short\n")
    for arguments, message in (
        ([], "no model to serve"),
        (["missing"], "missing does not exist"),
        ([str(folder), "--host", "0.0.0.0"], "--host 0.0.0.0 is open to other machines"),
        ([str(folder), "--host", "192.0.2.1", "--insecure"], "cannot listen on 192.0.2.1:8080"),
        ([str(folder), "--api-key-file", str(keys)], "a key has less than 8 characters"),
        ([str(folder), "--api-key-file", str(tmp_path / "none")], "No such file"),
    ):
        assert main(["serve", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "short" not in error
