from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four"]
LABELS = {"id2label": {"0": "low", "1": "high"}, "label2id": {"low": 0, "high": 1}}
OUTPUTS: dict[str, tuple[dict[str, tuple[str, int]], dict[str, Any]]] = {
    "embedder": ({"sentence_embedding": ("summed", 2)}, {}),
    "tokens": ({"last_hidden_state": ("vectors", 3)}, {}),
    "classifier": ({"logits": ("summed", 2)}, {"architectures": ["BertForSequenceClassification"], **LABELS}),
    "reranker": (
        {"logits": ("summed", 2)},
        {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}},
    ),
    "tagger": ({"logits": ("vectors", 3)}, {"architectures": ["BertForTokenClassification"], **LABELS}),
    "filler": ({"logits": ("vectors", 3)}, {"architectures": ["BertForMaskedLM"]}),
    "answerer": (
        {"start_logits": ("first", 2), "end_logits": ("first", 2)},
        {"architectures": ["BertForQuestionAnswering"]},
    ),
}
WIDTH = {"classifier": 2, "reranker": 1, "tagger": 2, "filler": len(WORDS)}


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Factory of folders of tiny models, one per head: a lookup of token vectors, and a word tokenizer."""
    known: dict[str, Path] = {}

    def make(head: str = "embedder") -> Path:
        if head not in known:
            known[head] = _write(tmp_path_factory.mktemp(head), head)
        return known[head]

    return make


def _write(folder: Path, head: str) -> Path:
    outputs, config = OUTPUTS[head]
    width = WIDTH.get(head, 4)
    table = np.random.default_rng(0).standard_normal((len(WORDS), width)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked"]),
        helper.make_node("Cast", ["attention_mask"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "last"], ["column"]),
        helper.make_node("Mul", ["looked", "column"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "tokens"], ["summed"], keepdims=0),
        helper.make_node("ReduceSum", ["vectors", "last"], ["first"], keepdims=0),
    ]
    values = []
    for name, (source, rank) in outputs.items():
        nodes.append(helper.make_node("Identity", [source], [name]))
        sizes = ["batch", "sequence", width] if rank == 3 else ["batch", width]
        if head == "answerer":
            sizes = ["batch", "sequence"]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        values,
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "tokens"),
        ],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, folder / "model.onnx")
    (folder / "config.json").write_text(json.dumps(config))
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
