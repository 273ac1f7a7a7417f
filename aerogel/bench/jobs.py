"""Jobs of a benchmark: one model on one backend each."""

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
    """One row of a benchmark.

    Attributes:
        model: file to run.
        backend: name of the backend that runs it.
        label: the model's name in tables.
        reference: model whose outputs on stock ONNX Runtime are the expected ones.
    """

    model: OnnxFile
    backend: str
    label: str
    reference: OnnxFile


def scan_all(paths: Sequence[Path]) -> list[OnnxFile]:
    """Scan each file once, even if it is named more than once.

    Raises:
        UsageError: `paths` is empty.
        RuntimeLoadError: a file is not an ONNX file.
    """
    if not paths:
        raise UsageError("no model is given; name at least one .onnx file")
    return [scan(path) for path in {path.resolve(): path for path in reversed(paths)}.values()][::-1]


def plan(
    files: Sequence[OnnxFile], registry: Registry[Backend], third_party: Collection[str] = ()
) -> tuple[list[Job], list[Skipped]]:
    """Combine every model with every backend, stock ONNX Runtime first for each model.

    Args:
        files: models; each is its own reference.
        registry: all backends.
        third_party: names of third-party backends to include.

    Returns:
        The jobs, and the combinations that a backend refuses.

    Raises:
        UsageError: a name of `third_party` is unknown.
    """
    for name in third_party:
        registry.get(name)
    names = [name for name in registry.names() if name in third_party or not registry.get(name).third_party]
    jobs, skipped = [], []
    label = labels([file.path for file in files])
    for file in files:
        for name in sorted(names, key=lambda name: name != STOCK):
            reason = registry.get(name).refuse(file)
            if reason is None:
                jobs.append(Job(file, name, label[file.path], file))
            else:
                skipped.append(Skipped(file.path, name, reason))
    return jobs, skipped


def labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a short label for each model: its file name, with as many parent folders as make the labels unique.

    Args:
        paths: distinct files. A symbolic link is labelled by its own name, not by that of its target.
    """
    parts = {path: (path.parent.resolve() / path.name).parts for path in paths}
    length = 1
    while len({names[-length:] for names in parts.values()}) < len(parts):
        length += 1
    return {path: "/".join(names[-length:]) for path, names in parts.items()}
