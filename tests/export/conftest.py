from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from aerogel.export import capture as capturing
from aerogel.export import torch_reference as loading
from aerogel.export.torch_reference import TorchReference

Captured = tuple[Path, TorchReference, ir.Model]


@pytest.fixture(scope="session")
def captured(tiny_checkpoint: Callable[..., Path]) -> Callable[..., Captured]:
    """Factory of (checkpoint, source, graph as captured); takes what `tiny_checkpoint` takes, and captures it once."""
    cache: dict[Path, tuple[TorchReference, Any]] = {}

    def make(*args: Any, **kwargs: Any) -> Captured:
        path = tiny_checkpoint(*args, **kwargs)
        if path not in cache:
            source = loading.load_reference(path)
            cache[path] = source, ir.to_proto(capturing.capture(source))
        source, proto = cache[path]
        return path, source, ir.from_proto(proto)

    return make


@pytest.fixture
def capture_once(captured: Callable[..., Captured], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Like `tiny_checkpoint`, but capturing that checkpoint again costs nothing in this test."""

    def make(*args: Any, **kwargs: Any) -> Path:
        path, source, model = captured(*args, **kwargs)
        proto = ir.to_proto(model)
        monkeypatch.setattr(loading, "load_reference", lambda asked: {path: source}[asked])
        monkeypatch.setattr(capturing, "capture", lambda _: ir.from_proto(proto))
        return path

    return make
