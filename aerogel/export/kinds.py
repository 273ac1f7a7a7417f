"""Decide from a model's class whether it is a text encoder; other models are refused before their weights are read."""

from __future__ import annotations

import inspect
from typing import Any

from aerogel.errors import ExportError

__all__ = ["check_kind"]

# Inputs of multimodal and non-text models.
_OTHER_INPUTS = (
    "pixel_values", "pixel_values_videos", "pixel_values_images", "image", "visual_feats", "visual_embeds",
    "input_features", "input_values", "audio_values",
)  # fmt: skip
# Inputs that carry a decoder's state from one generated token to the next.
_STATES = ("past_key_values", "cache_params", "mems", "state")


def check_kind(config: Any, model_class: Any) -> None:
    """Check that a model class is a text encoder with inputs ``[batch, sequence]``.

    Args:
        config: a configuration of transformers.
        model_class: the class of transformers that the configuration names.

    Raises:
        ExportError: names the class, what it is, and what can be exported.
    """
    if problem := _problem(config, model_class):
        raise ExportError(f"{model_class.__name__} {problem}")


def _problem(config: Any, model_class: Any) -> str | None:
    """Why a class cannot be exported; None for text encoders."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES

    parameters = inspect.signature(model_class.forward).parameters
    main = str(model_class.main_input_name)
    only = "only text encoders can be exported"
    if "input_ids" not in parameters or (main != "input_ids" and main in parameters):
        first = main if main in parameters else next(iter(list(parameters)[1:]), "nothing")
        return f"takes {first} where a text encoder takes input_ids; {only}"
    if "decoder_input_ids" in parameters:
        return f"is an encoder-decoder, which generates text; {only}"
    if other := next((name for name in _OTHER_INPUTS if name in parameters), None):
        return f"is a multimodal model: it takes {other} besides input_ids; {only}"
    if _is_decoder(config, model_class):
        return f"is a decoder, a model of the next token; {only}"
    if model_class.__name__ in MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES.values():
        return (
            "takes inputs [batch, choices, sequence] where exported models take [batch, sequence]; train a sequence "
            "classifier with one label, and score each choice in a row of its own"
        )
    if "attention_mask" not in parameters:
        return "takes no attention_mask, so that padding would change its outputs; such models cannot be exported"
    return None


def _is_decoder(config: Any, model_class: Any) -> bool:
    """Whether each token attends only to the tokens before it."""
    from transformers import MODEL_MAPPING
    from transformers.models.auto import modeling_auto

    is_decoder = getattr(config, "is_decoder", None)
    if is_decoder:
        return True
    bidirectional = (
        getattr(config, "is_causal", None) is False
        or getattr(config, "use_bidirectional_attention", None) in (True, "all")
        or getattr(config, "attn_type", None) == "bi"
    )
    if bidirectional:
        return False
    # The forward of a head often takes past_key_values only to pass it on, so look at the plain model.
    plain = MODEL_MAPPING.get(type(config), model_class)
    parameters = inspect.signature((plain[0] if isinstance(plain, tuple) else plain).forward).parameters
    if "decoder_input_ids" in parameters:
        return False  # the encoder alone of an encoder-decoder
    masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    generates = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # Encoders that can also run as decoders have is_decoder, and read a second sequence when they do.
    if masked or (is_decoder is False and "encoder_hidden_states" in parameters):
        return False
    return generates or any(name in parameters for name in _STATES)
