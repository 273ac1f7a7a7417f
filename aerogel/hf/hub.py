"""Models of the Hugging Face hub: a directory is used as it is, a hub id is downloaded or found in the cache."""

from __future__ import annotations

import re
from pathlib import Path

from aerogel.errors import UsageError, require
from aerogel.hf.reason import reason

__all__ = ["HUB_ID", "local_model"]

# What an export reads: configuration, tokenizer, weights as tensors, modules of sentence-transformers.
_PATTERNS = [
    "*.json", "*.txt", "*.model", "model*.safetensors", "pytorch_model*.bin", "*/config.json", "*/model.safetensors",
    "*/pytorch_model.bin",
]  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""Name of a model on the hub: "name" or "owner/name"."""


def local_model(name: str | Path, revision: str | None = None) -> Path:
    """The directory or file of a model.

    Args:
        name: an existing path, or a hub id such as "sentence-transformers/all-MiniLM-L6-v2".
        revision: branch, tag or commit of a hub id.

    Raises:
        UsageError: neither a path nor a hub id that can be had; the message has the hub's reason.
        MissingExtraError: huggingface_hub is not installed.
    """
    path = Path(name)
    if path.exists():
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} is a path; revisions belong to hub ids")
        return path
    if path.suffix == ".onnx" or not HUB_ID.fullmatch(str(name)):
        raise UsageError(f"{name} does not exist; give a directory, an .onnx file or a hub id")
    hub = require("huggingface_hub", "export")
    try:
        return Path(hub.snapshot_download(str(name), revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # the hub's client and the network raise types of their own
        raise UsageError(
            f"{name} is not a path and cannot be had from the hub ({reason(error)}); check the name or give a directory"
        ) from error
