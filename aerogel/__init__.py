"""Fast sparse and int8 inference for BERT-class encoders on CPUs: prune, export, run.

    load(path)                   an exported model: texts in, answers out (`Model`)
    session(path)                an exported model as an ONNX Runtime session, for your own inputs
    session_options(threads)     the ONNX Runtime options that `session` uses
    library_path()               the native library, to register in another language
    prune_model(config)          prune without training, from raw text (`PruneConfig`)
    train_model(config)          fine-tune and prune; writes a checkpoint (`TrainConfig`)
    pretrain_model(config)       prune while pre-training on raw text (`PretrainConfig`)
    load_checkpoint(path)        a verified checkpoint: masks, densities, metrics (`Checkpoint`)
    export_model(config)         turn a checkpoint, a transformers or sentence-transformers directory, or an .onnx
                                 file into a verified ONNX file (`ExportConfig`)
    benchmark(models, settings)  latency and memory against ONNX Runtime (settings: `aerogel.bench.result.Settings`)

Run an exported model:

    import aerogel

    model = aerogel.load("served/model.onnx")
    labels = model.classify(["a fine film", "two hours that I want back"])

Prune a model on a task:

    from pathlib import Path

    config = aerogel.TrainConfig(task="sst2", out=Path("ckpt"), model="google-bert/bert-base-uncased",
                                 method="movement", density=0.1)
    checkpoint = aerogel.train_model(config)
    print(checkpoint.accounting.density, checkpoint.record.metrics)

Export it, then run it with ONNX Runtime:

    aerogel.export_model(aerogel.ExportConfig(source=Path("ckpt"), out=Path("served/model.onnx")))
    session = aerogel.session("served/model.onnx", threads=1)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})

Errors raised on purpose are subclasses of `AerogelError`; `aerogel.errors` lists them. `train_model` needs the extra
`train`, `export_model` needs `export`. Importing this package loads neither numpy, torch nor onnxruntime: each name
is imported when it is first used. The command line has the same functions: `aerogel --help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerogel.errors import (
    AerogelError,
    ArtifactError,
    CheckpointError,
    DataError,
    ExportError,
    FormatError,
    HeadError,
    MissingExtraError,
    OutputError,
    ParityError,
    RuntimeLoadError,
    TrainingError,
    UsageError,
)

if TYPE_CHECKING:
    from aerogel.bench.harness import bench as benchmark
    from aerogel.checkpoint import Checkpoint
    from aerogel.checkpoint import load as load_checkpoint
    from aerogel.export.config import ExportConfig
    from aerogel.export.run import export as export_model
    from aerogel.kernels.cpu.library import library_path
    from aerogel.model import Model, load
    from aerogel.prune.config import PruneConfig
    from aerogel.prune.run import prune as prune_model
    from aerogel.runtime import session, session_options
    from aerogel.train.config import TrainConfig
    from aerogel.train.pretraining.config import PretrainConfig
    from aerogel.train.pretraining.run import pretrain as pretrain_model
    from aerogel.train.run import train as train_model

__all__ = [
    "AerogelError",
    "ArtifactError",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "ExportConfig",
    "ExportError",
    "FormatError",
    "HeadError",
    "MissingExtraError",
    "Model",
    "OutputError",
    "ParityError",
    "PretrainConfig",
    "PruneConfig",
    "RuntimeLoadError",
    "TrainConfig",
    "TrainingError",
    "UsageError",
    "__version__",
    "benchmark",
    "export_model",
    "library_path",
    "load",
    "load_checkpoint",
    "pretrain_model",
    "prune_model",
    "session",
    "session_options",
    "train_model",
]

__version__ = "0.1.0"

# Module and name of each public object that is imported on first use; the imports above tell type checkers the same.
_LAZY = {
    "Checkpoint": ("aerogel.checkpoint", "Checkpoint"),
    "ExportConfig": ("aerogel.export.config", "ExportConfig"),
    "Model": ("aerogel.model", "Model"),
    "PretrainConfig": ("aerogel.train.pretraining.config", "PretrainConfig"),
    "PruneConfig": ("aerogel.prune.config", "PruneConfig"),
    "TrainConfig": ("aerogel.train.config", "TrainConfig"),
    "benchmark": ("aerogel.bench.harness", "bench"),
    "export_model": ("aerogel.export.run", "export"),
    "library_path": ("aerogel.kernels.cpu.library", "library_path"),
    "load": ("aerogel.model", "load"),
    "load_checkpoint": ("aerogel.checkpoint", "load"),
    "pretrain_model": ("aerogel.train.pretraining.run", "pretrain"),
    "prune_model": ("aerogel.prune.run", "prune"),
    "session": ("aerogel.runtime", "session"),
    "session_options": ("aerogel.runtime", "session_options"),
    "train_model": ("aerogel.train.run", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
