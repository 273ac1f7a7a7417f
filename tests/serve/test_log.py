from __future__ import annotations

import errno
import io
import json

from aerogel.serve.log import Log


def test_text_is_one_printable_line() -> None:
    stream = io.StringIO()
    Log("text", stream).event("request", path="/a\x1b[2J\n/b", status=404, error="two words")
    (line,) = stream.getvalue().splitlines()
    assert line.split(" ", 1)[1] == r'request path=/a\x1b[2J\n/b status=404 error="two words"'


def test_json_is_one_object() -> None:
    stream = io.StringIO()
    Log("json", stream).failure("failed", ValueError("a\nb"), path="/a\n")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["path"]) == ("failed", "/a\n")
    assert found["traceback"].endswith("ValueError: a\nb\n")


def test_a_full_disk_stops_nothing() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    log = Log("text", Full())
    for _ in range(3):
        log.event("request")
    assert log.lost == 3
