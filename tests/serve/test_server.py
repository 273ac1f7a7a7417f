"""A server as its operator sees it: health, metrics, keys, addresses, limits, stopping."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import aerogel
from aerogel.errors import UsageError
from aerogel.serve.settings import Settings

Serve = Callable[..., Any]
EMBED = {"inputs": "the film was good"}


def test_live_before_the_models_are_loaded(serve: Serve, folders: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"not a model")
    (broken / "tokenizer.json").write_text("{}")
    server = serve(folders["embedder"], broken, wait=False)
    assert server.client.get("/livez").json() == {"live": True}
    while "being loaded" in (reply := server.client.get("/health")).text:
        pass
    assert reply.status_code == 503
    assert reply.json() == {"error": "not loaded, for reasons in the log: broken", "error_type": "Unhealthy"}
    # The other model serves, and clients learn nothing about paths.
    assert server.post("/embed", EMBED).status_code == 200
    reply = server.post("/embed", {**EMBED, "model": "broken"})
    assert reply.status_code == 503
    assert str(tmp_path) not in reply.text


def test_health_and_info(server: Any) -> None:
    for path in ("/health", "/readyz", "/ping"):
        assert server.client.get(path).status_code == 200
    info = server.client.get("/info").json()
    assert (info["model_id"], info["max_input_length"], info["fused"]) == ("embedder", 64, True)
    labels = server.client.get("/info?model=tagger").json()
    assert labels["methods"] == ["tag"]


def test_metrics(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(f"film={folders['embedder']}")
    server.post("/embed", {"inputs": ["good", "bad film"]})
    server.post("/embed", {"inputs": []})
    lines = server.client.get("/metrics").text.splitlines()
    for line in (
        'te_request_count{method="embed"} 2.0',
        'te_request_success{method="embed"} 1.0',
        'te_request_failure{err="validation"} 1.0',
        "te_request_duration_count 1.0",
        "te_request_queue_duration_count 1.0",
        "te_request_inference_duration_count 1.0",
        "te_request_tokenization_duration_count 1.0",
        "te_request_input_length_sum 7.0",
        "te_batch_next_size_sum 2.0",
        "te_batch_next_tokens_sum 7.0",
        'te_queue_size{model="film"} 0.0',
        'aerogel_tokens_total{model="film"} 7.0',
    ):
        assert line in lines
    below = [line for line in lines if line.startswith('te_request_duration_bucket{le="0.0')]
    assert sum(float(line.split('"')[1]) < 0.005 for line in below) >= 3
    assert any(line.startswith("aerogel_model{") and 'fused="true"' in line for line in lines)


def test_api_keys(
    serve: Serve, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# team a\nfirst-secret\n\nsecond-secret\n")
    server = serve(folders["embedder"], api_key_file=keys, log_requests=True)
    assert server.post("/embed", EMBED).json()["error_type"] == "Validation"
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong-secret"}, 401),
        ({"authorization": "Basic first-secret"}, 401),
        ({"authorization": "Bearer first-secret"}, 200),
        ({"x-api-key": "second-secret"}, 200),
    ):
        reply = server.post("/embed", EMBED, headers=headers)
        assert reply.status_code == status
        assert ("www-authenticate" in reply.headers) == (status == 401)
    assert server.client.get("/health").status_code == 200
    assert server.client.get("/v1/models").status_code == 401
    assert "secret" not in capfd.readouterr().err


def test_rate_limit(serve: Serve, folders: dict[str, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-secret\nsecond-secret\n")
    server = serve(folders["embedder"], api_key_file=keys, rate_limit=0.001)
    first, second = ({"x-api-key": f"{name}-secret"} for name in ("first", "second"))
    assert server.post("/embed", EMBED, headers=first).status_code == 200
    reply = server.post("/embed", EMBED, headers=first)
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 900
    assert server.post("/embed", EMBED, headers=second).status_code == 200


def test_overload_is_refused_with_retry_after(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], batch_tokens=8)
    texts = [f"good {number} bad" for number in range(1500)]
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(server.post, "/embed", {"inputs": texts})
        while float(_lines(server)['te_queue_size{model="served"}']) < 3000:
            pass
        reply = server.post("/embed", {"inputs": texts[:100]}, headers={"x-timeout": "0.001"})
        assert (reply.status_code, reply.json()["error_type"]) == (429, "Overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        # A single text does not wait for the list.
        assert server.post("/embed", EMBED).status_code == 200
        assert not long.done()
        assert len(long.result().json()) == 1500


def test_answers_do_not_depend_on_the_company(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], sessions=2, batch_tokens=200)
    texts = [" ".join(["good", "bad", "film", "not"][: number % 5] * (number % 7)) for number in range(60)]
    expected = aerogel.load(folders["embedder"], threads=2).embed(texts)

    def ask(number: int) -> bool:
        found = server.post("/embed", {"inputs": texts[number]}).json()
        return np.array_equal(np.array(found[0], np.float32), expected[number])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, [*range(60)] * 2))


def test_stopping_answers_what_was_accepted(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], batch_tokens=8)
    texts = [f"good {number} bad" for number in range(600)]
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(server.post, "/embed", {"inputs": texts})
        while float(_lines(server)['te_queue_size{model="served"}']) == 0:
            pass
        server.drain()
        assert len(long.result().json()) == 600


def test_draining_is_not_ready_but_answers(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], drain=3600)
    server.drain()
    while server.client.get("/health").status_code == 200:
        pass
    reply = server.post("/embed", EMBED)
    assert (reply.status_code, reply.headers["connection"]) == (200, "close")
    server.drain()


def test_another_port_for_operations(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], ops_port=0)
    for path in ("/metrics", "/openapi.json", "/"):
        assert server.client.get(path).status_code in (404, 405)
        assert httpx.get(f"{server.ops_url}{path}", timeout=60).status_code == 200
    assert server.client.get("/health").status_code == 200
    assert httpx.post(f"{server.ops_url}/embed", json=EMBED, timeout=60).status_code == 404


def test_unix_socket(serve: Serve, folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(folders["embedder"], uds=path)
    assert server.post("/embed", EMBED).status_code == 200
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="in use by another server"):
        serve(folders["embedder"], uds=path)


def test_tls(serve: Serve, folders: dict[str, Path], tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True,
    )  # fmt: skip
    server = serve(folders["embedder"], tls_cert=cert, tls_key=key)
    assert server.url.startswith("https://")
    assert server.post("/embed", EMBED).status_code == 200


def test_cors(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], cors=("https://page.example",))
    for origin, allowed in (
        ("https://page.example", "https://page.example"),
        ("https://other.example", None),
    ):
        reply = server.post("/embed", EMBED, headers={"origin": origin})
        assert reply.headers.get("access-control-allow-origin") == allowed


def test_limits_of_tokens(serve: Serve, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"], max_request_tokens=10, max_length=6, auto_truncate=False)
    assert server.post("/embed", {"inputs": ["good", "bad"]}).status_code == 200
    reply = server.post("/embed", {"inputs": ["good"] * 4})
    assert (reply.status_code, reply.json()["error"]) == (
        413, "the request has 12 tokens, more than 10; send fewer texts at once",
    )  # fmt: skip
    assert server.post("/embed", {"inputs": "good " * 5}).status_code == 413
    assert server.post("/embed", {"inputs": "good " * 5, "truncate": True}).status_code == 200


def test_texts_are_logged_only_on_request(
    serve: Serve, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    quiet, loud = (serve(folders["embedder"], log_requests=True, log_texts=texts) for texts in (False, True))
    for server in (quiet, loud):
        server.post("/embed", {"inputs": "private \x1b[2J"})
        server.post("/embed", {"inputs": "a", "prompt_name": "confidential"})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["event"].startswith("request")]
    assert [line["status"] for line in requests] == [200, 422, 200, 422]
    assert "private" not in str(requests[:2])
    assert "confidential" not in str(requests[:2])
    assert "private" in requests[2]["body"]
    assert "confidential" in requests[3]["error"]


def test_the_openapi_document_lists_the_routes(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {"/embed", "/v1/embeddings", "/rerank", "/v1/tag", "/health"} <= document["paths"].keys()
    assert not any("admin" in path for path in document["paths"])
    schema = document["paths"]["/v1/answer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["question", "context"]
    assert schema["properties"]["top_k"] == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 2**31}, {"type": "null"}]
    }


def test_the_page_loads_nothing_from_elsewhere(server: Any) -> None:
    reply = server.client.get("/")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "http://" not in reply.text
    assert "https://" not in reply.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 70000}, "--port 70000 is out of range; give a number from 0 to 65535"),
        ({"timeout": 0.0}, "--timeout 0.0 is out of range"),
        ({"tls_cert": Path("a")}, "--tls-cert and --tls-key belong together"),
        ({"log_format": "xml"}, "--log-format 'xml' is not known; known: text, json"),
        ({"workers": 2, "port": 0}, "--workers needs a fixed --port"),
        ({"models": ()}, "no model to serve"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**{"models": ("a",), **settings})


@pytest.mark.parametrize(
    ("host", "keys", "insecure", "refused"),
    [
        ("127.0.0.1", False, False, False),
        ("::1", False, False, False),
        ("localhost", False, False, False),
        ("0.0.0.0", False, False, True),
        ("10.0.0.1", False, False, True),
        ("example.org", False, False, True),
        ("0.0.0.0", True, False, False),
        ("0.0.0.0", False, True, False),
    ],
)
def test_open_addresses_need_a_key(host: str, keys: bool, insecure: bool, refused: bool) -> None:
    settings = Settings(models=("a",), host=host, insecure=insecure)
    if refused:
        with pytest.raises(UsageError, match=r"open to other machines and there is no API key"):
            settings.check_exposure(keys)
    else:
        settings.check_exposure(keys)


def _lines(server: Any) -> dict[str, str]:
    text = server.client.get("/metrics").text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
