"""A generated task that needs no download: classify the sentiment of statements in an invented language.

Half of the language's sentiment words are good, half are bad. A negator inverts the next sentiment word. Fillers have
no effect. A contrast word cancels everything before it. A statement is favourable if more good words than bad ones
count. The label depends on the order of the words, so the encoder layers have to learn it, not only the embeddings.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from aerogel.data.metrics import accuracy
from aerogel.data.sequence import SequenceTask
from aerogel.data.split import Split, TaskData
from aerogel.errors import UsageError

__all__ = ["TASK", "Synthetic", "favourable"]

_WORDS = [
    "".join(pair)
    for pair in itertools.product(("ba", "do", "ki", "lu", "me", "po", "ra", "tsi", "vu", "ze"), repeat=2)
]
GOOD, BAD, FILLERS, NEGATORS, CONTRAST = _WORDS[:24], _WORDS[24:48], _WORDS[48:80], _WORDS[80:83], _WORDS[83]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_MAX_TOKENS = 128


class Synthetic(SequenceTask):
    """The generated task.

    Attributes:
        rows: number of rows of the training split and the evaluation split.
    """

    labels = ("unfavourable", "favourable")
    rows = (20_000, 2_000)

    @staticmethod
    def metrics(predictions: Any, labels: Any) -> dict[str, float]:
        """Compute the accuracy."""
        return accuracy(predictions, labels)

    def load(self, data: Path | None) -> TaskData:
        """Generate both splits. They are the same in every run and do not depend on its seed."""
        if data is not None:
            raise UsageError(f"{data}: task synthetic generates its own data; do not give a data directory")
        train, evaluation = (_split(rows, seed) for seed, rows in enumerate(self.rows))
        return TaskData(train, {"": evaluation})

    def fresh_model(self, seed: int) -> tuple[Any, Any]:
        """Create a small BERT with random weights and a word-level tokenizer."""
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=_MAX_TOKENS,
            # Without dropout, training is twice as fast, and generated data is hard to overfit.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(self.labels)),
            label2id={label: index for index, label in enumerate(self.labels)},
        )
        return BertForSequenceClassification(config), tokenizer


def favourable(words: list[str]) -> bool:
    """Apply the labelling rule to one statement."""
    total, sign = 0, 1
    for word in words:
        if word == CONTRAST:
            total, sign = 0, 1
        elif word in NEGATORS:
            sign = -1
        elif word in GOOD or word in BAD:
            total += sign if word in GOOD else -sign
            sign = 1
    return total > 0


def _split(rows: int, seed: int) -> Split:
    draw = random.Random(seed)
    statements = [_statement(draw) for _ in range(rows)]
    texts: list[tuple[str, ...]] = [(" ".join(words),) for words in statements]
    labels = [int(favourable(words)) for words in statements]
    digest = hashlib.sha256(json.dumps([texts, labels]).encode()).hexdigest()
    return Split(texts, labels, digest, Synthetic.labels)


def _statement(draw: random.Random) -> list[str]:
    """Draw one or two clauses of one or three sentiment words each. Odd numbers avoid ties."""
    clauses = [_clause(draw) for _ in range(draw.choice((1, 2)))]
    return clauses[0] if len(clauses) == 1 else [*clauses[0], CONTRAST, *clauses[1]]


def _clause(draw: random.Random) -> list[str]:
    words = []
    for _ in range(draw.choice((1, 3))):
        words += draw.choices(FILLERS, k=draw.randint(0, 2))
        if draw.random() < 0.3:
            words += [draw.choice(NEGATORS), *draw.choices(FILLERS, k=draw.randint(0, 1))]
        words.append(draw.choice(GOOD if draw.random() < 0.5 else BAD))
    return words


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([*_SPECIAL, *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=_MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


TASK = Synthetic()
