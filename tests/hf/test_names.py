from __future__ import annotations

from types import SimpleNamespace

import pytest

from aerogel.hf.names import repeated

HEADED = SimpleNamespace(base_model_prefix="bert", bert=object())
# A plain encoder has the prefix of its family, but no module of that name.
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
def test_repeated_names_have_a_number_and_are_in_the_base_model(
    model: object, name: str, answer: bool
) -> None:
    assert repeated(model, name) == answer
