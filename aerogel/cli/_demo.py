"""The demo: train a dense model, prune it with movement pruning, export both, verify and measure them.

This is the only module that imports both training and the stages after it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel import runtime
from aerogel.bench.harness import bench
from aerogel.bench.result import STOCK, Report, Run, Settings
from aerogel.bench.schema import document, encode
from aerogel.bench.setup import Progress
from aerogel.errors import require
from aerogel.system.atomic_io import atomic_file, check_output

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint

__all__ = ["DemoConfig", "Result", "Row", "demo"]

_TASK = "synthetic"


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demo. The defaults fit two cores and four minutes.

    Attributes:
        hidden: width of the encoder; heads have 64 features, the feed-forward is four times as wide.
        layers: number of encoder layers.
        epochs: passes over the training rows for the dense model.
        pruning_epochs: passes while the model is pruned.
        train_rows: number of training rows; None uses all.
        density: fraction of the encoder's matrices that movement pruning keeps.
        seq: tokens per sequence in the measurement.
        rounds: rounds of the measurement.
        seed: random seed.
    """

    hidden: int = 192
    layers: int = 3
    epochs: int = 4
    pruning_epochs: int = 2
    train_rows: int | None = None
    density: float = 0.1
    seq: int = 128
    rounds: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """Measurements of one exported model.

    Attributes:
        model: "dense" or the pruning method.
        accuracy: on the evaluation split, computed by the backend of `run`.
        density: kept fraction of the encoder's matrices.
        run: latency, memory and file size.
    """

    model: str
    accuracy: float
    density: float
    run: Run


@dataclass(frozen=True)
class Result:
    """Results of the demo: the dense model's row, then the pruned model's. `report` is the whole measurement."""

    rows: list[Row]
    report: Report


def demo(
    out: Path,
    config: DemoConfig,
    announce: Callable[[str], None] = lambda _: None,
    progress: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(lambda *_: None),
) -> Result:
    """Run the demo and write checkpoints, ONNX files, demo.json and demo.png to `out`.

    Args:
        out: output folder.
        config: sizes.
        announce: called with a line of text when a stage begins.
        progress: returns a context whose function is called with a stage, the steps done and the number of steps.
            Training reports its own steps.

    Raises:
        MissingExtraError: an optional dependency is missing.
        CheckpointError: a folder in `out` would be replaced by a checkpoint, but is not a checkpoint.
        OutputError: `out` cannot be written.
        ParityError: the outputs of an exported model differ from PyTorch's.
    """
    for module, extra in (("transformers", "train"), ("onnxscript", "export"), ("matplotlib", "bench")):
        require(module, extra)
    _check(out)
    announce("training a small BERT on the synthetic task")
    with tempfile.TemporaryDirectory(prefix="aerogel-demo-") as folder:
        dense = _train(out, config, "dense", _fresh_model(Path(folder), config))
    announce(f"movement pruning to a density of {config.density:.0%}")
    pruned = _train(out, config, "movement", dense.path)
    announce("exporting both and verifying them against PyTorch")
    files = [_export(dense, "dense", out), _export(pruned, "csr", out)]
    announce("measuring both")
    with progress() as step:
        settings = Settings(seq=config.seq, rounds=config.rounds, seed=config.seed)
        report = bench(files, settings, progress=step)
    rows = []
    for file, model in zip(files, (dense, pruned), strict=True):
        # The last run of a file is on Aerogel's kernels where they apply, else on stock ONNX Runtime.
        run = [run for run in report.runs if run.model == file][-1]
        rows.append(Row(model.record.method, _accuracy(file, run), model.accounting.density, run))
    result = Result(rows, report)
    with atomic_file(out / "demo.json") as temporary:
        temporary.write_text(json.dumps(_document(result), indent=2) + "\n", encoding="utf-8")
    _plot(result, out / "demo.png")
    return result


def _check(out: Path) -> None:
    """Check that every output can be written, before anything is trained."""
    from aerogel.checkpoint import check_target

    for method in ("dense", "movement"):
        check_target(out / method)
    for name in ("demo.json", "demo.png", "onnx/dense/dense.onnx", "onnx/csr/movement.onnx"):
        check_output(out / name)


