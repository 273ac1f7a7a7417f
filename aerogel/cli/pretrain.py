"""`aerogel pretrain`: pre-train an encoder on raw text while pruning it."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.cli._recipe import config_of
from aerogel.cli._run import add_run_arguments, adder, print_result, require_training
from aerogel.system.arguments import output

HELP = "pre-train a model on raw text while pruning it; every task can use the mask"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `PretrainConfig`."""
    from aerogel.train.pretraining.config import PretrainConfig

    add = adder(parser, PretrainConfig)
    add("model and data", "--text", "text files, or directories of them", nargs="+", action=_Paths,
        metavar="FILE_OR_DIR")  # fmt: skip
    add(
        "model and data", "--model", "directory or hub id of the model to start from", metavar="DIR_OR_HUB_ID"
    )
    add("model and data", "--from-scratch",
        "initialize all weights; use only the configuration and tokenizer of --model",
        action="store_true")  # fmt: skip
    add("model and data", "--nsp", "predict next sentences as well as masked tokens (default: yes)",
        action=argparse.BooleanOptionalAction)  # fmt: skip
    add("model and data", "--eval-fraction", "fraction of the documents to evaluate on and not to train on",
        type=float, metavar="X")  # fmt: skip
    add("model and data", "--eval-rows", "maximum rows of an evaluation", type=int, metavar="N")
    add("model and data", "--shuffle", "documents in the shuffle buffer, in memory", type=int, metavar="N")
    add("schedule", "--steps", "number of optimizer steps", type=int, metavar="N")
    add("optimizer", "--freeze-embeddings", "do not train the embeddings (default: trained)",
        action=argparse.BooleanOptionalAction)  # fmt: skip
    add("output", "--out", "checkpoint directory to write", type=output, metavar="CKPT")
    add_run_arguments(parser, add)


def run(args: argparse.Namespace) -> None:
    """Pre-train and print the metrics and densities."""
    from aerogel.train.pretraining.config import PretrainConfig

    config = config_of(PretrainConfig, args)
    require_training()
    from aerogel.train.pretraining.run import pretrain

    print_result(pretrain(config))


class _Paths(argparse.Action):
    """Collects paths in a tuple. Repeated flags add to it; the recipe's paths are then ignored."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        del parser, option
        assert isinstance(values, list)
        setattr(namespace, self.dest, (*(getattr(namespace, self.dest, None) or ()), *map(Path, values)))
