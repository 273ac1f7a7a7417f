"""`aerogel train`: fine-tune an encoder on a task while pruning it."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.cli._recipe import config_of
from aerogel.cli._run import add_run_arguments, adder, print_result, require_training
from aerogel.registry import plugin_names
from aerogel.system.arguments import Pairs, output

HELP = "fine-tune a model on a task while pruning it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `TrainConfig`."""
    from aerogel.train.config import TrainConfig

    tasks = ", ".join(plugin_names("aerogel.data.tasks"))
    add = adder(parser, TrainConfig)
    add("model and data", "--task", f"task: {tasks}", metavar="NAME")
    add("model and data", "--task-option", "option of the task, such as stride=96; repeatable",
        dest="task_options", action=Pairs, default={}, metavar="NAME=VALUE")  # fmt: skip
    add(
        "model and data", "--model", "directory or hub id of the model to start from", metavar="DIR_OR_HUB_ID"
    )
    add("model and data", "--data", "directory of the task's files (default: download from the hub)",
        type=Path, metavar="DIR")  # fmt: skip
    add("model and data", "--train-rows", "train on a random sample of N rows", type=int, metavar="N")
    add("model and data", "--eval-rows", "evaluate on N rows of each split", type=int, metavar="N")
    add("schedule", "--epochs", "passes over the training rows", type=int, metavar="N")
    add("schedule", "--final-epochs", "extra epochs with the mask fixed and a fresh learning-rate schedule",
        type=int, metavar="N")  # fmt: skip
    add("optimizer", "--freeze-embeddings",
        "do not train the embeddings (default: frozen when a given model is pruned)",
        action=argparse.BooleanOptionalAction)  # fmt: skip
    add("distillation", "--teacher", "dense model of the same task", metavar="DIR_OR_HUB_ID")
    add("distillation", "--temperature", "divides the logits of student and teacher", type=float, metavar="X")
    add(
        "distillation",
        "--kd-weight",
        "weight of the distance to the teacher's outputs",
        type=float,
        metavar="X",
    )
    add(
        "distillation",
        "--ce-weight",
        "weight of the task's own loss when there is a teacher",
        type=float,
        metavar="X",
    )
    add("distillation", "--hidden-weight", "weight of the distance to the teacher's hidden states",
        type=float, metavar="X")  # fmt: skip
    add("output", "--out", "checkpoint directory to write", type=output, metavar="CKPT")
    add_run_arguments(parser, add)


def run(args: argparse.Namespace) -> None:
    """Train and print the metrics and densities."""
    from aerogel.train.config import TrainConfig

    config = config_of(TrainConfig, args)
    require_training()
    from aerogel.train.run import train

    print_result(train(config))
