"""The arguments that `train` and `pretrain` share, and the table that both print at the end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from aerogel.cli._recipe import add_config
from aerogel.errors import require
from aerogel.registry import plugin_names
from aerogel.system.arguments import Pairs, block, output

if TYPE_CHECKING:
    from aerogel.train.config import RunConfig

__all__ = ["Add", "add_run_arguments", "adder", "print_result", "require_training"]

Add = Callable[..., None]
"""Declares an argument: group, flag, help, then options of `argparse.ArgumentParser.add_argument`."""

# A final density that is farther than this from the target is printed next to it.
_DENSITY_TOLERANCE = 0.005
# Headings of --help, in their order.
_GROUPS = {
    "model and data": None,
    "pruning": None,
    "schedule": "Lengths of the phases of a run. Warm-ups are multiples of --warmup.",
    "optimizer": None,
    "distillation": "Train the model to reproduce the outputs of a dense teacher.",
    "precision and speed": None,
    "output": None,
    "resuming": "A run that was killed resumes from its last saved state when the same command is run again.",
}


def adder(parser: argparse.ArgumentParser, config: type[RunConfig]) -> Add:
    """A function that declares an argument of `parser` in a group of `_GROUPS`.

    Its help ends with the default of the field of `config` that has the flag's name. A required argument may be set in
    the --config file instead.
    """
    defaults: dict[str, Any] = {field.name: field.default for field in fields(config)}
    groups = {name: parser.add_argument_group(name, about) for name, about in _GROUPS.items()}

    def add(group: str, flag: str, meaning: str, **options: Any) -> None:
        if "dest" in options:  # a table, whose entries are merged with those of the recipe
            groups[group].add_argument(flag, help=meaning, **options)
            return
        default = defaults[flag[2:].replace("-", "_")]
        if default is MISSING:
            meaning += " (required)"
        elif default is not None and "action" not in options:
            shown = "x".join(map(str, default)) if isinstance(default, tuple) else default
            meaning += f" (default: {shown})"
        # Only arguments that are given are set, so that the recipe comes between flags and defaults.
        groups[group].add_argument(flag, help=meaning, default=argparse.SUPPRESS, **options)

    return add


def add_run_arguments(parser: argparse.ArgumentParser, add: Add) -> None:
    """Declare --config and the arguments of `RunConfig`, except --out, --model and --freeze-embeddings."""
    methods = ", ".join(plugin_names("aerogel.train.methods"))
    add_config(parser)
    add(
        "model and data", "--max-length", "maximum tokens per row; longer rows are cut", type=int, metavar="N"
    )
    add(
        "model and data",
        "--seed",
        "random seed of initial weights, row order and dropout",
        type=int,
        metavar="N",
    )
    add("pruning", "--method", f"pruning method: {methods}; dense prunes nothing", metavar="NAME")
    add("pruning", "--option", "option of the method, such as lambda=100; repeatable",
        dest="options", action=Pairs, default={}, metavar="NAME=VALUE")  # fmt: skip
    add(
        "pruning",
        "--density",
        "fraction of weights to keep at the end, above 0 and at most 1",
        type=float,
        metavar="D",
    )
    add("pruning", "--block", "rows x columns that are kept or pruned together", type=block, metavar="RxC")
    add("pruning", "--scope", "apply the density to each matrix, or to all matrices together",
        choices=("local", "global"))  # fmt: skip
    add("pruning", "--freeze-mask", "keep the mask of the checkpoint given as --model", action="store_true")
    add("schedule", "--warmup", "learning-rate warm-up: a fraction of all steps if below 1, else a number of steps",
        type=float, metavar="X")  # fmt: skip
    add("schedule", "--initial-warmup", "warm-ups before pruning starts", type=float, metavar="X")
    add("schedule", "--final-warmup", "warm-ups at the final density", type=float, metavar="X")
    add("optimizer", "--batch", "rows per optimizer step, summed over all processes", type=int, metavar="N")
    add("optimizer", "--accumulate",
        "micro-batches per optimizer step, summed over all processes (default: one per process)",
        type=int, metavar="N")  # fmt: skip
    add("optimizer", "--lr", "peak learning rate of the weights", type=float, metavar="X")
    add("optimizer", "--score-lr", "peak learning rate of learned scores (default: the method's own)",
        type=float, metavar="X")  # fmt: skip
    add("optimizer", "--clip", "maximum norm of all gradients together", type=float, metavar="X")
    add("precision and speed", "--precision", "number format of the forward and backward pass",
        choices=("fp32", "bf16", "fp16"))  # fmt: skip
    add("precision and speed", "--gradient-checkpointing",
        "recompute activations in the backward pass, which saves memory", action="store_true")  # fmt: skip
    add("precision and speed", "--compile", "compile the forward and backward pass with torch.compile",
        action="store_true")  # fmt: skip
    add(
        "precision and speed",
        "--threads",
        "number of CPU threads (default: chosen by PyTorch)",
        type=int,
        metavar="N",
    )
    add("precision and speed", "--device", "device to train on", choices=("auto", "cpu", "cuda"))
    add("output", "--save-scores", "save the learned scores to scores.safetensors", action="store_true")
    add("output", "--eval-every", "steps between evaluations (default: one evaluation, at the end)",
        type=int, metavar="N")  # fmt: skip
    add("output", "--log", "JSON-lines log (default: CKPT.log.jsonl)", type=output, metavar="FILE")
    add("output", "--tensorboard", "folder for TensorBoard event files", type=output, metavar="DIR")
    add("resuming", "--save-every", "steps between saves of the resumable state", type=int, metavar="N")
    add("resuming", "--restart", "start from the beginning even if a saved state exists", action="store_true")


def require_training() -> None:
    """Check that the packages of the extra `train` are installed.

    Raises:
        MissingExtraError: a package is missing.
    """
    for module in ("torch", "transformers", "safetensors"):
        require(module, "train")


def print_result(result: Any) -> None:
    """Print metrics and densities of a checkpoint as a table; of several processes, only the first prints."""
    from aerogel.train.processes import is_first

    if not is_first():
        return
    from rich.table import Table

    from aerogel.system.terminal import console

    accounting = result.accounting
    table = Table(title=str(result.path), show_header=False)
    table.add_row("method", result.record.method)
    for name, value in result.record.metrics.items():
        table.add_row(name, f"{value:.4f}")
    settings = result.record.config
    for name, entry in result.record.data.items():
        if skipped := entry.get("skipped"):
            table.add_row(f"malformed {name} rows skipped", str(skipped))
        if name.startswith("evaluation") and settings["eval_rows"]:
            table.add_row(f"{name} rows (--eval-rows {settings['eval_rows']})", str(entry["rows"]))
    if reinitialized := settings.get("reinitialized"):
        table.add_row("randomly initialized", ", ".join(reinitialized))
    table.add_row("pruned matrices", str(len(accounting.matrices)))
    table.add_row("density of the pruned matrices", f"{accounting.density:.4f}")
    # Penalties only approach a density, and a few large blocks cannot meet every density.
    if settings["density"] < 1 and abs(settings["density"] - accounting.density) > _DENSITY_TOLERANCE:
        table.add_row("target density, missed", f"{settings['density']:.4f}")
    table.add_row("density of the encoder", f"{accounting.encoder_density:.4f}")
    console().print(table)
