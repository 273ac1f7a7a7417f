"""What to export, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aerogel.export.plan import AUTO, FP32
from aerogel.export.task_eval import ALLOWED_DROP

__all__ = ["ExportConfig"]


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and how.

    Attributes:
        source: what to export: a checkpoint, a directory of transformers or sentence-transformers, an .onnx file, or a
            hub id.
        out: the artifact to write: a file, or with the layout "hub" and the target "triton-server" a folder.
        target: kind of artifact.
        layout: where its files go; None for the target's default.
        push: repository of the Hugging Face hub to upload the layout "hub" to.
        public: make the repository public if it is new.
        model_repository: of target "triton-server": folder of the model repository on the server.
        format: storage of the pruned matrices; "auto" for the fastest of each matrix, "dense" for none,
            "compact" for none of what remains without wholly pruned heads and neurons.
        weights: type of the pruned matrices' values.
        embeddings: type of the embedding tables' values.
        block: (rows, cols) of stored blocks; the checkpoint's own if None.
        max_density: stored fraction above which a matrix stays dense; the function's break-even if None.
        inline: put the functions' bodies in place of their calls.
        fuse: make one node of an encoder that a fusion recognises.
        token_embeddings: of a sentence-transformers model, export the token states as well.
        force: overwrite files that are not of an earlier export.
        verify_text: compare outputs over every line of this file as well.
        verify_task: measure the artifact on the checkpoint's task.
        task_data: directory of that task's files; None as in training.
        revision: branch, tag or commit of a hub id.
        max_metric_drop: points that the artifact may be worse on it.
    """

    source: Path | str
    out: Path
    target: str = "onnx"
    layout: str | None = None
    push: str | None = None
    public: bool = False
    model_repository: str = "/models"
    format: str = AUTO
    weights: str = FP32
    embeddings: str = FP32
    block: tuple[int, int] | None = None
    max_density: float | None = None
    inline: bool = False
    fuse: bool = True
    token_embeddings: bool = False
    force: bool = False
    verify_text: Path | None = None
    verify_task: bool = False
    task_data: Path | None = None
    revision: str | None = None
    max_metric_drop: float = ALLOWED_DROP
