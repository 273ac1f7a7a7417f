"""Pre-training on raw text: prediction of masked tokens and, optionally, of next sentences."""

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
from aerogel.train.pretraining.setup import MaskedLoss, evaluate_language
from aerogel.train.run import run
from aerogel.train.setup import TrainingJob

__all__ = ["Pretraining", "pretrain"]


class Pretraining:
    """The `TrainingSetup` of `aerogel pretrain`."""

    task = None

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.corpus = Corpus(config.text, config.eval_fraction, config.shuffle, config.seed)

    def load_data(self) -> dict[str, Any]:
        """Number, bytes and SHA-256 of the text files, which are streamed later."""
        return {"text": self.corpus.fingerprint()}

    def job(self, device: torch.device) -> TrainingJob:
        """Load the model with its pre-training heads; open the stream of rows."""
        del device
        config = self.config
        model, tokenizer, reinitialized = load_language_model(
            config.model,
            pairs=config.nsp,
            from_scratch=config.from_scratch,
            max_length=config.max_length,
            seed=config.seed,
        )
        saved_tokenizer = copy.deepcopy(tokenizer)
        encoder = TextEncoder(tokenizer, config.max_length, pairs=config.nsp)
        held_out = held_out_batches(self.corpus, encoder, config.eval_rows, config.batch)
        evaluate = partial(evaluate_language, model, held_out)
        # The last batch has the longest rows.
        rehearse = partial(evaluate_language, model, held_out[-1:])
        rows = TextRows(self.corpus, encoder)
        # torch.compile cannot trace the selection of tokens, which differs from step to step.
        objective = TaskLoss() if config.compile else MaskedLoss(model)
        notes = {"reinitialized": reinitialized}
        return TrainingJob(
            model, saved_tokenizer, rows, config.steps, evaluate, rehearse, objective, notes=notes
        )


def pretrain(config: PretrainConfig) -> Checkpoint:
    """Pre-train, prune, evaluate on held-out text and write the checkpoint ``config.out``: see `run`."""
    return run(config, Pretraining(config))
