from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from aerogel.bench.backends.onnxruntime import CANDIDATE
from aerogel.runtime import sessions


def test_settings_differ_in_the_fusion_and_in_nothing_else(
    token_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is compared between settings too: both must hand back what loading freed."""
    opened: list[Any] = []
    freed: list[None] = []
    real = onnxruntime.InferenceSession

    def watched(path: str, options: Any, **given: Any) -> Any:
        opened.append(given)
        return real(path, options, **given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    monkeypatch.setattr(sessions, "return_freed_memory", lambda: freed.append(None))
    for setting in CANDIDATE.settings:
        CANDIDATE.open(token_model("dense.onnx"), 1, setting, 1, 4)
    disabled = [given.pop("disabled_optimizers") for given in opened]
    assert dict(zip(CANDIDATE.settings, disabled, strict=True)) == {
        "unfused-skip-layernorm": ["SkipLayerNormFusion"],
        "default": [],
    }
    assert opened[0] == opened[1]
    assert len(freed) == 2
