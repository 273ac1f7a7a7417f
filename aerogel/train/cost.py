"""Time of a training step of each pruning method, relative to dense: ``python -m aerogel.train.cost``.

Each method trains its own model; the models have equal sizes and random weights. The methods take turns, step by step,
during the schedule's descent, where every step computes new masks. The last step of the descent, which is an event of
obert, is timed separately. Embeddings are frozen for all methods, dense included, as in `aerogel train` with pruning.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from aerogel.errors import AerogelError, UsageError
from aerogel.hf.encoder import embedding_parameters, prunable
from aerogel.system.atomic_io import atomic_file
from aerogel.system.printable import one_line
from aerogel.system.versions import versions
from aerogel.train.config import TrainConfig
from aerogel.train.loop import Loop
from aerogel.train.loss import TaskLoss
from aerogel.train.method import SparsityConfig
from aerogel.train.methods import METHODS
from aerogel.train.processes import Processes
from aerogel.train.schedule import Cubic

__all__ = ["main", "measure"]

_DENSE = "dense"
# Steps of the simulated run, which is timed from its middle, and steps of its warm-up.
_TOTAL, _WARMUP = 4000, 400
_VOCABULARY = 30_522


def measure(
    methods: Sequence[str], config: TrainConfig, sizes: dict[str, Any], steps: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Time `steps` steps of each method, and the step that ends the descent.

    Args:
        methods: names of methods.
        config: batch, length, density, block, precision and device of the runs.
        sizes: encoder sizes, as fields of transformers' BertConfig.
        steps: timed steps per method; two untimed steps come first.

    Returns:
        Seconds of each step, by method; and seconds of the step that ends the descent, by method.
    """
    with Processes(config.device) as processes:
        loops = {name: _loop(name, config, sizes, processes) for name in methods}
        batch = _batch(config)
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for round_ in range(steps + 2):
            for name, loop in loops.items():
                elapsed = _time_step(loop, batch, processes)
                if round_ > 1:
                    seconds[name].append(elapsed)
        last = {}
        for name, loop in loops.items():
            loop.step = loop.context().finish
            last[name] = _time_step(loop, batch, processes)
    return seconds, last


def _time_step(loop: Loop, batch: dict[str, Tensor], processes: Processes) -> float:
    """Run one step; return its seconds."""
    _synchronize(processes.device)
    began = time.perf_counter()
    loop.train_step(batch, loop.context())
    _synchronize(processes.device)
    loop.step += 1
    return time.perf_counter() - began


def summary(seconds: dict[str, list[float]], last: dict[str, float]) -> list[dict[str, Any]]:
    """Statistics of the times that `measure` returns.

    Returns:
        Per method: median in milliseconds, median and quartiles of the ratio to the dense step of the same round,
        ratio of the means, and milliseconds of the step that ends the descent.
    """
    rows = []
    for name, values in seconds.items():
        dense = seconds[_DENSE]
        low, middle, high = np.percentile(np.divide(values, dense), (25, 50, 75))
        rows.append(
            {"method": name, "milliseconds": float(np.median(values)) * 1e3}
            | {"ratio": float(middle), "low": float(low), "high": float(high)}
            | {"mean_ratio": float(np.mean(values) / np.mean(dense)), "last_milliseconds": last[name] * 1e3}
        )
    return rows


def _loop(name: str, config: TrainConfig, sizes: dict[str, Any], processes: Processes) -> Loop:
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=_VOCABULARY, max_position_embeddings=512, **sizes)
    )
    for parameter in embedding_parameters(model):
        parameter.requires_grad_(False)
    method_class = METHODS.get(name)
    sparsity = (
        SparsityConfig(config.density, config.block, config.scope)
        if method_class.prunes
        else SparsityConfig(1.0)
    )
    method = method_class(prunable(model), sparsity)
    schedule = Cubic(1.0, sparsity.density, _TOTAL, _WARMUP, 1.0, 2.0)
    no_rows: Any = None  # the loop is called with one batch, from _batch
    loop = Loop(config, model, method, schedule, no_rows, TaskLoss(), processes, {})
    loop.step = _TOTAL // 2
    return loop


def _batch(config: TrainConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(_VOCABULARY, (config.batch, config.max_length), generator=generator)
    labels = torch.randint(2, (config.batch,), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, print the table and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.train.cost", description="time of a training step of each method"
    )
    known = [name for name in METHODS.names() if METHODS.get(name).prunes]
    parser.add_argument("--methods", default=",".join(known), metavar="NAME,...")
    parser.add_argument(
        "--steps", type=int, default=16, metavar="N", help="timed steps per method (default: 16)"
    )
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="rows per step (default: 32)")
    parser.add_argument("--length", type=int, default=128, metavar="N", help="tokens per row (default: 128)")
    parser.add_argument(
        "--hidden", type=int, default=384, metavar="N", help="hidden size (default: 384, as MiniLM)"
    )
    parser.add_argument("--layers", type=int, default=6, metavar="N", help="layers (default: 6)")
    parser.add_argument(
        "--density", type=float, default=0.1, metavar="D", help="target density (default: 0.1)"
    )
    parser.add_argument("--scope", default="local", choices=("local", "global"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times to FILE")
    args = parser.parse_args(argv)
    try:
        _report(args)
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _report(args: argparse.Namespace) -> None:
    config = TrainConfig(
        task="synthetic", out=Path("unused"), batch=args.batch, max_length=args.length, density=args.density,
        scope=args.scope, precision=args.precision, threads=args.threads, device=args.device,
        score_lr=0.1,  # scores start in the middle of the run; a lower rate could not reach any density
    )  # fmt: skip
    if args.steps < 1:
        raise UsageError(f"--steps {args.steps}: must be at least 1")
    torch.set_num_threads(args.threads)
    sizes: dict[str, Any] = {
        "hidden_size": args.hidden, "intermediate_size": 4 * args.hidden, "num_hidden_layers": args.layers,
        "num_attention_heads": max(1, args.hidden // 64),
    }  # fmt: skip
    names = [_DENSE, *(name for name in args.methods.split(",") if name != _DENSE)]
    seconds, last = measure(names, config, sizes, args.steps)
    rows = summary(seconds, last)
    if args.json:
        document = {
            "settings": {**sizes, **{k: str(v) for k, v in vars(args).items()}},
            "versions": versions(("aerogel", "torch", "transformers")),
            "seconds": seconds,
            "last": last,
            "summary": rows,
        }
        with atomic_file(args.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(
        f"{args.batch} x {args.length} tokens, {args.threads} threads, density {args.density:g} {args.scope}\n"
    )
    print(
        "| method | ms a step | of dense | quartiles | mean | ms where the descent ends |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for row in rows:
        print(
            f"| {row['method']} | {row['milliseconds']:.0f} | {row['ratio']:.2f} "
            f"| {row['low']:.2f} to {row['high']:.2f} | {row['mean_ratio']:.2f} | {row['last_milliseconds']:.0f} |"
        )


if __name__ == "__main__":
    raise SystemExit(main())
