from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from aerogel.bench.backends.onnxruntime import BACKEND
from aerogel.runtime import sessions


def test_variants_differ_only_in_the_fusion(
    token_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is compared between variants too: both must return memory that loading freed."""
    opened: list[Any] = []
    freed: list[None] = []
    real = onnxruntime.InferenceSession

    def watched(path: str, options: Any, **given: Any) -> Any:
        opened.append(given)
        return real(path, options, **given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    monkeypatch.setattr(sessions, "return_freed_memory", lambda: freed.append(None))
    for variant in BACKEND.variants:
        BACKEND.open(token_model("dense.onnx"), 1, variant, 1, 4)
    disabled = [given.pop("disabled_optimizers") for given in opened]
    assert dict(zip(BACKEND.variants, disabled, strict=True)) == {
        "unfused-skip-layernorm": ["SkipLayerNormFusion"],
        "default": [],
    }
    assert opened[0] == opened[1]
    assert len(freed) == 2
