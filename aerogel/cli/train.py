"""`aerogel train`: fine-tune an encoder on a task, pruning it on the way."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from aerogel.cli._arguments import Pairs, block
from aerogel.cli._recipe import add_config, config_of

# Difference of densities that is told.
_NEAR = 0.005

HELP = "fine-tune a model on a task and prune it while it learns"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `TrainConfig`."""
    from aerogel.train.config import TrainConfig

    defaults: dict[str, Any] = {field.name: field.default for field in fields(TrainConfig)}

    def add(flag: str, meaning: str, **options: Any) -> None:
        default = defaults[flag[2:].replace("-", "_")]
        if default is not None and default is not MISSING and "action" not in options:
            shown = "x".join(map(str, default)) if isinstance(default, tuple) else default
            meaning += f" (default: {shown})"
        # Only what is given counts: a recipe stands between the defaults and the flags.
        parser.add_argument(flag, help=meaning, default=argparse.SUPPRESS, **options)

    add_config(parser)

    add("--task", "name of the task, such as sst2 or synthetic", metavar="NAME")
    add("--out", "checkpoint directory to write", type=Path, metavar="CKPT")
    add("--method", "name of the pruning method; dense prunes nothing", metavar="NAME")
    parser.add_argument(
        "--option",
        dest="options",
        action=Pairs,
        default={},
        metavar="NAME=VALUE",
        help="an option of the method, such as lambda=100; may be given several times",
    )
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
    add("--density", "fraction of weights kept at the end", type=float, metavar="D")
    add("--block", "rows x columns kept or dropped together", type=block, metavar="RxC")
    add("--scope", "rank weights per matrix or all together", choices=("local", "global"))
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
    add("--seed", "seed of everything random", type=int, metavar="S")
    add("--batch", "rows per step, of all processes together", type=int, metavar="N")
    add("--accumulate", "parts in which a process computes its rows, to save memory", type=int, metavar="N")
    add("--precision", "of forward and backward pass", choices=("fp32", "bf16", "fp16"))
    add("--gradient-checkpointing", "compute activations twice, to save memory", action="store_true")
    add("--compile", "have torch.compile make forward and backward pass", action="store_true")
    add("--max-length", "tokens per row; longer ones are cut", type=int, metavar="N")
    add("--lr", "peak learning rate of the weights", type=float, metavar="X")
    add(
        "--score-lr",
        "peak learning rate of learnt scores (default: the method's own)",
        type=float,
        metavar="X",
    )
    add("--warmup", "learning-rate warm-up: fraction of all steps, or steps", type=float, metavar="X")
    add("--initial-warmup", "warm-ups before pruning begins", type=float, metavar="IW")
    add("--final-warmup", "warm-ups at the final density", type=float, metavar="FW")
    add("--clip", "bound on the gradients' norm", type=float, metavar="X")
    add("--train-rows", "train on so many rows, drawn with the seed", type=int, metavar="N")
    add("--eval-rows", "evaluate on so many rows of each split", type=int, metavar="N")
    add(
        "--freeze-embeddings",
        "leave embeddings as they are (default: when pruning a given model)",
        action=argparse.BooleanOptionalAction,
    )
    add("--save-every", "steps between saves of the resumable state", type=int, metavar="STEPS")
    add("--eval-every", "steps between evaluations; one at the end is always made", type=int, metavar="STEPS")
    add("--restart", "begin anew instead of resuming a killed run", action="store_true")
    add("--threads", "CPU threads", type=int, metavar="N")
    add("--device", "where to train", choices=("auto", "cpu", "cuda"))
    add("--log", "JSON-lines log (default: beside CKPT)", type=Path, metavar="FILE")
    add("--tensorboard", "write TensorBoard's event files there too", type=Path, metavar="DIR")


def run(args: argparse.Namespace) -> None:
    """Train and print what came out."""
    from aerogel.errors import require
    from aerogel.train.config import TrainConfig

    config = config_of(TrainConfig, args)
    for module in ("torch", "transformers", "safetensors"):
        require(module, "train")
    from aerogel.train.processes import is_first
    from aerogel.train.run import train

    result = train(config)
    if is_first():
        _print(result)


def _print(result: Any) -> None:
    from rich.table import Table

    from aerogel.cli._terminal import console

    accounting = result.accounting
    table = Table(title=str(result.path), show_header=False)
    table.add_row("method", result.record.method)
    for name, value in result.record.metrics.items():
        table.add_row(name, f"{value:.4f}")
    settings = result.record.config
    for name, entry in result.record.data.items():
        if left_out := entry.get("left_out"):
            table.add_row(f"{name} rows left out as broken", str(left_out))
        if name.startswith("evaluation") and settings["eval_rows"]:
            table.add_row(f"{name} rows (--eval-rows {settings['eval_rows']})", str(entry["rows"]))
    table.add_row("pruned matrices", str(len(accounting.matrices)))
    table.add_row("density of the pruned matrices", f"{accounting.density:.4f}")
    # A penalty's outcome, or blocks too few to count by.
    if settings["density"] < 1 and abs(settings["density"] - accounting.density) > _NEAR:
        table.add_row("density asked for, and not reached", f"{settings['density']:.4f}")
    table.add_row("density of the encoder", f"{accounting.encoder_density:.4f}")
    console().print(table)
