"""The stages of an export that write nothing: read, plan, rewrite, fuse, predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.cost import cache
from aerogel.cost.model import CostModel
from aerogel.cost.predict import WORKLOAD, unknown
from aerogel.errors import ExportError, UsageError
from aerogel.export.compact import COMPACT, compact
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout
from aerogel.export.output_dir import model_folder
from aerogel.export.plan import DENSE, StoragePlan, make_plan
from aerogel.export.prediction import form_of, predicted
from aerogel.export.source import Source, Subject, find_source
from aerogel.export.target import TARGETS, Target
from aerogel.hf.hub import local_model
from aerogel.hf.sentence_transformers import is_sentence_transformers
from aerogel.kernels.cpu.native import check_selection
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.embeddings import Table
    from aerogel.export.fusion import Fused
    from aerogel.export.reference_model import ReferenceModel
    from aerogel.hf.shrink import ShrinkReport

__all__ = ["Checked", "Prepared", "Progress", "check", "prepare", "read"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""

# Formats of standard operators alone: no layers are fused.
_PLAIN = (COMPACT, DENSE)


@dataclass(frozen=True)
class Checked:
    """A configuration that has passed `check`, with what it names."""

    config: ExportConfig
    target: Target
    layout: Layout
    source: Source
    path: Path


@dataclass(frozen=True)
class Prepared:
    """An export up to the point where it is written.

    Attributes:
        config: what to do.
        subject: the model, as it was read.
        reference: the model as something to run.
        graph: the rewritten and fused graph, with its functions.
        plan: how each matrix is stored, by name.
        tables: how each embedding table is stored, by name.
        fusions: result of each fusion, by name.
        prediction: the predicted speed, see `aerogel.cost.predict.predict`.
        removed: heads and neurons that ``--format compact`` removed; None with another format.
    """

    config: ExportConfig
    subject: Subject
    reference: ReferenceModel
    graph: ir.Model
    plan: Mapping[str, StoragePlan]
    tables: Mapping[str, Table]
    fusions: Mapping[str, Fused]
    prediction: dict[str, Any]
    removed: ShrinkReport | None = None


def check(config: ExportConfig) -> Checked:
    """Check, before any long work, what a configuration names. A model on the hub is downloaded.

    Raises:
        AerogelError: the message says what is wrong.
    """
    target = TARGETS.get(config.target)
    path = local_model(config.source, config.revision)
    source = find_source(path)
    files = {"--verify-text": config.verify_text, "--task-data": config.task_data}
    inputs = {flag: given for flag, given in files.items() if given is not None}
    layout = target.layout(config.layout)
    target.check_options(config)
    layout.check(config, target.suffix, path, inputs)
    if config.push:
        layout.check_push(config.push)
    if config.task_data and not config.verify_task:
        raise UsageError("--task-data is for --verify-task, which is not given")
    VALUE_TYPES.get(config.embeddings)
    check_selection()
    return Checked(config, target, layout, source, path)


def read(checked: Checked) -> Subject:
    """Read the model.

    Raises:
        AerogelError: it is damaged, or cannot be exported.
    """
    path = checked.path
    embedder = path.suffix != ".onnx" and is_sentence_transformers(model_folder(path))
    token_states = checked.config.token_embeddings or (embedder and checked.layout.token_output is not None)
    return checked.source.read(path, token_embeddings=token_states)


def prepare(checked: Checked, subject: Subject, progress: Progress) -> Prepared:
    """Plan the storage of a model's matrices, and rewrite and fuse its graph so.

    Raises:
        AerogelError: the message says what is wrong.
    """
    config = checked.config
    cost_model = cache.find(WORKLOAD.threads)
    smaller = compact(config, subject) if config.format == COMPACT else None
    plan = smaller.plan if smaller else _plan(config, subject, cost_model)
    progress("capture", 0, 1)
    reference = subject.load()
    traced = smaller.model if smaller else reference
    if name := checked.layout.token_output:
        for model in (reference, traced):
            model.outputs = tuple(
                name if output == "token_embeddings" else output for output in model.outputs
            )
    graph = traced.graph()
    progress("capture", 1, 1)
    plan, tables, fusions = _rewrite(config, reference, graph, plan)
    whole = bool(fusions) and not any(fused.reason for fused in fusions.values())
    prediction = predicted(cost_model, plan, subject.path, form_of(graph, whole))
    if config.inline:
        prediction = unknown("functions are written out, so that no kernel can take their place")
    removed = smaller.removed if smaller else None
    return Prepared(config, subject, reference, graph, plan, tables, fusions, prediction, removed)


def _plan(config: ExportConfig, subject: Subject, cost_model: CostModel | str) -> dict[str, StoragePlan]:
    """How each matrix is stored."""
    known = cost_model if isinstance(cost_model, CostModel) else None
    return make_plan(
        subject, config.format, config.block, config.max_density, config.weights, known, subject.read
    )


def _rewrite(
    config: ExportConfig, reference: ReferenceModel, graph: ir.Model, plan: dict[str, StoragePlan]
) -> tuple[dict[str, StoragePlan], dict[str, Table], dict[str, Fused]]:
    """Store the matrices of a graph as the plan says, and fuse its layers. In place.

    Returns:
        The plan without the unpruned matrices that the graph uses in no linear layer, the embedding tables, and the
        results of the fusions.
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
    return plan, tables, fuse(graph) if config.fuse and config.format not in _PLAIN else {}
