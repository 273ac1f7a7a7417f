from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from aerogel.export import capture as capturing
from aerogel.export.simplify import simplify
from aerogel.ops.linear_function import IR_VERSION, OPSET

HEADS = {
    "SequenceClassification": ("logits",),
    "TokenClassification": ("logits",),
    "QuestionAnswering": ("start_logits", "end_logits"),
    "": ("last_hidden_state",),
}
# One layer captures fastest; two show that they share one mask.
MODELS = {
    "bert": ("bert", "SequenceClassification", {}),
    "bert tokens": ("bert", "TokenClassification", {"num_hidden_layers": 1}),
    "bert spans": ("bert", "QuestionAnswering", {"num_hidden_layers": 1}),
    "bert encoder": ("bert", "", {"num_hidden_layers": 1}),
    "distilbert": ("distilbert", "SequenceClassification", {"n_layers": 1}),
    "roberta": ("roberta", "SequenceClassification", {"num_hidden_layers": 1}),
    "electra": ("electra", "SequenceClassification", {"num_hidden_layers": 1}),
}


def altered(source: Any, **changes: Any) -> Any:
    """A copy of a reference with other attributes."""
    made = copy.copy(source)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("which", MODELS)
def test_graph_gives_what_the_model_gives_at_every_shape(captured: Callable[..., Any], which: str) -> None:
    family, head, sizes = MODELS[which]
    _, source, model = captured(family, head, **sizes)
    simplify(model)
    assert (model.opset_imports, model.ir_version) == ({"": OPSET}, IR_VERSION)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    names = [value.name for value in session.get_inputs()]
    assert names == ["input_ids", "attention_mask"] + ["token_type_ids"] * (family in ("bert", "electra"))
    assert [value.shape for value in session.get_inputs()] == [["batch", "sequence"]] * len(names)
    assert tuple(value.name for value in session.get_outputs()) == source.outputs == HEADS[head]

    random = np.random.default_rng(0)
    for batch, length in [(1, 1), (1, 64), (3, 2), (2, 17), (8, 5)]:
        mask = np.ones((batch, length), np.int64)
        mask[-1, 1 + length // 2 :] = 0
        feed = {
            "input_ids": np.where(mask == 1, random.integers(5, 60, mask.shape), 0),
            "attention_mask": mask,
            "token_type_ids": random.integers(0, 2, mask.shape),
        }
        feed = {name: feed[name] for name in names}
        for name, got in zip(source.outputs, session.run(None, feed), strict=True):
            expected = source.run(feed)[name]
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_weights_have_the_names_of_the_checkpoint(captured: Callable[..., Any]) -> None:
    path, _, model = captured("bert")
    masks = json.loads((path / "aerogel.json").read_text())["matrices"]
    assert masks
    assert set(masks) <= set(model.graph.initializers)


class Peculiar:
    """A model that makes something of its own of a mask of four dimensions, if it takes one at all."""

    def __init__(self, meaning: Callable[[Any], Any]) -> None:
        self.meaning = meaning

    def __call__(self, input_ids: Any, attention_mask: Any, **_: Any) -> dict[str, Any]:
        keep = attention_mask.float() if attention_mask.dim() == 2 else self.meaning(attention_mask)
        return {"logits": ((input_ids + 1) * keep).sum(1, keepdim=True)}


def refuse(mask: Any) -> Any:
    raise ValueError(f"wrong shape {tuple(mask.shape)}")


@pytest.mark.parametrize(
    ("meaning", "takes"),
    [
        (lambda mask: (mask[:, 0, 0] == 0).float(), True),
        (lambda mask: mask[:, 0, 0], False),  # a factor, not a summand
        (lambda mask: mask[:, 0, 0].nan_to_num(0) * 0 + 1, False),  # looks at everything
        (lambda mask: mask[:, 0, 0] * float("nan"), False),
        (refuse, False),
    ],
)
def test_mask_of_four_dimensions_is_used_only_where_it_means_the_same(
    captured: Callable[..., Any], meaning: Callable[[Any], Any], takes: bool
) -> None:
    _, source, _ = captured("bert")
    odd = altered(source, model=Peculiar(meaning))  # type: ignore[arg-type]
    assert capturing._takes_additive_mask(odd) is takes
