from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from aerogel.errors import UsageError
from aerogel.loadtest.generator import generate, probe
from aerogel.loadtest.target import Target

Answer = Callable[[bytes], tuple[int, bytes] | None]


@contextmanager
def served(answer: Answer) -> Iterator[tuple[str, list[Any]]]:
    """Yield (URL, connections) of a server that calls `answer` with each body; None closes the connection."""
    connections: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_POST(self) -> None:
            found = answer(self.rfile.read(int(self.headers["Content-Length"])))
            if found is None:
                self.close_connection = True
                return
            self.send_response(found[0])
            self.send_header("Content-Length", str(len(found[1])))
            self.end_headers()
            self.wfile.write(found[1])

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", connections
        finally:
            server.shutdown()
            thread.join()


def load_of(url: str, due: list[float], connections: int = 4, timeout: float = 30.0) -> Any:
    target = Target.parse(url, "/embed", {})
    requests = target.requests([str(number).encode() for number in range(len(due))])
    return generate(target, np.array(due), requests, connections=connections, timeout=timeout)


def test_every_request_is_sent_once_and_never_before_it_is_due() -> None:
    received: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        received.append(body)
        return (200, b"{}") if int(body) % 5 else (429, b"busy")

    due = [0.002 * number for number in range(60)]
    with served(answer) as (url, connections):
        load = load_of(url, due)
    assert sorted(map(int, received)) == list(range(60))
    assert load.outcomes == ["200" if number % 5 else "429" for number in range(60)]
    assert (load.sent >= load.due).all()
    assert (load.done > load.sent).all()
    assert len(connections) == 4  # kept alive


def test_a_stall_is_seen_by_every_request_that_arrives_during_it() -> None:
    """The server holds its first answer until all requests are due; with one connection, the others wait."""
    due = [0.01 * number for number in range(20)]
    resumed: list[float] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        if body == b"0":
            time.sleep(0.4)  # the stall itself, not a synchronisation
            resumed.append(time.monotonic())
        return 200, b"{}"

    with served(answer) as (url, _):
        load = load_of(url, due, connections=1)
    stalled = resumed[0] - load.start - np.array(due)
    assert load.outcomes == ["200"] * 20
    assert ((load.done - load.due) >= stalled).all()
    assert (stalled > 0).all()
    # Counted from sending, the stall would be in one request only: the others are sent after it.
    assert (load.sent[1:] >= load.due[1:] + stalled[1:]).all()
    assert load.waited[1:].all()


def test_requests_without_an_answer_time_out_and_the_others_go_on() -> None:
    release = threading.Event()

    def answer(body: bytes) -> tuple[int, bytes]:
        if body in (b"0", b"1"):
            release.wait(60)
        return 200, b"{}"

    with served(answer) as (url, _):
        load = load_of(url, [0.0, 0.0, 0.0, 1.7], connections=2, timeout=1.5)
        release.set()
    # Both connections hang, so the third request waits until it is too late; then connections are opened again.
    assert load.outcomes == ["timeout", "timeout", "timeout", "200"]
    assert (load.done - load.due)[:3].min() >= 1.5
    assert np.isnan(load.sent[2])


def test_a_closed_connection_is_an_error_of_its_request_and_is_replaced() -> None:
    def answer(body: bytes) -> tuple[int, bytes] | None:
        return None if body == b"1" else (200, b"{}")

    with served(answer) as (url, connections):
        load = load_of(url, [0.0, 0.1, 0.2, 0.3], connections=1)
    assert load.outcomes == ["200", "connection", "200", "200"]
    assert len(connections) == 2


def test_an_answer_that_is_not_http_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-server\r\n\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        target = Target.parse(f"http://127.0.0.1:{listening.getsockname()[1]}", "/", {})
        outcome, _ = probe(target, target.requests([b""])[0], 30)
        thread.join(30)
    assert outcome == "connection"


def test_the_probe_returns_the_body() -> None:
    with served(lambda body: (422, b"no " + body)) as (url, _):
        target = Target.parse(url, "/embed", {})
        assert probe(target, target.requests([b"text"])[0], 30) == ("422", b"no text")


def test_a_server_that_does_not_listen_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(UsageError, match=f"127.0.0.1:{port}: cannot connect .*; start the server"):
        load_of(f"http://127.0.0.1:{port}", [0.0])


@pytest.mark.parametrize(
    "url",
    [
        "localhost:80",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://u:p@a",
        "http://a/?x",
        "http://a/b c",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Target.parse(url, "/embed", {})


@pytest.mark.parametrize("header", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "€"}, {"": "x"}])
def test_a_header_cannot_add_lines(header: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Target.parse("http://a", "/embed", header)


def test_the_request_has_the_path_of_the_url_and_the_headers() -> None:
    target = Target.parse("https://a:1/base/", "/embed", {"Authorization": "Bearer k"})
    assert (target.host, target.port, target.tls is not None) == ("a", 1, True)
    (request,) = target.requests([b"{}"])
    head, body = request.split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /base/embed HTTP/1.1"
    assert {b"Host: a:1", b"Authorization: Bearer k", b"Content-Length: 2"} < set(head.split(b"\r\n"))
    assert body == b"{}"
