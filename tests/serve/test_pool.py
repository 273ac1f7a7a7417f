"""Models are loaded, replaced and unloaded while the server runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.errors import UsageError
from aerogel.serve.pool import named_paths

Serve = Callable[..., Any]
EMBED = {"inputs": "the film was good", "model": "film"}


@pytest.fixture
def admin(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file with the admin token, and the header of it."""
    path = tmp_path / "token"
    path.write_text("admin-secret\n")
    return path, {"authorization": "Bearer admin-secret"}


def _copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def _vector(reply: Any) -> np.ndarray:
    return np.array(reply.json()[0], np.float32)


def test_a_new_version_is_loaded(serve: Serve, folders: dict[str, Path], exported_embedder: Any, tmp_path: Path,
                                 admin: tuple[Path, dict[str, str]]) -> None:  # fmt: skip
    folder, other = _copy(folders["embedder"], tmp_path / "film"), exported_embedder("max")
    texts = [EMBED["inputs"]]
    old, new = (aerogel.load(path, threads=1).embed(texts)[0] for path in (folder, other))
    assert not np.array_equal(old, new)
    server = serve(f"film={folder}", admin_token_file=admin[0])
    for file in other.iterdir():
        shutil.copyfile(file, folder / file.name)
    # The files on disk changed under the server, which does not see that until it loads them again.
    np.testing.assert_array_equal(_vector(server.post("/embed", EMBED)), old)
    assert server.post("/admin/models/film/load", headers=admin[1]).status_code == 200
    np.testing.assert_array_equal(_vector(server.post("/embed", EMBED)), new)


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "no tokenizer", "gone"])
def test_a_broken_model_does_not_replace_a_working_one(
    serve: Serve, folders: dict[str, Path], tmp_path: Path, admin: tuple[Path, dict[str, str]], damage: str
) -> None:
    folder = _copy(folders["embedder"], tmp_path / "film")
    expected = aerogel.load(folders["embedder"], threads=1).embed([EMBED["inputs"]])[0]
    server = serve(f"film={folder}", admin_token_file=admin[0])
    model = folder / "model.onnx"
    if damage == "truncated":
        with model.open("r+b") as file:
            file.truncate(1000)
    elif damage == "other bytes":
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 255
        model.write_bytes(data)
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        shutil.rmtree(folder)
    reply = server.post("/admin/models/film/load", headers=admin[1])
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("model film cannot be loaded: ")
    assert server.client.get("/health").status_code == 200
    np.testing.assert_array_equal(_vector(server.post("/embed", EMBED)), expected)


def test_models_of_the_model_folder(
    serve: Serve, folders: dict[str, Path], tmp_path: Path, admin: tuple[Path, dict[str, str]]
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    _copy(folders["embedder"], root / "inside")
    _copy(folders["embedder"], tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    server = serve(folders["tagger"], model_folder=root, admin_token_file=admin[0])
    for name in (
        "outside",
        "..",
        "..%2foutside",
        "link",
        ".",
        "inside%2f..%2f..%2foutside",
        "%00",
        "x" * 500,
    ):
        assert server.post(f"/admin/models/{name}/load", headers=admin[1]).status_code == 404, name
    assert server.post("/embed", {**EMBED, "model": "inside"}).status_code == 404
    assert server.post("/admin/models/inside/load", headers=admin[1]).json()["methods"] == ["embed"]
    assert server.post("/embed", {**EMBED, "model": "inside"}).status_code == 200
    assert server.post("/admin/models/inside/unload", headers=admin[1]).status_code == 200
    assert server.post("/embed", {**EMBED, "model": "inside"}).status_code == 404
    assert server.post("/admin/models/inside/unload", headers=admin[1]).status_code == 404
    assert server.client.get("/health").status_code == 200


def test_admin_routes_need_the_token(
    serve: Serve, server: Any, folders: dict[str, Path], admin: tuple[Path, dict[str, str]]
) -> None:
    # Without a token, they are as unknown as any other path.
    assert server.post("/admin/models/embedder/unload").status_code == 404
    guarded = serve(folders["embedder"], admin_token_file=admin[0])
    for headers in ({}, {"authorization": "Bearer other-secret"}):
        assert guarded.post("/admin/models/served/unload", headers=headers).status_code == 401
    assert guarded.post("/embed", {"inputs": "a"}).status_code == 200


def test_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert named_paths((f"{tmp_path}/a", f"b={tmp_path}/a")) == {"a": tmp_path / "a", "b": tmp_path / "a"}
    for models, message in (
        ((f"{tmp_path}/a", f"{tmp_path}/a"), "two models have the name a"),
        ((f"../x={tmp_path}/a",), "is not a name for a model"),
        ((f".x={tmp_path}/a",), "is not a name for a model"),
        ((f"{tmp_path}/missing",), "does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            named_paths(models)
