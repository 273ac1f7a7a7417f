"""Requests that are malformed, endless or slow: the right status, one line, and a server that goes on."""

from __future__ import annotations

import json
import random
import socket
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., Any]
WORDS = ["good", "bad", "film", "not", "very"]
EMBED = {"inputs": "the film was good"}


def _alive(server: Any) -> bool:
    return bool(server.post("/embed", EMBED).status_code == 200)


def _raw(server: Any, data: bytes) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return b""
        found = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                return found
            if not part:
                return found
            found += part


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"inputs": "\\ud800"}', 400),
        (b'{"inputs": NaN}', 400),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", 422),
        (b"null", 422),
        (b'{"inputs": {"a": 1}}', 422),
        (b'{"inputs": "a", "dimensions": 1e400}', 400),
        (b'{"inputs": "a", "dimensions": -1}', 422),
        (b'{"inputs": "a", "model": "\\u0000"}', 404),
        (b'{"inputs": "a", "model": "%s"}' % (b"x" * 10_000), 404),
        (b'{"inputs": [' + b",".join([b'""'] * 50) + b"]}", 200),
    ],
)
def test_bodies(server: Any, body: bytes, status: int) -> None:
    reply = server.client.post("/embed", content=body)
    assert reply.status_code == status
    if status != 200:
        assert "\n" not in reply.json()["error"]
    assert _alive(server)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/rerank", "/predict", "/tokenize"])
def test_random_bodies(server: Any, path: str) -> None:
    draw = random.Random(path)
    names = [
        "inputs",
        "input",
        "query",
        "texts",
        "documents",
        "question",
        "context",
        "model",
        "top_n",
        "truncate",
    ]

    def value(depth: int) -> Any:
        kind = draw.randrange(8 if depth else 6)
        if kind == 6:
            return [value(depth - 1) for _ in range(draw.randrange(4))]
        if kind == 7:
            return {draw.choice(names): value(depth - 1) for _ in range(draw.randrange(4))}
        text = "".join(draw.choices(string.printable + "é中😀\x00", k=draw.randrange(12)))
        return [None, True, draw.randrange(-5, 200), draw.random() * 1e9, text, ""][kind]

    for _ in range(30):
        body = {draw.choice(names): value(3) for _ in range(draw.randrange(1, 6))}
        reply = server.post(path, body)
        assert reply.status_code in (200, 400, 404, 422), (body, reply.text)
    assert _alive(server)


def test_large_bodies_are_refused_before_they_are_read(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], max_body_mb=0.01)
    reply = server.client.post("/embed", content=json.dumps({"inputs": "a" * 20_000}))
    assert reply.status_code == 413
    assert "more than 10000; send less at once" in reply.json()["error"]
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert b" 413 " in _raw(server, head + b"4000\r\n" + b" " * 0x4000 + b"\r\n")
    # A header that announces more than is sent.
    lying = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n{}"
    assert _raw(server, lying)[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400")
    assert _alive(server)


def test_compressed_bodies_are_refused(server: Any) -> None:
    reply = server.client.post("/embed", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert reply.status_code == 415
    assert reply.json()["error"] == "Content-Encoding 'gzip' is not supported; send the body as it is"


def test_slow_clients_are_disconnected(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], read_timeout=0.2)
    assert (
        _raw(server, b"") == b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    assert b" 408 " in _raw(server, b"POST /embed HT")
    assert b" 408 " in _raw(server, b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
    assert _alive(server)


def test_endless_headers_are_refused(server: Any) -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(200))
    assert b" 431 " in _raw(server, b"GET /livez HTTP/1.1\r\n" + lines)
    assert _alive(server)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"GET\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_status_400(server: Any, data: bytes) -> None:
    assert _raw(server, data).startswith(b"HTTP/1.1 400 ")
    assert _alive(server)


def test_half_closed_connections_end(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert _alive(server)


def test_a_client_that_leaves_takes_its_texts_out_of_the_queue(
    serve: Serve, folders: dict[str, Path]
) -> None:
    server = serve(folders["embedder"], batch_tokens=8)
    texts = [
        " ".join(random.Random(number).choices(["good", "bad", "film", "not", "very"], k=40))
        for number in range(1500)
    ]
    body = json.dumps({"inputs": texts}).encode()
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + body)
        _until(lambda: _metric(server, "te_queue_size") > 0)
    _until(lambda: _metric(server, "te_queue_size") == 0)
    assert _metric(server, 'te_request_failure{err="dropped"}') == 1
    assert _metric(server, "aerogel_tokens_total") < 1500 * 42
    assert _alive(server)


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "x" * 1000, "1e999"])
def test_timeouts_are_checked(server: Any, timeout: str) -> None:
    reply = server.post("/embed", EMBED, headers={"x-timeout": timeout})
    assert reply.status_code == 422
    assert "not a number of seconds above 0" in reply.json()["error"]


def test_paths_are_not_files(server: Any) -> None:
    for path in ("/../etc/passwd", "/v1/models/..%2f..%2fetc", "/%00", "/%s%n", "/embed/"):
        assert server.client.get(path).status_code == 404


def test_urls_with_many_parameters_are_refused(server: Any) -> None:
    reply = server.post("/embed?" + "&".join(f"a{number}=1" for number in range(100)), EMBED)
    assert (reply.status_code, reply.json()["error"]) == (
        422,
        "the URL has more than 50 parameters; send fewer",
    )


def test_request_ids_are_checked(server: Any) -> None:
    reply = server.post("/embed", EMBED, headers={"x-request-id": "client-7.a"})
    assert reply.headers["x-request-id"] == "client-7.a"
    for wrong in ("a b", "x" * 200, "a;b"):
        given = server.post("/embed", EMBED, headers={"x-request-id": wrong}).headers["x-request-id"]
        assert given != wrong


def _metric(server: Any, name: str) -> float:
    text = server.client.get("/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def _until(done: Callable[[], bool]) -> None:
    """Wait until a condition holds; each check asks the server."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
