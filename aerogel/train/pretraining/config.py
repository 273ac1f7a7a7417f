"""The full configuration of pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.train.config import RunConfig

__all__ = ["PretrainConfig"]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Everything that decides the outcome of `aerogel pretrain`.

    Attributes:
        text: files of text, and directories of them.
        model: directory or hub id of the model to start from.
        steps: optimizer steps.
        nsp: predict next sentences beside masked tokens.
        from_scratch: draw all weights from the seed; the model gives its configuration and tokenizer only.
        eval_fraction: fraction of the documents that are evaluated on and not trained on, in (0, 1).
        eval_rows: rows that an evaluation is made on, if the held-out documents have so many.
        shuffle: documents that are shuffled together; so many are in memory.
        freeze_embeddings: leave embeddings as they are.
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
        self._demand_counts("steps", "eval_rows")
        if self.shuffle < 2:
            raise UsageError(f"--shuffle {self.shuffle}: must be at least 2, the documents of a pair")
        if not 0 < self.eval_fraction < 1:
            raise UsageError(f"--eval-fraction {self.eval_fraction:g}: must be a fraction between 0 and 1")
        self._check_text()

    def _check_text(self) -> None:
        """All files below a folder of text are read, so nothing may be written there."""
        written = {"--out": self.out, "--log": self.log, "--tensorboard": self.tensorboard}
        for folder in (path.resolve() for path in self.text if path.is_dir()):
            for flag, place in written.items():
                if place is not None and place.resolve().is_relative_to(folder):
                    raise UsageError(
                        f"{flag} {place}: must be outside of --text {folder}, whose files are all read"
                    )

    def inputs(self) -> dict[str, Path]:
        """See `RunConfig`."""
        return super().inputs() | {f"--text {path}": path for path in self.text}

    def settings(self) -> dict[str, Any]:
        """See `RunConfig`."""
        return super().settings() | {"text": [str(path) for path in self.text]}
