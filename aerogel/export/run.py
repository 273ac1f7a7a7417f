"""The export from end to end: a model in, a verified artifact out, or nothing.

    read -> plan -> rewrite -> fuse -> write -> verify -> put in place

Each stage takes what the stage before it gave, and the part of the configuration that it needs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint import RECORD_FILE
from aerogel.cost import cache
from aerogel.cost.model import CostModel
from aerogel.cost.predict import WORKLOAD, unknown
from aerogel.errors import ExportError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.head import head_of
from aerogel.export.layout import Layout, Placement
from aerogel.export.manifest import manifest
from aerogel.export.output_dir import model_folder
from aerogel.export.parity import Runner
from aerogel.export.plan import DENSE, StoragePlan, default_format, make_plan
from aerogel.export.prediction import form_of, predicted
from aerogel.export.serving import TOKENIZER_FILE, padding_of, serving_tokenizer
from aerogel.export.source import Subject, find_source
from aerogel.export.state import StateTarget, export_state
from aerogel.export.target import TARGETS, GraphTarget
from aerogel.export.task_eval import TaskEval, load_task_eval
from aerogel.export.verification_samples import read_texts
from aerogel.hf.hub import local_model
from aerogel.hf.sentence_transformers import is_sentence_transformers
from aerogel.kernels.cpu.native import check_selection
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.system.atomic_io import claimed, sha256, staging

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.embeddings import Table
    from aerogel.export.fusion import Fused
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["Progress", "export"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True)
class _Graph:
    """A rewritten graph, and what was done to it."""

    model: ir.Model
    tables: Mapping[str, Table]
    fusions: Mapping[str, Fused]


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
    target = TARGETS.get(config.target)
    path = local_model(config.source, config.revision)
    source = find_source(path)
    read = {"--verify-text": config.verify_text, "--task-data": config.task_data}
    inputs = {flag: given for flag, given in read.items() if given is not None}
    layout = target.layout(config.layout)
    target.check_options(config)
    layout.check(config, target.suffix, path, inputs)
    if config.push:
        layout.check_push(config.push)
    if config.task_data and not config.verify_task:
        raise UsageError("--task-data is for --verify-task, which is not given")
    VALUE_TYPES.get(config.embeddings)
    check_selection()
    with claimed(Path(os.path.realpath(config.out)), "--out"):
        subject = source.read(path, token_embeddings=_token_embeddings(config, layout, path))
        companions = layout.companions(path, subject.path)
        if isinstance(target, StateTarget):
            config = replace(config, format=config.format or default_format(subject, config.block))
            return export_state(config, target, layout, subject, companions)
        assert isinstance(target, GraphTarget)
        return _export(config, target, layout, subject, companions, progress)


def _token_embeddings(config: ExportConfig, layout: Layout, path: Path) -> bool:
    """Whether an embedder's token states are exported as well."""
    embedder = path.suffix != ".onnx" and is_sentence_transformers(model_folder(path))
    embedder = embedder and not (path / RECORD_FILE).is_file()
    return config.token_embeddings or (layout.token_output is not None and embedder)


def _export(
    config: ExportConfig,
    target: GraphTarget,
    layout: Layout,
    subject: Subject,
    companions: Mapping[str, Path],
    progress: Progress,
) -> dict[str, Any]:
    texts = read_texts(config.verify_text) if config.verify_text else None
    task = load_task_eval(subject, config.task_data, config.max_metric_drop) if config.verify_task else None
    config = replace(config, format=config.format or default_format(subject, config.block))
    cost_model = cache.find(WORKLOAD.threads)
    plan = _plan(config, subject, None if isinstance(cost_model, str) else cost_model)

    from aerogel.export.samples import stored_samples
    from aerogel.export.tied_weights import find_tied_weights
    from aerogel.export.verify import verify

    progress("capture", 0, 1)
    reference = subject.load()
    if layout.token_output:
        reference.outputs = tuple(
            layout.token_output if name == "token_embeddings" else name for name in reference.outputs
        )
    graph = reference.graph()
    progress("capture", 1, 1)
    rewritten, plan = _rewrite(config, reference, graph, plan)
    whole = bool(rewritten.fusions) and not any(fused.reason for fused in rewritten.fusions.values())
    speed = predicted(cost_model, plan, subject.path, form_of(graph, whole))
    if config.inline:
        speed = unknown("functions are written out, so that no kernel can take their place")
    with staging(config.out) as folder:
        artifact = folder / layout.model_path(config).name
        details = target.write(graph, artifact, inline=config.inline)
        runners = target.runners(artifact)
        details["shared"] = dict(find_tied_weights(graph, reference.parameters().items()))
        details["left_out"] = reference.left_out()
        details["fusions"] = {name: asdict(fused) for name, fused in rewritten.fusions.items()}
        details |= head_of(subject, reference)
        tokens = details["inputs"][0]["shape"][1]
        per_token = {value["name"] for value in details["outputs"] if value["shape"][1:2] == [tokens]}
        checked = verify(
            reference, plan, rewritten.tables, target, artifact, runners, texts, per_token, progress
        )
        details["samples"] = stored_samples(reference, runners, checked, per_token)
        details["task"] = _evaluate(task, reference, runners, progress)
        served = _served_tokenizer(subject, reference) if layout.serving_tokenizer else {}
        copied = {
            name: hashlib.sha256(served[name]).hexdigest() if name in served else sha256(file)
            for name, file in companions.items()
        }
        document = manifest(
            subject,
            plan,
            rewritten.tables,
            config,
            artifact,
            details,
            checked,
            reference.max_length,
            speed,
            copied,
        )
        layout.place(Placement(artifact, document, companions, served), config)
    return document


def _plan(config: ExportConfig, subject: Subject, cost_model: CostModel | None) -> dict[str, StoragePlan]:
    """How each matrix is stored."""
    return make_plan(
        subject,
        str(config.format),
        config.block,
        config.max_density,
        config.weights,
        cost_model,
        subject.read,
    )


def _rewrite(
    config: ExportConfig, reference: ReferenceModel, graph: ir.Model, plan: dict[str, StoragePlan]
) -> tuple[_Graph, dict[str, StoragePlan]]:
    """Store the matrices of a graph as the plan says, and fuse its layers. In place.

    Returns:
        What was done, and the plan without the unpruned matrices that the graph uses in no linear layer.
    """
    from aerogel.export.embeddings import store_embeddings
    from aerogel.export.fusion import fuse
    from aerogel.export.pattern import canonicalize
    from aerogel.export.rewrite import attach_functions, rewrite
    from aerogel.export.simplify import simplify

    try:
        skipped = rewrite(graph, plan)
    except ExportError as error:
        raise ExportError(f"{reference.name}: {error}") from error
    plan = {name: matrix for name, matrix in plan.items() if name not in skipped}
    simplify(graph)
    canonicalize(graph)
    tables = store_embeddings(graph, config.embeddings, reference.parameters())
    attach_functions(graph, plan)
    return _Graph(graph, tables, fuse(graph) if config.fuse and config.format != DENSE else {}), plan


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
