"""What decides the bytes of a job's output: the settings that an unfinished job is compared with."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from aerogel.bulk.engine import Task
from aerogel.bulk.windows import Source
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import library_path
from aerogel.kernels.cpu.native import selected
from aerogel.model import Model
from aerogel.system.atomic_io import sha256
from aerogel.system.versions import versions

__all__ = ["settings"]

_SCHEMA = 1


def settings(model: Model, task: Task, source: Source) -> dict[str, Any]:
    """Settings by name, as JSON. Inputs are compared row by row, by their digest."""
    return {
        "schema": _SCHEMA,
        "model": _files(model.path),
        "method": task.method,
        "options": dataclasses.asdict(task.options),
        "max length": model.max_length,
        "columns": list(source.columns),
        "kept columns": {
            name: None if kind is None else str(kind) for name, kind in task.writer.kept.items()
        },
        "output format": type(task.writer).__module__.rpartition(".")[2],
        "versions": versions(["aerogel", "numpy", "onnxruntime", "tokenizers", "orjson", "pyarrow"]),
        "native library": _library(),
    }


def _files(model: Path) -> str:
    """SHA-256 over the names and hashes of a model's file, its external data, its tokenizer and its settings."""
    folders = [model.parent, *([model.parent.parent] if model.absolute().parent.name == "onnx" else [])]
    found = {file for file in model.parent.glob(f"{model.name}*") if file.is_file()}
    found |= {file for folder in folders for file in (*folder.glob("*.json"), *folder.glob("*/config.json"))}
    digest = hashlib.sha256()
    for file in sorted(found):
        digest.update(f"{file.relative_to(folders[-1]).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _library() -> str | None:
    """Hash and instruction set of the native library; None without one."""
    try:
        return f"{sha256(Path(library_path()))} {selected()}"
    except RuntimeLoadError:
        return None
