"""The export stage from end to end: checkpoint in, verified artifact out, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import checkpoint as checkpoints
from aerogel.checkpoint import Checkpoint
from aerogel.cost import cache
from aerogel.cost.predict import WORKLOAD, unknown
from aerogel.errors import ExportError, UsageError
from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.manifest import manifest
from aerogel.export.parity import Runner
from aerogel.export.plan import default_format, make_plan
from aerogel.export.prediction import form_of, predicted
from aerogel.export.serving import TOKENIZER_FILE, serving_tokenizer
from aerogel.export.target import TARGETS, Target
from aerogel.export.task_eval import TaskEval, load_task_eval
from aerogel.export.verification_samples import read_texts
from aerogel.kernels.cpu.native import check_selection
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.system.atomic_io import claimed, staging

if TYPE_CHECKING:
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["export"]


def export(
    config: ExportConfig, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Export a checkpoint, verify the artifact, and only then put it in place.

    Args:
        config: what to do.
        progress: told (stage, steps done, steps in all).

    Returns:
        The manifest, as written beside the artifact.

    Raises:
        AerogelError: a subclass that says what is wrong; nothing has been written then.
    """
    target = TARGETS.get(config.target)
    checkpoint = checkpoints.load(config.checkpoint)
    read = {"--verify-text": config.verify_text, "--task-data": config.task_data}
    inputs = {flag: path for flag, path in read.items() if path is not None}
    output_dir.check_out(config.out, target.suffix, checkpoint.path, force=config.force, inputs=inputs)
    with claimed(Path(os.path.realpath(config.out)), "--out"):
        return _export(config, target, checkpoint, progress)


def _export(
    config: ExportConfig, target: Target, checkpoint: Checkpoint, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    texts = read_texts(config.verify_text) if config.verify_text else None
    if config.task_data and not config.verify_task:
        raise UsageError("--task-data is for --verify-task, which is not given")
    trial = (
        load_task_eval(checkpoint, config.task_data, config.max_metric_drop) if config.verify_task else None
    )
    check_selection()
    config = replace(config, format=config.format or default_format(checkpoint, config.block))
    calibration = cache.find(WORKLOAD.threads)
    known = None if isinstance(calibration, str) else calibration
    plan = make_plan(checkpoint, str(config.format), config.block, config.max_density, config.weights, known)
    VALUE_TYPES.get(config.embeddings)

    # Imported late: what is above needs no torch, and fails at once where the request is wrong.
    from aerogel.export.capture import capture
    from aerogel.export.embeddings import store_embeddings
    from aerogel.export.fusion import fuse
    from aerogel.export.left_out import left_out
    from aerogel.export.reference_model import load_reference
    from aerogel.export.rewrite import attach_functions, rewrite
    from aerogel.export.simplify import simplify
    from aerogel.export.tied_weights import find_tied_weights
    from aerogel.export.verify import verify

    progress("capture", 0, 1)
    source = load_reference(checkpoint.path)
    model = capture(source)
    progress("capture", 1, 1)
    try:
        rewrite(model, plan)
    except ExportError as error:
        raise ExportError(f"{type(source.model).__name__}: {error}") from error
    simplify(model)
    tables = store_embeddings(model, config.embeddings, dict(source.model.named_parameters()))
    attach_functions(model, plan)
    fusions = fuse(model) if config.fuse else {}
    form = form_of(model, bool(fusions) and not any(fused.why for fused in fusions.values()))
    speed = predicted(calibration, plan, checkpoint.path, form)
    if config.inline:
        speed = unknown("functions are written out, so that no kernel can take their place")
    with staging(config.out) as folder:
        artifact = folder / config.out.name
        details = target.write(model, artifact, inline=config.inline)
        runners = target.runners(artifact)
        parameters = ((name, value.detach().numpy()) for name, value in source.model.named_parameters())
        details["find_tied_weights"] = dict(find_tied_weights(model, parameters))
        details["left_out"] = left_out(source)
        details["fusions"] = {name: asdict(fused) for name, fused in fusions.items()}
        tokens = details["inputs"][0]["shape"][1]
        per_token = {value["name"] for value in details["outputs"] if value["shape"][1:2] == [tokens]}
        checked = verify(source, plan, tables, target, artifact, runners, texts, per_token, progress)
        details["task"] = _try(trial, source, runners, progress)
        file = checkpoint.path / TOKENIZER_FILE
        served = {file.name: serving_tokenizer(file, source.tokenizer, source.max_length)}
        document = manifest(
            checkpoint, plan, tables, config, artifact, details, checked, source.max_length, speed, served
        )
        output_dir.place(artifact, document, checkpoint.path, config.out, served)
    return document


def _try(
    trial: TaskEval | None,
    source: ReferenceModel,
    runners: Mapping[str, Runner | str],
    progress: Callable[[str, int, int], None],
) -> dict[str, Any] | None:
    """Measure the artifact on its task, if that is asked for, by the last and fastest way to run it."""
    if trial is None:
        return None
    name, run = [(name, run) for name, run in runners.items() if not isinstance(run, str)][-1]
    return trial.hold(source, name, run, progress)
