from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.errors import UsageError
from aerogel.serve.keys import Keys, read_keys
from aerogel.serve.refusals import Unauthorized

HEADERS = [(b"host", b"x"), (b"authorization", b"Bearer second-secret")]


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("\ufeff# comment\r\n first-secret \r\n")
    monkeypatch.setenv("AEROGEL_API_KEY", "second-secret")
    assert read_keys(path, "AEROGEL_API_KEY") == ["second-secret", "first-secret"]
    assert read_keys(None, "AEROGEL_ADMIN_TOKEN") == []


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", "geheimnisvoll-ä\n"])
def test_bad_keys_are_refused_without_showing_them(content: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_keys(path, "AEROGEL_API_KEY")
    assert content.strip() == "" or content.strip() not in str(caught.value)


def test_only_known_keys_pass() -> None:
    Keys([]).check([])
    keys = Keys(["first-secret", "second-secret"])
    keys.check(HEADERS)
    for headers in ([], [(b"authorization", b"Bearer second-secre")], [(b"authorization", b"second-secret")]):
        with pytest.raises(Unauthorized):
            keys.check(headers)
