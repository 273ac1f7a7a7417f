"""The export from end to end: a model in, a verified artifact out, or nothing.

    read -> plan -> rewrite -> fuse -> write -> verify -> put in place

Each stage takes what the stage before it gave, and the part of the configuration that it needs. The stages up to
"write" are in `aerogel.export.prepare`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.export.config import ExportConfig
from aerogel.export.head import head_of
from aerogel.export.layout import Placement
from aerogel.export.manifest import manifest
from aerogel.export.parity import Runner
from aerogel.export.prepare import Checked, Prepared, Progress, check, prepare, read
from aerogel.export.serving import TOKENIZER_FILE, padding_of, serving_tokenizer
from aerogel.export.sizes import part_sizes
from aerogel.export.source import Subject
from aerogel.export.state import StateTarget, export_state
from aerogel.export.target import GraphTarget
from aerogel.export.task_eval import TaskEval, load_task_eval
from aerogel.export.verification_samples import read_texts
from aerogel.system.atomic_io import claimed, sha256, staging

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
    config, layout, target = checked.config, checked.layout, checked.target
    subject = read(checked)
    companions = layout.companions(checked.path, subject.path)
    if isinstance(target, StateTarget):
        return export_state(config, target, layout, subject, companions)
    assert isinstance(target, GraphTarget)
    from aerogel.export.samples import stored_samples
    from aerogel.export.verify import verify

    texts = read_texts(config.verify_text) if config.verify_text else None
    task = load_task_eval(subject, config.task_data, config.max_metric_drop) if config.verify_task else None
    prepared = prepare(checked, subject, progress)
    reference = prepared.reference
    with staging(config.out) as folder:
        artifact = folder / layout.model_path(config).name
        details, runners = _write(prepared, target, artifact)
        tokens = details["inputs"][0]["shape"][1]
        per_token = {value["name"] for value in details["outputs"] if value["shape"][1:2] == [tokens]}
        parity = verify(
            reference, prepared.plan, prepared.tables, target, artifact, runners, texts, per_token, progress
        )
        details["samples"] = stored_samples(reference, runners, parity, per_token)
        details["task"] = _evaluate(task, reference, runners, progress)
        served = _served_tokenizer(subject, reference) if layout.serving_tokenizer else {}
        hashes = {
            name: hashlib.sha256(served[name]).hexdigest() if name in served else sha256(file)
            for name, file in companions.items()
        }
        document = manifest(
            config, subject, prepared.plan, prepared.tables, artifact, details, parity, reference.max_length,
            prepared.prediction, hashes,
        )  # fmt: skip
        layout.place(Placement(artifact, document, companions, served), config)
    return document


def _write(
    prepared: Prepared, target: GraphTarget, artifact: Path
) -> tuple[dict[str, Any], Mapping[str, Runner | str]]:
    """Write the artifact; returns what the manifest says of it, and the ways to run it."""
    from aerogel.export.tied_weights import find_tied_weights

    reference, graph = prepared.reference, prepared.graph
    details = target.write(graph, artifact, inline=prepared.config.inline)
    details["sizes"] = part_sizes(graph, artifact.stat().st_size)
    runners = target.runners(artifact)
    details["shared"] = dict(find_tied_weights(graph, reference.parameters().items()))
    details["left_out"] = reference.left_out()
    details["removed"] = asdict(prepared.removed) if prepared.removed else None
    details["fusions"] = {name: asdict(fused) for name, fused in prepared.fusions.items()}
    return details | head_of(prepared.subject, reference), runners


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
