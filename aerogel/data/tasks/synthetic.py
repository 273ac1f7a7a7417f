"""A generated task that needs no download: is a statement in an invented language favourable?

Half of the language's charged words are good, half are bad. A negator turns the next charged word into its opposite,
fillers in between do not matter, and a contrast word cancels all that came before it. A statement is favourable if more
of what counts is good than bad. Every charged word is negated as often as not, so the words alone tell nothing: the
answer lies in their order, which the encoder layers, not the embeddings, have to work out.
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
_LONGEST = 128


class Synthetic(SequenceTask):
    """The generated task.

    Attributes:
        rows: rows of the training split and of the evaluation split.
    """

    labels = ("unfavourable", "favourable")
    rows = (20_000, 2_000)

    @staticmethod
    def metrics(predictions: Any, labels: Any) -> dict[str, float]:
        """Accuracy."""
        return accuracy(predictions, labels)

    def load(self, data: Path | None) -> TaskData:
        """Generate both splits. They are the same for every run, whatever its seed."""
        if data is not None:
            raise UsageError(f"{data}: the synthetic task makes its own data; give no directory of files")
        train, evaluation = (_split(rows, seed) for seed, rows in enumerate(self.rows))
        return TaskData(train, {"": evaluation})

    def fresh_model(self, seed: int) -> tuple[Any, Any]:
        """A small BERT with random weights and a tokenizer of whole words."""
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=_LONGEST,
            # The data never runs out, so there is nothing to overfit, and learning is twice as fast without.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(self.labels)),
            label2id={label: index for index, label in enumerate(self.labels)},
        )
        return BertForSequenceClassification(config), tokenizer


def favourable(words: list[str]) -> bool:
    """The rule that labels follow."""
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
    """One or two clauses, each with one or three charged words: odd, so that no clause is undecided."""
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
        model_max_length=_LONGEST,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


TASK = Synthetic()
