"""Make the models to measure, with the command line of Aerogel."""

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
    """A random masked checkpoint: architecture, block as ROWSxCOLS, percent of weights kept."""

    arch: str
    block: str
    percent: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.arch}-{self.block}-{self.percent:02d}"

    @property
    def label(self) -> str:
        """Label in tables, such as "90% unstructured"."""
        return f"{100 - self.percent}% {'unstructured' if self.block == '1x1' else self.block}"

    def command(self, folder: Path) -> list[str]:
        """Return the `aerogel` arguments that make it in `folder`."""
        return [
            "synth", "--arch", self.arch, "--density", str(self.percent / 100), "--block", self.block,
            "--out", str(folder / self.name),
        ]  # fmt: skip


@dataclass(frozen=True)
class Export:
    """An export of a checkpoint: storage format, and value types of the matrices and the embeddings."""

    checkpoint: Checkpoint
    format: str
    weights: str = "fp32"
    embeddings: str = "fp32"

    def path(self, out: Path) -> Path:
        """Return the path of the file under `out`."""
        suffix = f"{self.format}-{self.weights}-{self.embeddings}"
        return out / f"{self.checkpoint.name}-{suffix}" / f"{self.checkpoint.name}-{suffix}.onnx"

    def command(self, folder: Path, out: Path) -> list[str]:
        """Return the `aerogel` arguments that export the checkpoint in `folder`, sparse at any density."""
        words = ["export", str(folder / self.checkpoint.name), "--format", self.format, "--max-density", "1"]
        for flag, value in (("--weights", self.weights), ("--embeddings", self.embeddings)):
            if value != "fp32":
                words += [flag, value]
        return [*words, "--out", str(self.path(out))]


def make(exports: Iterable[Export], out: Path, report: Callable[[str], None]) -> dict[Export, str]:
    """Make the exports that do not exist yet.

    A checkpoint is as large as a dense model, so it is deleted after its exports are made.

    Args:
        exports: exports to make.
        out: folder of all models.
        report: called with each command line before it runs.

    Returns:
        The exports that failed, with the error message of the command.
    """
    wanted: dict[Checkpoint, list[Export]] = {}
    for export in dict.fromkeys(exports):
        if not export.path(out).exists():
            wanted.setdefault(export.checkpoint, []).append(export)
    failed: dict[Export, str] = {}
    for checkpoint, missing in wanted.items():
        reason = _run(checkpoint.command(out), report)
        for export in missing:
            failure = reason or _run(export.command(out, out), report)
            if failure:
                failed[export] = failure
        shutil.rmtree(out / checkpoint.name, ignore_errors=True)
    return failed


def _run(words: list[str], report: Callable[[str], None]) -> str | None:
    """Run `aerogel`; return None, or the last line of its error output."""
    report(f"$ aerogel {shlex.join(words)}")
    done = subprocess.run(
        [sys.executable, "-m", "aerogel", *words], check=False, capture_output=True, encoding="utf-8"
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"aerogel {words[0]} ended with status {done.returncode}"
