from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from aerogel.bench.backends.deepsparse import BACKEND
from aerogel.errors import RuntimeLoadError

ENGINE = """
import json, os
from pathlib import Path

import numpy as np

__version__ = "1.8.0"


class Engine:
    input_names = ["attention_mask", "input_ids"]
    fraction_of_supported_ops = 0.995

    def __init__(self, model, **given):
        if "broken" in model:
            raise RuntimeError("cannot\\n  parse")
        given |= {"model": model, "analytics": os.environ.get("NM_DISABLE_ANALYTICS")}
        Path(model).with_suffix(".json").write_text(json.dumps(given))

    def run(self, inputs, val_inp):
        assert val_inp is False
        return [inputs[1] - inputs[0]]
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A substitute for the package that records its arguments."""
    (tmp_path / "deepsparse.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deepsparse", raising=False)
    monkeypatch.setenv("NM_DISABLE_ANALYTICS", "0")
    yield tmp_path  # type: ignore[misc]  # a generator fixture's value is what it yields
    sys.modules.pop("deepsparse", None)


def test_engine_gets_cores_and_batch_and_no_analytics(engine: Path) -> None:
    runner = BACKEND.open(engine / "m.onnx", 2, "single_stream", 3, 4)
    assert json.loads((engine / "m.json").read_text()) == {
        "model": str(engine / "m.onnx"),
        "batch_size": 3,
        "num_cores": 2,
        "scheduler": "single_stream",
        "analytics": "1",
    }
    assert os.environ["NM_DISABLE_ANALYTICS"] == "1"
    assert runner.details == "DeepSparse 1.8.0 (99.5% of operators supported)"
    assert [(item.name, item.shape) for item in runner.inputs] == [
        ("attention_mask", (3, 4)),
        ("input_ids", (3, 4)),
    ]
    (output,) = runner.run({"input_ids": np.full((3, 4), 5), "attention_mask": np.ones((3, 4))})
    assert (output == 4).all()


def test_an_engine_error_is_one_line(engine: Path) -> None:
    with pytest.raises(RuntimeLoadError, match=r"DeepSparse cannot load .*broken\.onnx: cannot parse"):
        BACKEND.open(engine / "broken.onnx", 1, "single_stream", 1, 4)
