"""The models that are measured, made by the command line."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Checkpoint", "Export", "make"]


@dataclass(frozen=True)
class Checkpoint:
    """A random masked checkpoint: its shape, blocks as ROWSxCOLS, percent of weights kept."""

    arch: str
    block: str
    percent: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.arch}-{self.block}-{self.percent:02d}"

    @property
    def label(self) -> str:
        """What tables call it: 90% unstructured."""
        return f"{100 - self.percent}% {'unstructured' if self.block == '1x1' else self.block}"

    def command(self, folder: Path) -> list[str]:
        """Arguments of `aerogel` that make it."""
        return [
            "synth", "--arch", self.arch, "--density", str(self.percent / 100), "--block", self.block,
            "--out", str(folder / self.name),
        ]  # fmt: skip


@dataclass(frozen=True)
class Export:
    """A file made from a checkpoint: storage format, type of the matrices' and of the embeddings' values."""

    checkpoint: Checkpoint
    format: str
    weights: str = "fp32"
    embeddings: str = "fp32"

    def path(self, out: Path) -> Path:
        """Where it lies under `out`."""
        kind = f"{self.format}-{self.weights}-{self.embeddings}"
        return out / f"{self.checkpoint.name}-{kind}" / f"{self.checkpoint.name}-{kind}.onnx"

    def command(self, folder: Path, out: Path) -> list[str]:
        """Arguments of `aerogel` that make it of a checkpoint in `folder`, whatever its density."""
        words = ["export", str(folder / self.checkpoint.name), "--format", self.format, "--max-density", "1"]
        for flag, value in (("--weights", self.weights), ("--embeddings", self.embeddings)):
            if value != "fp32":
                words += [flag, value]
        return [*words, "--out", str(self.path(out))]


def make(exports: Iterable[Export], out: Path, say: Callable[[str], None]) -> dict[Export, str]:
    """Make those of `exports` that are not there yet.

    A checkpoint is deleted once its exports are made: it is as large as a dense model.

    Args:
        exports: what is wanted.
        out: folder of all models.
        say: called with each command line before it runs.

    Returns:
        The exports that could not be made, with what the command said.
    """
    wanted: dict[Checkpoint, list[Export]] = {}
    for export in dict.fromkeys(exports):
        if not export.path(out).exists():
            wanted.setdefault(export.checkpoint, []).append(export)
    failed: dict[Export, str] = {}
    for checkpoint, missing in wanted.items():
        reason = _run(checkpoint.command(out), say)
        for export in missing:
            failure = reason or _run(export.command(out, out), say)
            if failure:
                failed[export] = failure
        shutil.rmtree(out / checkpoint.name, ignore_errors=True)
    return failed


def _run(words: list[str], say: Callable[[str], None]) -> str | None:
    """Run `aerogel`; None, or the last line of its complaint."""
    say(f"$ aerogel {shlex.join(words)}")
    done = subprocess.run(
        [sys.executable, "-m", "aerogel", *words], check=False, capture_output=True, encoding="utf-8"
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"aerogel {words[0]} ended with status {done.returncode}"
