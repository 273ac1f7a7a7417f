from __future__ import annotations

from types import SimpleNamespace

import pytest

from aerogel.hf.names import repeated

HEADED = SimpleNamespace(base_model_prefix="bert", bert=object())
# A plain encoder carries the prefix of its family, but has no part of that name.
PLAIN = SimpleNamespace(base_model_prefix="bert")


@pytest.mark.parametrize(
    ("model", "name", "answer"),
    [
        (HEADED, "bert.encoder.layer.0.output.dense", True),
        (HEADED, "bert.embeddings.word_embeddings", False),
        (HEADED, "classifier.0", False),
        (HEADED, "bertish.layer.0", False),
        (PLAIN, "encoder.layer.11.output.dense.bias", True),
        (PLAIN, "pooler.dense", False),
        (object(), "layers.3", True),
    ],
)
def test_layers_are_numbered_and_below_the_head(model: object, name: str, answer: bool) -> None:
    assert repeated(model, name) == answer
