"""A training run, from its configuration to its checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aerogel import checkpoint
from aerogel.checkpoint import Checkpoint, Record, scores
from aerogel.data.tasks import TASKS
from aerogel.errors import TrainingError, UsageError
from aerogel.hf.encoder import embedding_parameters, encoder_parameters, prunable
from aerogel.hf.pickled import pickled_files
from aerogel.system.atomic_io import check_output, claimed, sha256
from aerogel.system.options import option_values, read_options
from aerogel.system.outputs import is_stream
from aerogel.system.overlap import demand_kept
from aerogel.system.printable import unprintable
from aerogel.system.versions import versions
from aerogel.train.config import RunConfig, TrainConfig
from aerogel.train.finetune import FineTuning
from aerogel.train.fixed_mask import FixedMask
from aerogel.train.log import Log, NoLog, check_log
from aerogel.train.loop import Loop
from aerogel.train.method import Method, SparsityConfig
from aerogel.train.methods import METHODS
from aerogel.train.model import not_finite, save_model
from aerogel.train.processes import Processes, process_count
from aerogel.train.rehearsal import rehearse_saving
from aerogel.train.schedule import Cubic, warmup_steps
from aerogel.train.setup import TrainingSetup
from aerogel.train.state import State

__all__ = ["TrainConfig", "run", "train"]

_VERSIONS = ("aerogel", "torch", "transformers", "tokenizers", "numpy")
# Configuration, weights and tokenizer.
_MODEL_FILES = (".json", ".safetensors", ".txt", ".model")


def train(config: TrainConfig) -> Checkpoint:
    """Fine-tune, prune, evaluate and write the checkpoint ``config.out``: see `run`."""
    method, task = METHODS.get(config.method), TASKS.get(config.task)
    if config.final_epochs and not method.prunes:
        raise UsageError(
            f"final_epochs: method {config.method} finds no masks to fix; drop it and raise epochs"
        )
    task = task.configured(config.task_options, config.task)
    config = dataclasses.replace(config, task_options=option_values(task.options))
    return run(config, FineTuning(config, task))


def run(config: RunConfig, setup: TrainingSetup) -> Checkpoint:
    """Train, prune, evaluate and write the checkpoint ``config.out``.

    Evaluating and saving are rehearsed before the first step: see `aerogel.train.rehearsal`.

    If a run with the same configuration was killed, training resumes from its saved state; on a CPU, the result is
    bitwise the same. The state is removed when the checkpoint is written. If `torchrun` started several processes, they
    share the rows of each step, and the first one writes.

    Args:
        config: settings of the run.
        setup: the type of training.

    Raises:
        UsageError: a setting is out of range, or differs from those of the saved state.
        DataError: the data cannot be read.
        TrainingError: the loss, a weight or an output of the model is NaN or Inf, or another process has ended.
        CheckpointError: `config.out` exists and is not a checkpoint, or the saved state is damaged.
        OutputError: the checkpoint, the state or the log cannot be written.
    """
    config = _resolve_freeze_mask(config)
    method_class = METHODS.get(config.method)
    config, options = _resolve(config, method_class)
    if config.keep_scores and not method_class.learns_scores():
        raise UsageError(f"--keep-scores: method {config.method} learns no scores; drop it")
    if config.threads:
        torch.set_num_threads(config.threads)
    # Checked before the processes connect: a process that exits while others connect would make them report a lost
    # connection instead of this error.
    count = process_count()
    if config.accumulate and config.accumulate < count:
        raise UsageError(
            f"accumulate {config.accumulate}: must be at least {count}, the number of processes; raise it or drop it"
        )
    with Processes(config.device) as processes, contextlib.ExitStack() as locks:
        # Locked before any file is read: a running process may be saving at this moment.
        processes.on_first(lambda: _lock_outputs(config, locks))
        return _run(config, method_class, options, setup, processes)


def _run(
    config: RunConfig, method_class: type[Method], options: Any, setup: TrainingSetup, processes: Processes
) -> Checkpoint:
    inputs = config.inputs() | method_class.files_read(options)
    processes.on_first(lambda: _check_outputs(config, inputs))
    data = setup.load_data()
    files = {field: _file_hashes(name) for field, name in config.models().items()}
    files |= {
        name: {file.name: sha256(file)}
        for name, file in method_class.files_read(options).items()
        if file.is_file()
    }
    fingerprint = config.settings() | _flat(data=data, version=_versions(), **files)
    if text := unprintable(fingerprint):
        raise UsageError(f"{text[:80]} contains characters that cannot be printed or recorded; rename it")
    state: State | None = processes.on_first(lambda: _saved_state(config, fingerprint))

    job = setup.job(processes.device)
    model, total = job.model, job.total
    size = encoder_parameters(model)
    settings = config.settings() | job.notes | _converted(config)
    base_record = Record(
        method=config.method,
        config=settings,
        block=(1, 1),
        scope=config.scope,
        encoder_parameters=size,
        task=setup.task,
        seed=config.seed,
        data=data | {name: hashes for name, hashes in files.items() if name != "model" and hashes},
        versions=_versions(),
    )
    learned_scores: dict[str, Any] = {}

    def write_model(folder: Path) -> None:
        save_model(model, job.tokenizer, folder)
        if learned_scores:
            scores.save(folder, learned_scores)

    steps = total + job.final
    state_bytes = _state_bytes(model) if steps > config.save_every and state is None else 0
    processes.on_first(
        lambda: rehearse_saving(config.out, model, job.tokenizer, base_record, write_model, state_bytes)
    )
    sparsity = SparsityConfig(config.density, config.block, config.scope)
    fixed = state is not None and state.fixed
    matrices = prunable(model)
    method = FixedMask(matrices, sparsity) if fixed else method_class(matrices, sparsity, options)
    schedule, final_schedule = _schedule(config, total, method), _final_schedule(config, job.final)
    if _freezes_embeddings(config, method_class):
        for parameter in embedding_parameters(model):
            parameter.requires_grad_(False)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}

    def make_loop(method: Method, schedule: Cubic, offset: int = 0) -> Loop:
        return Loop(config, model, method, schedule, job.rows, job.objective, processes, fingerprint, offset)

    loop = (
        make_loop(method, final_schedule, total) if fixed and final_schedule else make_loop(method, schedule)
    )
    job.rehearse()
    log_bytes, step = 0, 0
    if state:
        loop.resume(state)
        log_bytes, step = state.log_bytes, state.step
        state = None  # frees memory: it is as large as the model and its optimizer
    logs: list[Log | NoLog] = [] if processes.first else [NoLog()]
    processes.on_first(lambda: logs.append(Log(config.log_path, log_bytes, config.tensorboard, step)))
    with logs[0] as log:
        if not log.size():
            values = {"warmup": schedule.warmup, "processes": processes.count, "settings": settings}
            log.write("start", 0, total=total, **values)
        loop.run(log, job.evaluate)
        if final_schedule and not fixed:
            method = FixedMask(prunable(model), sparsity, method.fold())
            # Parameters that the method froze are trained now, as in a run that resumes in this phase.
            for parameter in model.parameters():
                parameter.requires_grad_(parameter.requires_grad or id(parameter) in trained)
            del loop  # frees the memory of the scores and the optimizer
            log.write("fixed", total, total=total + final_schedule.total, warmup=final_schedule.warmup)
            make_loop(method, final_schedule, total).run(log, job.evaluate)
        if config.keep_scores:
            learned_scores |= {
                name: score.detach().cpu().numpy() for name, score in method.learned_scores().items()
            }
        masks = method.fold()
        _check_finite(model)
        sparsity = method.sparsity
        record = dataclasses.replace(
            base_record, block=sparsity.block, scope=sparsity.scope, metrics=job.evaluate()
        )
        result = processes.on_first(lambda: checkpoint.save(config.out, record, masks, write_model))
        log.write("end", steps, density=result.accounting.density, **record.metrics)
        log.remove_previous()
    if processes.first:
        config.state_path.unlink(missing_ok=True)
    return result


def _resolve_freeze_mask(config: RunConfig) -> RunConfig:
    """Replace `freeze_mask` by the method "frozen" with the masks of `model`."""
    if not config.freeze_mask:
        return config
    if config.method != "dense" or config.options:
        raise UsageError("freeze_mask: keeps the masks of model; drop method and option")
    if config.model is None or not (Path(config.model) / checkpoint.RECORD_FILE).is_file():
        raise UsageError(
            f"freeze_mask: model {config.model or ''} is not a directory with {checkpoint.RECORD_FILE}; "
            "give a checkpoint with masks"
        )
    return dataclasses.replace(config, method="frozen", options={"mask": config.model})


def _lock_outputs(config: RunConfig, locks: contextlib.ExitStack) -> None:
    """Lock the checkpoint, the state and the log against other runs."""
    locks.enter_context(claimed(config.out.resolve(), "out"))
    if not is_stream(config.log_path):
        locks.enter_context(claimed(config.log_path.resolve(), "log"))


def _check_outputs(config: RunConfig, inputs: Mapping[str, Path]) -> None:
    """Check that all outputs can be written and overwrite none of the `inputs`, which are given by name."""
    outputs = {"out": config.out, "the state of out": config.state_path, "log": config.log_path}
    demand_kept(outputs, inputs)
    checkpoint.check_target(config.out)
    for file in (config.state_path, config.log_path):
        check_output(file)
    check_log(config.log_path)


def _state_bytes(model: Any) -> int:
    """Minimum size of a saved state in bytes: all weights, and two float32 moments of each encoder weight."""
    return sum(int(parameter.nbytes) for parameter in model.parameters()) + 8 * encoder_parameters(model)


def _check_finite(model: Any) -> None:
    """Check the weights after the last step, which no loss follows."""
    if name := not_finite(model):
        raise TrainingError(f"{name} contains NaN or Inf after the last step; lower lr or score_lr")


def _resolve(config: RunConfig, method: type[Method]) -> tuple[RunConfig, Any]:
    """Fill in the settings that depend on the method; returns the configuration and the method's options."""
    options = read_options(method.Options, config.options, f"method {config.method}")
    resolved = dataclasses.replace(
        config,
        options=option_values(options),
        score_lr=config.score_lr or method.score_lr,
        scope="global" if method.density_is_outcome else config.scope,
    )
    return resolved, options


