"""`aerogel pretrain`: go on pre-training an encoder on raw text, pruning it on the way."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.cli._recipe import config_of
from aerogel.cli._run import add_run_arguments, adder, print_result, require_training
from aerogel.system.arguments import output

HELP = "pre-train a model on raw text and find a mask that every task can use"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `PretrainConfig`."""
    from aerogel.train.pretraining.config import PretrainConfig

    add = adder(parser, PretrainConfig)
    add(
        "--text",
        "files of text, and directories of them",
        nargs="+",
        action=_Paths,
        metavar="FILE_OR_DIR",
    )
    add("--model", "directory or hub id to start from", metavar="DIR_OR_HUB_ID")
    add("--out", "checkpoint directory to write", type=output, metavar="CKPT")
    add("--steps", "optimizer steps", type=int, metavar="N")
    add(
        "--nsp",
        "predict next sentences beside masked tokens (default)",
        action=argparse.BooleanOptionalAction,
    )
    add("--from-scratch", "take configuration and tokenizer only, no weights", action="store_true")
    add("--eval-fraction", "fraction of the documents to evaluate on", type=float, metavar="X")
    add("--eval-rows", "rows of an evaluation", type=int, metavar="N")
    add("--shuffle", "documents that are shuffled together, in memory", type=int, metavar="N")
    add(
        "--freeze-embeddings",
        "leave embeddings as they are (default: they are trained)",
        action=argparse.BooleanOptionalAction,
    )
    add_run_arguments(parser, add)


def run(args: argparse.Namespace) -> None:
    """Pre-train and print what came out."""
    from aerogel.train.pretraining.config import PretrainConfig

    config = config_of(PretrainConfig, args)
    require_training()
    from aerogel.train.pretraining.run import pretrain

    print_result(pretrain(config))


class _Paths(argparse.Action):
    """A tuple of paths. Every flag adds to the ones before; the recipe's paths then do not count."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        del parser, option
        assert isinstance(values, list)
        setattr(namespace, self.dest, (*(getattr(namespace, self.dest, None) or ()), *map(Path, values)))
