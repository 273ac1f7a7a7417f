"""Uploads to a stand-in for the hub's HTTP interface, on a free port of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import huggingface_hub.constants
import pytest

from aerogel import cli
from aerogel.errors import OutputError, UsageError
from aerogel.hf.push import check_push, push

TOKEN = "hf_secret0123456789"
SHA = "0" * 40
ADDRESS = "https://huggingface.co/me/model"  # the client accepts no other host


class Hub:
    """State of the stand-in: files of one repository, and the requests that it received."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.commits: list[list[dict[str, Any]]] = []
        self.tokens: set[str | None] = set()
        self.refusal: tuple[int, str] | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON (or bytes) for a request."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": ADDRESS, "name": "me/model"}
        if self.refusal:
            return self.refusal[0], {"error": self.refusal[1]}
        if path.startswith("/api/models/me/model/paths-info/"):
            asked = parse_qs(body.decode())["paths"]
            return 200, [entry(name, self.files[name]) for name in asked if name in self.files]
        if path.startswith("/api/models/me/model/preupload/"):
            asked = [file["path"] for file in json.loads(body)["files"]]
            return 200, {
                "files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]
            }
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/api/models/me/model/commit/"):
            lines = [json.loads(line) for line in body.splitlines()]
            self.commits.append(lines)
            for line in lines[1:]:
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {
                "commitUrl": f"https://huggingface.co/me/model/commit/{SHA}",
                "commitOid": SHA,
                "success": True,
            }
        if path.startswith("/api/models/me/model"):
            return 200, {"id": "me/model", "sha": SHA, "siblings": [], "private": True}
        if f"/resolve/{SHA}/" in path:
            return 200, self.files[unquote(path.rpartition(f"/{SHA}/")[2])]
        return 404, {"error": f"{method} {path} is not part of the stand-in"}


def entry(name: str, content: bytes) -> dict[str, Any]:
    """What the hub says of a file."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            state.tokens.add(self.headers.get("Authorization"))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, result = state.answer(self.command, self.path.partition("?")[0], body)
            content = result if isinstance(result, bytes) else json.dumps(result).encode()
            self.send_response(status)
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("ETag", hashlib.sha1(content).hexdigest())
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_HEAD = handle_any  # noqa: N815 - names of the standard library

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        template.replace(huggingface_hub.constants.ENDPOINT, address),
    )
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "m.onnx").write_bytes(b"model")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("local card")
    return tmp_path


def pushed(folder: Path, **options: Any) -> str:
    return push(
        folder,
        "me/model",
        ["onnx/m.onnx"],
        ["config.json"],
        "README.md",
        lambda old: f"{old}|block",
        **options,
    )


def test_a_new_repository_is_private_and_gets_all_files(hub: Hub, folder: Path) -> None:
    assert pushed(folder).endswith(SHA)
    assert hub.files == {"onnx/m.onnx": b"model", "config.json": b"{}", "README.md": b"None|block"}
    (created,) = hub.created
    assert created.get("visibility") == "private" or created.get("private") is True
    assert hub.commits[0][0]["value"]["parentCommit"] == SHA
    assert f"Bearer {TOKEN}" in hub.tokens


def test_public_makes_a_public_repository(hub: Hub, folder: Path) -> None:
    pushed(folder, public=True)
    (created,) = hub.created
    assert created.get("visibility") == "public" or created.get("private") is False


def test_files_of_the_owner_stay(hub: Hub, folder: Path) -> None:
    """The card of the repository is extended, and an equal companion is not uploaded again."""
    hub.files = {"config.json": b"{}", "README.md": b"theirs", "onnx/m.onnx": b"old", "other": b"x"}
    pushed(folder)
    assert hub.files == {
        "config.json": b"{}", "README.md": b"theirs|block", "onnx/m.onnx": b"model", "other": b"x",
    }  # fmt: skip
    assert {line["value"]["path"] for line in hub.commits[0][1:]} == {"onnx/m.onnx", "README.md"}


def test_another_model_is_not_overwritten(hub: Hub, folder: Path) -> None:
    hub.files = {"config.json": b'{"other": 1}'}
    with pytest.raises(UsageError, match=r"the repository has another config\.json"):
        pushed(folder)
    assert hub.commits == []


def test_a_refusal_is_one_line_without_the_token(hub: Hub, folder: Path) -> None:
    hub.refusal = 403, f"{TOKEN} has no write access"
    with pytest.raises(OutputError, match="the hub did not accept the upload") as caught:
        pushed(folder)
    assert "hf upload me/model" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b/c", "../x", "", "a b"])
def test_a_name_that_is_not_a_repository_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="must be NAME or OWNER/NAME"):
        check_push(name)


def test_without_a_token_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="there is no token"):
        check_push("me/model")


def test_the_command_line_uploads_an_export(
    hub: Hub, tiny_checkpoint: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_checkpoint("bert", num_hidden_layers=1))
    out = tmp_path / "out"
    command = ["export", model, "--layout", "hub", "--out", str(out), "--push", "me/model"]
    assert cli.main(command) == 0
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert hub.files == files
    assert "onnx/model_sparse.onnx" in files
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err


def test_push_needs_the_hub_layout(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Any) -> None:
    assert cli.main(["export", str(tiny_checkpoint()), "--out", "m.onnx", "--push", "me/model"]) == 2
    assert "only --layout hub can be pushed" in capsys.readouterr().err
