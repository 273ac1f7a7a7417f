"""The export from end to end: a model in, a verified artifact out, or nothing.

    read -> plan -> rewrite -> fuse -> write -> verify -> put in place

Each stage takes what the stage before it gave, and the part of the configuration that it needs. The stages up to
"write" are in `aerogel.export.prepare`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.head import head_of
from aerogel.export.manifest import manifest
from aerogel.export.parity import Runner
from aerogel.export.prepare import Checked, Prepared, Progress, check, prepare, read
from aerogel.export.serving import TOKENIZER_FILE, padding_of, serving_tokenizer
from aerogel.export.sizes import part_sizes
from aerogel.export.source import Subject
from aerogel.export.target import Target
from aerogel.export.task_eval import TaskEval, load_task_eval
from aerogel.export.verification_samples import read_texts
from aerogel.system.atomic_io import claimed, staging

if TYPE_CHECKING:
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["Progress", "export"]


def export(config: ExportConfig, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Export a model, verify the artifact, and only then put it in place.

    Args:
        config: what to do.
        progress: called with (stage, steps done, steps in all).

    Returns:
        The manifest, as written beside the artifact.

    Raises:
        AerogelError: the message says what is wrong; nothing has been written.
    """
    checked = check(config)
    with claimed(Path(os.path.realpath(config.out)), "--out"):
        return _export(checked, progress)


def _export(checked: Checked, progress: Progress) -> dict[str, Any]:
    config, subject = checked.config, read(checked)
    texts = read_texts(config.verify_text) if config.verify_text else None
    task = load_task_eval(subject, config.task_data, config.max_metric_drop) if config.verify_task else None
    prepared = prepare(config, subject, progress)
    with staging(config.out) as folder:
        artifact = folder / config.out.name
        details, runners = _write(prepared, checked.target, artifact)
        parity = _verify(prepared, checked.target, artifact, details, runners, texts, progress)
        details["task"] = _evaluate(task, prepared.reference, runners, progress)
        served = _served_tokenizer(subject, prepared.reference)
        document = manifest(prepared, artifact, details, parity, served)
        output_dir.place(artifact, document, subject.path, config.out, served)
    return document


def _write(
    prepared: Prepared, target: Target, artifact: Path
) -> tuple[dict[str, Any], Mapping[str, Runner | str]]:
    """Write the artifact; returns what the manifest says of it, and the ways to run it."""
    from aerogel.export.tied_weights import find_tied_weights

    reference, graph = prepared.reference, prepared.graph
    details = target.write(graph, artifact, inline=prepared.config.inline)
    details["sizes"] = part_sizes(graph, artifact.stat().st_size)
    runners = target.runners(artifact)
    details["shared"] = dict(find_tied_weights(graph, reference.parameters().items()))
    details["left_out"] = reference.left_out()
    details["fusions"] = {name: asdict(fused) for name, fused in prepared.fusions.items()}
    return details | head_of(prepared.subject, reference), runners


def _verify(
    prepared: Prepared,
    target: Target,
    artifact: Path,
    details: Mapping[str, Any],
    runners: Mapping[str, Runner | str],
    texts: tuple[list[str], list[str] | None] | None,
    progress: Progress,
) -> dict[str, Any]:
    """Compare the artifact with the model; returns the comparisons of each runner."""
    from aerogel.export.verify import verify

    tokens = details["inputs"][0]["shape"][1]
    per_token = {value["name"] for value in details["outputs"] if value["shape"][1:2] == [tokens]}
    return verify(
        prepared.reference, prepared.plan, prepared.tables, target, artifact, runners, texts, per_token,
        progress,
    )  # fmt: skip


def _served_tokenizer(subject: Subject, reference: ReferenceModel) -> dict[str, bytes]:
    """The tokenizer.json to put beside the artifact, by name; empty where the model has none."""
    file = subject.path / TOKENIZER_FILE
    if not file.is_file():
        return {}
    padding = padding_of(reference.tokenizer, subject.path)
    return {file.name: serving_tokenizer(file, padding, reference.max_length)}


def _evaluate(
    task: TaskEval | None, reference: ReferenceModel, runners: Mapping[str, Runner | str], progress: Progress
) -> dict[str, Any] | None:
    """Measure the artifact on its task, if that is asked for, by the last and fastest way to run it."""
    if task is None:
        return None
    name, run = [(name, run) for name, run in runners.items() if not isinstance(run, str)][-1]
    return task.hold(reference, name, run, progress)
