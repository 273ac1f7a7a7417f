"""Configuration of pruning without training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.sparse.masks import check_block
from aerogel.system.threads import check_threads

__all__ = ["PruneConfig"]


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Settings of `aerogel prune`.

    Attributes:
        model: directory or hub id of the model: of transformers, or of sentence-transformers.
        text: text files, or directories of them; any text like that which the model will see.
        out: directory to write: a checkpoint, and of a sentence-transformers model its modules as well.
        density: fraction of the encoder's weights to keep, in (0, 1].
        block: (rows, cols) kept or pruned together.
        scope: "local" keeps the same fraction of every matrix, "global" more of those that carry more of the output.
        samples: sentences of the text to use.
        max_length: tokens per sentence; longer ones are cut.
        damping: fraction of the mean second moment that is added to the diagonal of the moments.
        seed: seed of the choice of sentences.
        revision: branch, tag or commit of a hub id.
        threads: CPU threads; None for the default of torch.
    """

    model: str
    text: tuple[Path, ...]
    out: Path
    density: float
    block: tuple[int, int] = (1, 1)
    scope: str = "local"
    samples: int = 512
    max_length: int = 128
    damping: float = 0.01
    seed: int = 0
    revision: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check all values that do not depend on the model.

        Raises:
            UsageError: a value is out of range; the message names the flag.
        """
        if not 0 < self.density < 1:
            raise UsageError(f"--density {self.density:g}: must be between 0 and 1")
        if self.scope not in ("local", "global"):
            raise UsageError(f"--scope {self.scope}: must be local or global")
        if self.samples < 1:
            raise UsageError(f"--samples {self.samples}: must be at least 1")
        if self.max_length < 8:
            raise UsageError(f"--max-length {self.max_length}: must be at least 8")
        if not 0 < self.damping <= 1:
            raise UsageError(f"--damping {self.damping:g}: must be above 0 and at most 1")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed}: must be between 0 and 4294967295")
        if self.threads is not None:
            check_threads(self.threads, "--threads")
        check_block(self.block, self.block)

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on, as JSON values, for the record."""
        known = dataclasses.asdict(self)
        for name in ("out", "text"):
            del known[name]
        return known | {"block": list(self.block)}
