"""`aerogel train`: fine-tune an encoder on a task, pruning it on the way."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.cli._recipe import config_of
from aerogel.cli._run import add_run_arguments, adder, print_result, require_training
from aerogel.system.arguments import Pairs, output

HELP = "fine-tune a model on a task and prune it while it learns"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `TrainConfig`."""
    from aerogel.train.config import TrainConfig

    add = adder(parser, TrainConfig)
    add("--task", "name of the task, such as sst2 or synthetic", metavar="NAME")
    add("--out", "checkpoint directory to write", type=output, metavar="CKPT")
    add("--model", "directory or hub id to start from", metavar="DIR_OR_HUB_ID")
    add("--data", "directory of the task's files; without it, the hub", type=Path, metavar="DIR")
    parser.add_argument(
        "--task-option",
        dest="task_options",
        action=Pairs,
        default={},
        metavar="NAME=VALUE",
        help="an option of the task, such as stride=96; may be given several times",
    )
    add("--epochs", "passes over the training rows", type=int, metavar="N")
    add(
        "--final-epochs",
        "further passes that fine-tune what is left, masks fixed, learning rates anew",
        type=int,
        metavar="N",
    )
    add("--teacher", "dense model of the same task to learn from", metavar="DIR_OR_HUB_ID")
    add("--temperature", "T that logits of student and teacher are divided by", type=float, metavar="T")
    add("--kd-weight", "weight of the distance to the teacher's outputs", type=float, metavar="X")
    add("--ce-weight", "weight of the task's own loss, with a teacher", type=float, metavar="X")
    add("--hidden-weight", "weight of the distance to the teacher's hidden states", type=float, metavar="X")
    add("--train-rows", "train on so many rows, drawn with the seed", type=int, metavar="N")
    add("--eval-rows", "evaluate on so many rows of each split", type=int, metavar="N")
    add(
        "--freeze-embeddings",
        "leave embeddings as they are (default: when pruning a given model)",
        action=argparse.BooleanOptionalAction,
    )
    add_run_arguments(parser, add)


def run(args: argparse.Namespace) -> None:
    """Train and print what came out."""
    from aerogel.train.config import TrainConfig

    config = config_of(TrainConfig, args)
    require_training()
    from aerogel.train.run import train

    print_result(train(config))
