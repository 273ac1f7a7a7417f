"""Configuration of pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.train.config import RunConfig

__all__ = ["PretrainConfig"]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Settings of `aerogel pretrain`.

    Attributes:
        text: text files and directories of text files.
        model: directory or hub id of the model to start from.
        steps: optimizer steps.
        nsp: also predict next sentences, not only masked tokens.
        from_scratch: initialize all weights from the seed; only configuration and tokenizer of `model` are used.
        eval_fraction: fraction of the documents used for evaluation only, in (0, 1).
        eval_rows: maximum number of rows of an evaluation.
        shuffle: number of documents in the shuffle buffer, which is in memory.
        freeze_embeddings: do not train the embeddings.
    """

    text: tuple[Path, ...]
    model: str
    steps: int
    nsp: bool = True
    from_scratch: bool = False
    eval_fraction: float = 0.01
    eval_rows: int = 1000
    shuffle: int = 2000
    lr: float = 1e-4
    freeze_embeddings: bool = False

    def __post_init__(self) -> None:
        """See `RunConfig`."""
        super().__post_init__()
        self._check_counts("steps", "eval_rows")
        if self.shuffle < 2:
            raise UsageError(
                f"--shuffle {self.shuffle}: must be at least 2, because a pair needs two documents"
            )
        if not 0 < self.eval_fraction < 1:
            raise UsageError(f"--eval-fraction {self.eval_fraction:g}: must be between 0 and 1")
        self._check_text()

    def _check_text(self) -> None:
        """Check that no output is inside a text folder, where all files are read as text."""
        outputs = {"--out": self.out, "--log": self.log, "--tensorboard": self.tensorboard}
        for folder in (path.resolve() for path in self.text if path.is_dir()):
            for flag, path in outputs.items():
                if path is not None and path.resolve().is_relative_to(folder):
                    raise UsageError(
                        f"{flag} {path}: must be outside --text {folder}, whose files are all read"
                    )

    def inputs(self) -> dict[str, Path]:
        """See `RunConfig`."""
        return super().inputs() | {f"text {path}": path for path in self.text}

    def settings(self) -> dict[str, Any]:
        """See `RunConfig`."""
        return super().settings() | {"text": [str(path) for path in self.text]}
