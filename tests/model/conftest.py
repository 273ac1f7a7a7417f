from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Path]:
    """Factory of folders in the layout of other exporters: an embedding lookup as the model, and a word tokenizer.

    ``toy(outputs={"last_hidden_state": 3})`` returns a folder. An output of rank 3 has the token vectors
    ``[batch, sequence, width]``, an output of rank 2 their sum over real tokens.
    """

    def make(
        outputs: dict[str, int] | None = None,
        *,
        width: int = 4,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        integer: int = TensorProto.INT64,
        shape: tuple[Any, Any] = ("batch", "sequence"),
        config: dict[str, Any] | None = None,
        file: str = "model.onnx",
        folder: str = "toy",
    ) -> Path:
        outputs = outputs or {"last_hidden_state": 3}
        home = tmp_path / folder
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four"]
        table = np.random.default_rng(0).standard_normal((len(words), width)).astype(np.float32)
        nodes = [helper.make_node("Gather", ["table", "input_ids"], ["vectors"])]
        kept = "vectors"
        for name in inputs[1:]:
            nodes += [
                helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT),
                helper.make_node("Unsqueeze", [f"{name}.f", "last"], [f"{name}.c"]),
            ]
            op = "Mul" if name == "attention_mask" else "Add"
            nodes.append(helper.make_node(op, [kept, f"{name}.c"], [f"{kept}.{name}"]))
            kept = f"{kept}.{name}"
        nodes.append(helper.make_node("ReduceSum", [kept, "tokens"], ["summed"], keepdims=0))
        values = []
        for name, rank in outputs.items():
            nodes.append(helper.make_node("Identity", ["vectors" if rank == 3 else "summed"], [name]))
            sizes = [*shape, width] if rank == 3 else [shape[0], width]
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        graph = helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info(name, integer, list(shape)) for name in inputs],
            values,
            [
                numpy_helper.from_array(table, "table"),
                numpy_helper.from_array(np.array([2], np.int64), "last"),
                numpy_helper.from_array(np.array([1], np.int64), "tokens"),
            ],
        )
        model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
        onnx.save(model, home / file)
        (home / "config.json").write_text(json.dumps(config or {}))
        _write_tokenizer(home, words)
        return home

    return make


def _write_tokenizer(folder: Path, words: list[str]) -> None:
    """Write a tokenizer with its own padding and truncation, as published tokenizers have."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(words[:5])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
