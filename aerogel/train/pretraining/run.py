"""Pre-training on raw text: masked tokens, and next sentences where the model has a head for them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch

from aerogel.checkpoint import Checkpoint
from aerogel.data.corpus.encode import TextEncoder
from aerogel.data.corpus.stream import Corpus
from aerogel.train.loss import TaskLoss
from aerogel.train.model import load_language_model
from aerogel.train.pretraining.config import PretrainConfig
from aerogel.train.pretraining.rows import TextRows, held_out_batches
from aerogel.train.pretraining.setup import MaskedLoss, measure_language
from aerogel.train.run import run
from aerogel.train.setup import TrainingJob

__all__ = ["Pretraining", "pretrain"]


class Pretraining:
    """The regime of `aerogel pretrain`."""

    task = None

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.corpus = Corpus(config.text, config.eval_fraction, config.shuffle, config.seed)

    def load_data(self) -> dict[str, Any]:
        """Number, bytes and SHA-256 of the text files. Nothing is kept of them."""
        return {"text": self.corpus.identity()}

    def job(self, device: torch.device) -> TrainingJob:
        """The model with its pre-training heads; rows as a stream."""
        del device
        config = self.config
        model, tokenizer, drawn = load_language_model(
            config.model,
            pairs=config.nsp,
            from_scratch=config.from_scratch,
            max_length=config.max_length,
            seed=config.seed,
        )
        unused = copy.deepcopy(tokenizer)
        encoder = TextEncoder(tokenizer, config.max_length, pairs=config.nsp)
        held_out = held_out_batches(self.corpus, encoder, config.eval_rows, config.batch)
        measure = partial(measure_language, model, held_out)
        # The last batch has the longest rows.
        rehearse = partial(measure_language, model, held_out[-1:])
        rows = TextRows(self.corpus, encoder)
        # What torch.compile makes has no room for a choice of tokens that differs from step to step.
        objective = TaskLoss() if config.compile else MaskedLoss(model)
        return TrainingJob(
            model, unused, rows, config.steps, measure, rehearse, objective, notes={"drawn": drawn}
        )


def pretrain(config: PretrainConfig) -> Checkpoint:
    """Pre-train, prune, evaluate on held-out text and write the checkpoint ``config.out``: see `run`."""
    return run(config, Pretraining(config))
