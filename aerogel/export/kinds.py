"""Which models of transformers are text encoders; every other kind is refused before its weights are read."""

from __future__ import annotations

import inspect
from typing import Any

from aerogel.errors import ExportError

__all__ = ["check_kind"]

# What models read besides, or instead of, text.
_OTHER_INPUTS = (
    "pixel_values", "pixel_values_videos", "pixel_values_images", "image", "visual_feats", "visual_embeds",
    "input_features", "input_values", "audio_values",
)  # fmt: skip
# What a model carries from one generated token to the next.
_STATES = ("past_key_values", "cache_params", "mems", "state")


def check_kind(config: Any, kind: Any) -> None:
    """Refuse a class that is not a text encoder with inputs ``[batch, sequence]``.

    Args:
        config: a configuration of transformers.
        kind: the class of transformers that it names.

    Raises:
        ExportError: names the class, what it is, and what can be exported.
    """
    if what := _what(config, kind):
        raise ExportError(f"{kind.__name__} {what}")


def _what(config: Any, kind: Any) -> str | None:
    """What keeps a class from being exported; None for text encoders."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES

    parameters = inspect.signature(kind.forward).parameters
    main = str(kind.main_input_name)
    only = "only text encoders can be exported"
    if "input_ids" not in parameters or (main != "input_ids" and main in parameters):
        taken = main if main in parameters else next(iter(list(parameters)[1:]), "nothing")
        return f"takes {taken} where a text encoder takes input_ids; {only}"
    if "decoder_input_ids" in parameters:
        return f"is an encoder-decoder, which generates text; {only}"
    if other := next((name for name in _OTHER_INPUTS if name in parameters), None):
        return f"is a multimodal model: it takes {other} besides input_ids; {only}"
    if _decodes(config, kind):
        return f"is a decoder, a model of the next token; {only}"
    if kind.__name__ in MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES.values():
        return (
            "takes inputs [batch, choices, sequence] where exported models take [batch, sequence]; train a sequence "
            "classifier with one label, and score each choice in a row of its own"
        )
    if "attention_mask" not in parameters:
        return "takes no attention_mask, so that padding would change its outputs; such models cannot be exported"
    return None


def _decodes(config: Any, kind: Any) -> bool:
    """Whether each token sees only those before it."""
    from transformers import MODEL_MAPPING
    from transformers.models.auto import modeling_auto

    said = getattr(config, "is_decoder", None)
    if said:
        return True
    bidirectional = (
        getattr(config, "is_causal", None) is False
        or getattr(config, "use_bidirectional_attention", None) in (True, "all")
        or getattr(config, "attn_type", None) == "bi"
    )
    if bidirectional:
        return False
    # A head's forward often takes past_key_values only to hand them on, so the plain model decides.
    plain = MODEL_MAPPING.get(type(config), kind)
    taken = inspect.signature((plain[0] if isinstance(plain, tuple) else plain).forward).parameters
    if "decoder_input_ids" in taken:
        return False  # the encoder alone of an encoder-decoder
    masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    generates = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # The encoders that can be made decoders say which they are, and read a second sequence when they are.
    if masked or (said is False and "encoder_hidden_states" in taken):
        return False
    return generates or any(name in taken for name in _STATES)