def _fresh_model(folder: Path, config: DemoConfig) -> Path:
    """The task's small BERT, made wide enough for its matrices to gain from sparsity."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from aerogel.data.tasks import TASKS

    model, tokenizer = TASKS.get(_TASK).fresh_model(config.seed)
    wider = BertConfig.from_dict(
        model.config.to_dict()
        | {
            "hidden_size": config.hidden,
            "num_hidden_layers": config.layers,
            "num_attention_heads": max(1, config.hidden // 64),
            "intermediate_size": 4 * config.hidden,
            "max_position_embeddings": max(config.seq, model.config.max_position_embeddings),
        }
    )
    torch.manual_seed(config.seed)
    BertForSequenceClassification(wider).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train(out: Path, config: DemoConfig, method: str, model: Path) -> Checkpoint:
    from aerogel.train.config import TrainConfig
    from aerogel.train.run import train

    dense = method == "dense"
    return train(
        TrainConfig(
            task=_TASK,
            out=out / method,
            method=method,
            model=str(model),
            density=1.0 if dense else config.density,
            epochs=config.epochs if dense else config.pruning_epochs,
            train_rows=config.train_rows,
            seed=config.seed,
            batch=64,
            max_length=40,
            lr=3e-4,
            freeze_embeddings=not dense,
            restart=True,
            progress="lines",
        )
    )


def _export(model: Checkpoint, storage: str, out: Path) -> Path:
    from aerogel.export.config import ExportConfig
    from aerogel.export.run import export

    file = out / "onnx" / storage / f"{model.record.method}.onnx"
    export(ExportConfig(source=model.path, out=file, format=storage))
    return file


def _accuracy(file: Path, run: Run) -> float:
    """Accuracy of an exported file on the evaluation split, computed without PyTorch."""
    from tokenizers import Tokenizer

    from aerogel.data.tasks import TASKS

    split = TASKS.get(_TASK).load(None).evaluation[""]
    tokenizer = Tokenizer.from_file(str(file.with_name("tokenizer.json")))
    tokenizer.enable_padding()
    session = runtime.session(file, library=run.backend != STOCK)
    wanted = [item.name for item in session.get_inputs()]
    right = 0
    for start in range(0, len(split), 100):
        encoded = tokenizer.encode_batch([text for (text,) in split.texts[start : start + 100]])
        feeds = {
            "input_ids": np.array([row.ids for row in encoded]),
            "attention_mask": np.array([row.attention_mask for row in encoded]),
            "token_type_ids": np.array([row.type_ids for row in encoded]),
        }
        (logits,) = session.run(["logits"], {name: feeds[name] for name in wanted})
        right += int(np.count_nonzero(logits.argmax(1) == split.labels[start : start + 100]))
    return right / len(split)


def _document(result: Result) -> dict[str, Any]:
    models = [
        {
            "model": row.model,
            "accuracy": row.accuracy,
            "density": row.density,
            "backend": row.run.backend,
            "file_bytes": row.run.size,
            "resident_bytes": row.run.memory["after_runs"],
            "latency_ms": row.run.latency.median,
            "speedup": row.run.speedup.median if row.run.speedup else None,
        }
        for row in result.rows
    ]
    return {"models": models, "bench": document([encode(result.report)])}


def _plot(result: Result, path: Path) -> None:
    """Draw a panel for each quantity, with a bar for each model."""
    panels: list[tuple[str, str, list[float]]] = [
        ("accuracy, %", "%.1f", [100 * row.accuracy for row in result.rows]),
        ("latency, ms", "%.2f", [row.run.latency.median for row in result.rows]),
        ("file, MB", "%.1f", [row.run.size / 1e6 for row in result.rows]),
        ("resident memory, MB", "%.0f", [row.run.memory["after_runs"] / 1e6 for row in result.rows]),
    ]
    figure = require("matplotlib.figure", "bench").Figure(figsize=(10, 3), layout="constrained")
    names = [f"{row.model}\n{row.density:.0%} of weights" for row in result.rows]
    for axes, (title, label, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.bar_label(axes.bar(names, values, color=["#0072B2", "#E69F00"], width=0.6), fmt=label)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 1.15 * max(values))
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    settings = result.report.settings
    figure.suptitle(
        f"synthetic task; batch {settings.batch}, sequence {settings.seq}, {settings.threads} thread",
        fontsize=11,
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
