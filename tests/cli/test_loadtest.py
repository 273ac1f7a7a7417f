from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aerogel.cli import main


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, Any, str | None]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body, self.headers["X-Key"]))
        status, content = (
            (404, b'{"error":"\x1b[31mno such route"}') if self.path == "/gone" else (200, b"[[1.0]]")
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    handler = type("Own", (Handler,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen
        server.shutdown()
        thread.join()


def test_several_rates_are_measured_and_written(
    tmp_path: Path, server: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, seen = server
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    words = ["--route", "openai", "--model", "m", "--header", "X-Key=k", "--texts", str(texts)]
    words += ["--rate", "20,40", "--seconds", "1", "--warmup", "0.2"]
    found, picture = tmp_path / "found.json", tmp_path / "found.png"
    assert main(["loadtest", url, *words, "--json", str(found), "--plot", str(picture)]) == 0
    document = json.loads(found.read_text())
    assert [point["rate"] for point in document["points"]] == [20, 40]
    assert document["found"] is None
    assert "X-Key" not in found.read_text()
    assert all(point["errors"] == {} and point["latency_ms"]["p50"] > 0 for point in document["points"])
    assert {(path, body["model"], key) for path, body, key in seen} == {("/v1/embeddings", "m", "k")}
    assert {body["input"] for _, body, _ in seen} == {"one", "two"}
    # The warm-up and the first request are sent, and not measured.
    assert len(seen) > sum(point["requests"] for point in document["points"])
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "answered/s" in capsys.readouterr().out


def test_the_search_prints_the_rate_or_fails(
    server: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--find-rate", "--seconds", "0.2", "--warmup", "0", "--rate", "8", "--precision", "1"]
    assert main(["loadtest", server[0], *words, "--p99", "0.001"]) == 1
    assert "no rate from 1 request per second has a p99 of at most 0.001 ms" in capsys.readouterr().out


BAD = [
    (["--p99", "50"], "--find-rate and --p99 belong together"),
    (["--find-rate"], "--find-rate and --p99 belong together"),
    (["--rate", "0"], "--rate 0.0: must be from 0.1"),
    (["--rate", "nan"], "--rate nan: must be from 0.1"),
    (["--rate", "a"], "is not a comma-separated list of numbers"),
    (["--seconds", "inf"], "--seconds inf: must be from"),
    (["--connections", "5000"], "--connections 5000: must be from 1 to 900"),
    (["--tokens", "2"], "--tokens 2.0: must be from 3 to --max-tokens"),
    (["--path", "embed"], "--path embed: must begin with /"),
    (["--path", "/gone"], r'the first request ended with 404: {"error":"\x1b[31mno such route"}'),
    (["--route", "cohere"], "unknown route 'cohere'"),
    (["--texts", "gone.txt"], "gone.txt cannot be read"),
    (["--plot", "a.xyz"], "unknown picture format"),
    (["--seed", "-1"], "--seed -1 is out of range"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_bad_command_line_is_refused_in_one_line(
    server: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["loadtest", server[0], *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
