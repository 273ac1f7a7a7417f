"""Checkpoints of tiny random models: every class of transformers with one of the six heads, in the smallest sizes."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers.models.auto import modeling_auto

from aerogel import checkpoint
from aerogel.hf.names import repeated
from aerogel.sparse.masks import top_masks

__all__ = ["HEADS", "classes", "save_config", "save_model"]

HEADS = {
    "plain": "MODEL_MAPPING_NAMES",
    "sequence": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "question": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "masked LM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "choice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
}
"""The heads, and which table of transformers names their classes by model type."""

DENSITY = 0.2

_LENGTH = 80
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Sizes under the names that most configurations use; a name that a class does not read changes nothing.
_SIZES: dict[str, Any] = {
    "hidden_size": 32, "d_model": 32, "dim": 32, "emb_dim": 32, "embedding_size": 32, "hidden_dim": 64,
    "num_hidden_layers": 2, "n_layers": 2, "num_layers": 2,
    "num_attention_heads": 2, "n_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 64, "d_inner": 64, "pad_token_id": 0, "pad_index": 0, "bos_token_id": 2, "eos_token_id": 3,
    "cls_token_id": 2, "sep_token_id": 3, "max_position_embeddings": _LENGTH,
}  # fmt: skip
# What a type needs besides, in its own spelling; None leaves a field of _SIZES out.
_FIELDS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "convbert": {"embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 1},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 8,
    },
    "electra": {"embedding_size": 16},
    "funnel": {"num_hidden_layers": None, "num_layers": None, "block_sizes": [1, 1], "n_head": 2, "d_head": 16},
    "layoutlmv2": {"has_visual_segment_embedding": False},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32, "patch_size": 16},
    "longformer": {"attention_window": 8, "max_position_embeddings": _LENGTH + 1},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "lilt": {"hidden_size": 48, "intermediate_size": 96, "channel_shrink_ratio": 2},
    "mobilebert": {
        "embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "reformer": {
        "axial_pos_embds": False, "attn_layers": ["local", "lsh"], "attention_head_size": 16, "num_buckets": 2,
        "hash_seed": 0, "feed_forward_size": 64, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roc_bert": {
        "pronunciation_vocab_size": 20, "shape_vocab_size": 20, "pronunciation_embed_dim": 16, "shape_embed_dim": 16,
    },
    "xlnet": {"max_position_embeddings": None, "n_layer": 2, "n_head": 2},
    "xmod": {"languages": ["en"], "default_language": "en", "ln_before_adapter": False},
}  # fmt: skip


def classes(head: str) -> dict[str, str]:
    """Names of the classes with a head, by model type."""
    table = getattr(modeling_auto, HEADS[head])
    return {kind: name if isinstance(name, str) else name[0] for kind, name in table.items()}


def save_config(path: Path, kind: str, head: str) -> None:
    """Write the files that name a class: a checkpoint directory without weights."""
    config = transformers.AutoConfig.for_model(kind)
    config.architectures = [classes(head)[kind]]
    config.save_pretrained(path)
    _tokenizer(segments=True).save_pretrained(path)


def save_model(path: Path, kind: str, head: str) -> None:
    """Write a masked checkpoint of a tiny random model. The same arguments give the same weights."""
    name = classes(head)[kind]
    config = transformers.AutoConfig.for_model(kind)
    segments = bool(getattr(config, "type_vocab_size", 0))
    tokenizer = _tokenizer(segments)
    fields = {"vocab_size": len(tokenizer), **_SIZES, **_FIELDS.get(kind, {})}
    config = transformers.AutoConfig.for_model(kind, **{k: v for k, v in fields.items() if v is not None})
    model: Any = getattr(transformers, name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model(config)
        for key, parameter in model.named_parameters():
            _fill(key, parameter)
    weights = {
        f"{key}.weight": module.weight
        for key, module in model.named_modules()
        if type(module) is torch.nn.Linear and repeated(model, key)
    }
    # Some classes store their weights under other names than their modules have; masks go by the stored ones.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", "np") as file:
            stored = set(file.keys())
    weights = {key: weight for key, weight in weights.items() if key in stored}
    random = np.random.default_rng(0)
    masks = top_masks({key: random.random(tuple(w.shape), np.float32) for key, w in weights.items()}, DENSITY)
    with torch.no_grad():
        for key, mask in masks.items():
            weights[key].mul_(torch.from_numpy(mask))
    record = checkpoint.Record(
        method="random", config={"density": DENSITY}, block=(1, 1), scope="local", seed=0,
        encoder_parameters=sum(p.numel() for key, p in model.named_parameters() if repeated(model, key)),
    )  # fmt: skip

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    checkpoint.save(path, record, masks, write)


def _fill(name: str, parameter: torch.Tensor) -> None:
    """Random values that show faults: the usual ones give outputs near zero, and biases of zero."""
    if not parameter.is_floating_point():
        return
    if parameter.ndim == 1:
        scale = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(scale), std=0.1)
    elif parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)


def _tokenizer(segments: bool) -> transformers.PreTrainedTokenizerBase:
    """A WordPiece tokenizer that spells ASCII text; `segments` makes it give token_type_ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = string.ascii_lowercase + string.digits
    tokens = [*_SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if segments else "[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", *["token_type_ids"] * segments, "attention_mask"],
    )  # fmt: skip
