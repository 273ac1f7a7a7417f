"""Generate untrained checkpoints of a known architecture with random masks, at any density and block shape.

Speed and memory depend on the positions of the zeros, not on the values of the weights. These checkpoints therefore
show the cost of a pruned model before it is trained.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel import checkpoint
from aerogel.errors import require
from aerogel.hf.names import repeated
from aerogel.sparse.masks import kept_count, top_masks
from aerogel.synth import archs
from aerogel.system.seeds import check_seed
from aerogel.system.versions import versions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["generate"]


def generate(
    arch: str,
    out: Path,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
    scope: str = "local",
    seed: int = 0,
) -> checkpoint.Checkpoint:
    """Write a checkpoint of a randomly initialized sequence classifier with random masks.

    Args:
        arch: one of `aerogel.synth.archs.names()`.
        out: the checkpoint directory to write.
        density: fraction to keep of the linear layers in the encoder's repeated layers, in (0, 1].
        block: (rows, cols) that are kept or pruned together.
        scope: "local" applies `density` to each matrix, "global" to all matrices together.
        seed: seed of weights and masks, from 0 to 2**32 - 1.

    Returns:
        The new checkpoint.

    Raises:
        UsageError: `arch` is unknown, `density` or `seed` is out of range, or `block` does not divide a matrix.
        CheckpointError: `out` exists and is not a checkpoint.
        MissingExtraError: torch or transformers is not installed.
    """
    fields = archs.load(arch)
    check_seed(seed)
    kept_count(density, 1)  # checks the density before the model is built
    torch, transformers = require("torch", "train"), require("transformers", "train")
    config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    weights = {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and repeated(model, name)
    }
    random = np.random.default_rng(seed)
    scores = {name: random.random(tuple(weight.shape), np.float32) for name, weight in weights.items()}
    masks = top_masks(scores, density, block, scope)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.mul_(torch.from_numpy(masks[name]))
    record = checkpoint.Record(
        method="random",
        config={"arch": arch, "density": density},
        block=block,
        scope=scope,
        encoder_parameters=sum(p.numel() for name, p in model.named_parameters() if repeated(model, name)),
        seed=seed,
        versions={name: version for name, version in versions(("torch", "transformers")).items() if version},
    )

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        _tokenizer(config).save_pretrained(folder)

    return checkpoint.save(out, record, masks, write)


def _tokenizer(config: Any) -> PreTrainedTokenizerBase:
    """A lower-case WordPiece tokenizer whose tokens are single ASCII characters.

    Its vocabulary is a small part of the model's; [PAD] has the padding id of the model.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = string.ascii_lowercase + string.digits
    tokens = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *string.punctuation,
        *letters,
        *(f"##{c}" for c in letters),
    ]
    tokens.insert(config.pad_token_id, "[PAD]")
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    segment = int(getattr(config, "type_vocab_size", 0) > 1)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{segment} [SEP]:{segment}",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    # Positions of RoBERTa start at padding_idx + 1, so its table has two more rows than its longest sequence.
    offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=config.max_position_embeddings - offset,
        model_input_names=["input_ids", *["token_type_ids"] * segment, "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
