from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig, AutoModel

from aerogel.hf.families import ATTENTIONS, HEAD_COUNTS, HEAD_WIDTHS, config_sizes, head_count

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16},
    "electra": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16},
    "distilbert": {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 16},
}


@pytest.mark.parametrize("family", CONFIGS)
def test_attention_modules_have_the_listed_attributes(family: str) -> None:
    config = AutoConfig.for_model(family, vocab_size=8, **CONFIGS[family])
    model = AutoModel.from_config(config)
    modules = dict(model.named_modules())
    layer = next(name for name in modules if name.endswith(".0"))
    (attention,) = (
        modules[f"{layer}.{names.module}"]
        for names in ATTENTIONS
        if f"{layer}.{names.module}.{names.query}" in modules
    )
    assert [getattr(attention, name) for name in HEAD_COUNTS if hasattr(attention, name)] == [2]
    assert [getattr(attention, name) for name in HEAD_WIDTHS if hasattr(attention, name)] == [8]


@pytest.mark.parametrize("family", CONFIGS)
def test_sizes_are_read_from_every_family(family: str) -> None:
    assert config_sizes(CONFIGS[family]) == {"layers": 1, "hidden": 8, "inner": 16, "heads": 2}


@pytest.mark.parametrize("heads", [0, -1, "2", True, None])
def test_a_head_count_is_a_positive_integer(heads: object) -> None:
    assert head_count({"num_attention_heads": heads}) is None
    assert head_count({"n_heads": 2}) == 2
