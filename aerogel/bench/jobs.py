"""What is measured: pairs of a model and a candidate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerogel.bench.backend import Backend
from aerogel.bench.model import OnnxFile, scan
from aerogel.bench.result import STOCK, Skipped
from aerogel.errors import UsageError
from aerogel.registry import Registry

__all__ = ["Job", "labels", "plan", "scan_all"]


@dataclass(frozen=True)
class Job:
    """One row of a measurement.

    Attributes:
        model: what is run.
        candidate: what runs it.
        label: what the model is called in tables.
        reference: model whose outputs on stock ONNX Runtime are right.
    """

    model: OnnxFile
    candidate: str
    label: str
    reference: OnnxFile


def scan_all(paths: Sequence[Path]) -> list[OnnxFile]:
    """Scan each file once, however often it is named.

    Raises:
        UsageError: there is none.
        RuntimeLoadError: one is not an ONNX file.
    """
    if not paths:
        raise UsageError("no model is given; name at least one .onnx file")
    return [scan(path) for path in {path.resolve(): path for path in reversed(paths)}.values()][::-1]


def plan(
    files: Sequence[OnnxFile], candidates: Registry[Backend], rivals: Collection[str] = ()
) -> tuple[list[Job], list[Skipped]]:
    """Every candidate on every model, stock first on each, and what there is nothing to measure of.

    Args:
        files: models; each is its own reference.
        candidates: registry of candidates.
        rivals: names of the rivals to measure too.

    Raises:
        UsageError: one of `rivals` is not a known candidate.
    """
    for name in rivals:
        candidates.get(name)
    names = [name for name in candidates.names() if name in rivals or not candidates.get(name).rival]
    pairs, skipped = [], []
    called = labels([file.path for file in files])
    for file in files:
        for name in sorted(names, key=lambda name: name != STOCK):
            reason = candidates.get(name).refuse(file)
            if reason is None:
                pairs.append(Job(file, name, called[file.path], file))
            else:
                skipped.append(Skipped(file.path, name, reason))
    return pairs, skipped


def labels(paths: Sequence[Path]) -> dict[Path, str]:
    """A short name for each model: its file's name, after as many folders as tell the files apart.

    Args:
        paths: of different files. A symbolic link goes by its own name, not by that of its target.
    """
    parts = {path: (path.parent.resolve() / path.name).parts for path in paths}
    length = 1
    while len({names[-length:] for names in parts.values()}) < len(parts):
        length += 1
    return {path: "/".join(names[-length:]) for path, names in parts.items()}
