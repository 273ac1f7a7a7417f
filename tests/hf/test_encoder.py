from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from aerogel.errors import UsageError
from aerogel.hf.encoder import embedding_parameters, encoder_parameters, prunable

BERT = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 11,
}


def build(family: str, **config: int) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **config))


def test_prunable_has_six_matrices_per_bert_layer() -> None:
    names = prunable(build("bert", **BERT))
    assert len(names) == 12
    layer = "bert.encoder.layer.1."
    assert [name for name in names if name.startswith(layer)] == [
        layer + part + ".weight"
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        )
    ]


def test_encoder_parameters_count_biases_and_norms() -> None:
    # Per layer: 4 of 8x8 + 8, 16x8 + 16, 8x16 + 8, and two LayerNorms of 8 + 8.
    assert encoder_parameters(build("bert", **BERT)) == 2 * (4 * 72 + 144 + 136 + 32)


def test_embedding_parameters_are_words_positions_types_and_norm() -> None:
    model = build("bert", **BERT, max_position_embeddings=6)
    assert sum(p.numel() for p in embedding_parameters(model)) == 8 * (11 + 6 + 2) + 16


def test_numbered_layers_of_the_head_are_not_prunable() -> None:
    model = build("bert", **BERT)
    model.classifier = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    assert all(name.startswith("bert.encoder.") for name in prunable(model))


def test_a_model_without_repeated_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="no Linear modules in repeated layers"):
        prunable(torch.nn.Linear(2, 2))
