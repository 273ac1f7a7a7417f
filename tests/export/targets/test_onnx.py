from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel.errors import ParityError
from aerogel.export.targets.onnx import TARGET


def test_failed_run_names_the_input_shape_in_one_line(token_model: Callable[..., Path]) -> None:
    run = TARGET.runners(token_model("model.onnx"))["onnxruntime"]
    assert not isinstance(run, str)
    # Token 99 is beyond the vocabulary of 50.
    feed = {"input_ids": np.full((2, 3), 99), "attention_mask": np.ones((2, 3), np.int64)}
    with pytest.raises(ParityError, match=r"on inputs \[2, 3\] without the native library \(") as caught:
        run(feed)
    assert "\n" not in str(caught.value)