def _schedule(config: RunConfig, total: int, method: Method) -> Cubic:
    """Density schedule of the run; constant for a method that does not prune."""
    warmup = warmup_steps(config.warmup, total)
    if not method.prunes:
        density = method.sparsity.density
        return Cubic(density, density, total, warmup, 0.0, 0.0)
    return Cubic(1.0, config.density, total, warmup, config.initial_warmup, config.final_warmup)


def _final_schedule(config: RunConfig, steps: int) -> Cubic | None:
    """Schedule of the phase with fixed masks: constant density, separate warm-up; None without such a phase."""
    if not steps:
        return None
    return Cubic(config.density, config.density, steps, warmup_steps(config.warmup, steps), 0.0, 0.0)


def _freezes_embeddings(config: RunConfig, method: type[Method]) -> bool:
    """Whether embeddings are frozen. Those of a new model must be trained."""
    if config.freeze_embeddings is None:
        return method.prunes and config.model is not None
    return config.freeze_embeddings


def _saved_state(config: RunConfig, fingerprint: dict[str, Any]) -> State | None:
    """The state to resume from, if there is one; `restart` deletes it."""
    if config.restart:
        config.state_path.unlink(missing_ok=True)
    return State.load(config.state_path, fingerprint) if config.state_path.exists() else None


def _file_hashes(model: str | None) -> dict[str, str]:
    """SHA-256 of the files of a local model, by file name; empty for a model of the hub, which its name identifies."""
    if model is None or not Path(model).is_dir():
        return {}
    files = {file for file in Path(model).iterdir() if file.suffix in _MODEL_FILES and file.is_file()}
    return {file.name: sha256(file) for file in sorted(files.union(pickled_files(model)))}


def _converted(config: RunConfig) -> dict[str, Any]:
    """Entry for the log and the record: pickled weight files, which the checkpoint stores as safetensors."""
    pickled = {
        field: [file.name for file in pickled_files(name)] for field, name in config.models().items() if name
    }
    return {"converted": pickled} if any(pickled.values()) else {}


def _flat(**groups: dict[str, Any]) -> dict[str, Any]:
    """Merge dictionaries into one, with keys "group name", so that a message can name a single difference."""
    return {f"{group} {name}": value for group, values in groups.items() for name, value in values.items()}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {k: v for k, v in versions(_VERSIONS).items() if v}
