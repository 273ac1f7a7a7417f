from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from tiny_models import save_config

from aerogel.errors import ExportError
from aerogel.export.kinds import check_kind
from aerogel.export.torch_reference import load_reference


def config_of(kind: str, **fields: Any) -> Any:
    return transformers.AutoConfig.for_model(kind, **fields)


@pytest.mark.parametrize(
    ("kind", "head", "message"),
    [
        ("llama", "sequence", "LlamaForSequenceClassification is a decoder"),
        ("gpt2", "token", "GPT2ForTokenClassification is a decoder"),
        ("gpt_neox", "plain", "GPTNeoXModel is a decoder"),  # its config has is_decoder: false
        ("mamba", "plain", "MambaModel is a decoder"),
        ("t5", "sequence", "T5ForSequenceClassification is an encoder-decoder"),
        ("clip", "plain", "CLIPModel is a multimodal model: it takes pixel_values"),
        ("vit", "plain", "ViTModel takes pixel_values where a text encoder takes input_ids"),
        ("fnet", "masked LM", "FNetForMaskedLM takes no attention_mask"),
        (
            "bert",
            "choice",
            r"BertForMultipleChoice takes inputs \[batch, choices, sequence\].*score each choice",
        ),
    ],
)
def test_other_models_are_refused_before_their_weights_are_read(
    tmp_path: Path, kind: str, head: str, message: str
) -> None:
    save_config(tmp_path, kind, head)  # without weights
    with pytest.raises(ExportError, match=f"^{message}") as caught:
        load_reference(tmp_path)
    assert "\n" not in str(caught.value)


def test_encoder_configured_as_decoder_is_refused() -> None:
    with pytest.raises(ExportError, match="BertModel is a decoder"):
        check_kind(config_of("bert", is_decoder=True), transformers.BertModel)


@pytest.mark.parametrize(
    ("kind", "fields", "name"),
    [
        ("bert", {}, "BertModel"),
        ("xlm", {}, "XLMModel"),
        ("bert-generation", {}, "BertGenerationEncoder"),
        ("reformer", {}, "ReformerModel"),
        ("esmc", {}, "EsmcForTokenClassification"),
        ("t5", {}, "T5EncoderModel"),
        ("llama", {"is_causal": False}, "LlamaModel"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "Gemma3TextModel"),
        (
            "sam3_lite_text_text_model",
            {},
            "Sam3LiteTextTextModel",
        ),  # its main input is said to be pixel_values
        ("xlnet", {"attn_type": "bi"}, "XLNetModel"),
    ],
)
def test_text_encoders_pass(kind: str, fields: dict[str, Any], name: str) -> None:
    check_kind(config_of(kind, **fields), getattr(transformers, name))
