"""The arguments that `train` and `pretrain` share, and what both print when they are done."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from aerogel.cli._recipe import add_config
from aerogel.errors import require
from aerogel.system.arguments import Pairs, block, output

if TYPE_CHECKING:
    from aerogel.train.config import RunConfig

__all__ = ["Add", "add_run_arguments", "adder", "print_result", "require_training"]

Add = Callable[..., None]

# Difference of densities that is told.
_NEAR = 0.005


def adder(parser: argparse.ArgumentParser, config: type[RunConfig]) -> Add:
    """A function of flag, meaning and options that declares an argument with the default of the field of its name."""
    defaults: dict[str, Any] = {field.name: field.default for field in fields(config)}

    def add(flag: str, meaning: str, **options: Any) -> None:
        default = defaults[flag[2:].replace("-", "_")]
        if default is not None and default is not MISSING and "action" not in options:
            shown = "x".join(map(str, default)) if isinstance(default, tuple) else default
            meaning += f" (default: {shown})"
        # Only what is given counts: a recipe stands between the defaults and the flags.
        parser.add_argument(flag, help=meaning, default=argparse.SUPPRESS, **options)

    return add


def add_run_arguments(parser: argparse.ArgumentParser, add: Add) -> None:
    """Declare the arguments of `RunConfig`, but for --out, --model and --freeze-embeddings; and --config."""
    add_config(parser)
    add("--method", "name of the pruning method; dense prunes nothing", metavar="NAME")
    parser.add_argument(
        "--option",
        dest="options",
        action=Pairs,
        default={},
        metavar="NAME=VALUE",
        help="an option of the method, such as lambda=100; may be given several times",
    )
    add("--freeze-mask", "keep the mask of the checkpoint given as --model, exactly", action="store_true")
    add("--density", "fraction of weights kept at the end", type=float, metavar="D")
    add("--block", "rows x columns kept or dropped together", type=block, metavar="RxC")
    add("--scope", "rank weights per matrix or all together", choices=("local", "global"))
    add("--seed", "seed of everything random", type=int, metavar="S")
    add("--batch", "rows per step, of all processes together", type=int, metavar="N")
    add(
        "--accumulate",
        "parts that the rows of a step are computed in, of all processes together (default: one a process)",
        type=int,
        metavar="N",
    )
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
    add("--save-scores", "put the learnt scores beside the masks that they made", action="store_true")
    add("--save-every", "steps between saves of the resumable state", type=int, metavar="STEPS")
    add("--eval-every", "steps between evaluations; one at the end is always made", type=int, metavar="STEPS")
    add("--restart", "begin anew instead of resuming a killed run", action="store_true")
    add("--threads", "CPU threads", type=int, metavar="N")
    add("--device", "where to train", choices=("auto", "cpu", "cuda"))
    add("--log", "JSON-lines log (default: beside CKPT)", type=output, metavar="FILE")
    add("--tensorboard", "write TensorBoard's event files there too", type=output, metavar="DIR")


def require_training() -> None:
    """Demand what training imports.

    Raises:
        MissingExtraError: something is not installed.
    """
    for module in ("torch", "transformers", "safetensors"):
        require(module, "train")


def print_result(result: Any) -> None:
    """One table of what came out; from the first of several processes only."""
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
        if left_out := entry.get("left_out"):
            table.add_row(f"{name} rows left out as broken", str(left_out))
        if name.startswith("evaluation") and settings["eval_rows"]:
            table.add_row(f"{name} rows (--eval-rows {settings['eval_rows']})", str(entry["rows"]))
    if drawn := settings.get("drawn"):
        table.add_row("parts drawn at random", ", ".join(drawn))
    table.add_row("pruned matrices", str(len(accounting.matrices)))
    table.add_row("density of the pruned matrices", f"{accounting.density:.4f}")
    # A penalty's outcome, or blocks too few to count by.
    if settings["density"] < 1 and abs(settings["density"] - accounting.density) > _NEAR:
        table.add_row("density asked for, and not reached", f"{settings['density']:.4f}")
    table.add_row("density of the encoder", f"{accounting.encoder_density:.4f}")
    console().print(table)
