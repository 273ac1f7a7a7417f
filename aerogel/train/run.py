"""One run from its configuration to a checkpoint."""

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
from aerogel.system.overlap import check_inputs_preserved
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
            f"--final-epochs: method {config.method} finds no masks to fix; drop it and raise --epochs"
        )
    task = task.configured(config.task_options, config.task)
    config = dataclasses.replace(config, task_options=option_values(task.options))
    return run(config, FineTuning(config, task))


def run(config: RunConfig, regime: TrainingSetup) -> Checkpoint:
    """Train, prune, evaluate and write the checkpoint ``config.out``.

    Everything that follows the last step is tried before the first one: see `aerogel.train.rehearsal`.

    If a run with the same configuration was killed, go on from its last saved state: on a CPU the result is the
    same to the bit. The state is removed once the checkpoint is written. Where `torchrun` started several processes,
    they share each step's rows, and the first one writes.

    Raises:
        UsageError: a configuration that cannot be meant, or one that differs from the saved state's.
        DataError: the data cannot be read.
        TrainingError: the loss, the weights or the model's outputs stopped being finite, or another process ended.
        CheckpointError: `config.out` is in the way, or the saved state is damaged.
        OutputError: the checkpoint, the state or the log cannot be written.
    """
    config = _with_frozen_mask(config)
    method_class = METHODS.get(config.method)
    config, options = _resolve(config, method_class)
    if config.keep_scores and not method_class.learns_scores():
        raise UsageError(f"--keep-scores: method {config.method} learns no scores; drop it")
    if config.threads:
        torch.set_num_threads(config.threads)
    # Before the processes connect: one that ends while others still do breaks their connections, and they would
    # report that instead.
    count = process_count()
    if config.accumulate and config.accumulate < count:
        raise UsageError(
            f"--accumulate {config.accumulate} leaves some of the {count} processes without a part; "
            f"give at least {count}, or drop it"
        )
    with Processes(config.device) as processes, contextlib.ExitStack() as claims:
        # Before anything is looked at: a run that has it may be saving this very moment.
        processes.on_first(lambda: _claim(config, claims))
        return _run(config, method_class, options, regime, processes)


def _run(
    config: RunConfig, method_class: type[Method], options: Any, regime: TrainingSetup, processes: Processes
) -> Checkpoint:
    inputs = config.inputs() | method_class.reads(options)
    processes.on_first(lambda: _check_places(config, inputs))
    identity = regime.load_data()
    files = {flag: _files(name) for flag, name in config.models().items()}
    files |= {
        what: {file.name: sha256(file)}
        for what, file in method_class.reads(options).items()
        if file.is_file()
    }
    resumable = config.settings() | _flat(data=identity, version=_versions(), **files)
    if text := unprintable(resumable):
        raise UsageError(f"{text[:80]} cannot be printed and so not recorded; rename it")
    state: State | None = processes.on_first(lambda: _saved_state(config, resumable))

    job = regime.job(processes.device)
    model, total = job.model, job.total
    size = encoder_parameters(model)
    settings = config.settings() | job.notes | _converted(config)
    plain = Record(
        method=config.method,
        config=settings,
        block=(1, 1),
        scope=config.scope,
        encoder_parameters=size,
        task=regime.task,
        seed=config.seed,
        data=identity | {what: found for what, found in files.items() if what != "model" and found},
        versions=_versions(),
    )
    learnt: dict[str, Any] = {}

    def write_model(folder: Path) -> None:
        save_model(model, job.tokenizer, folder)
        if learnt:
            scores.save(folder, learnt)

    steps = total + job.final
    more = _state_bytes(model) if steps > config.save_every and state is None else 0
    processes.on_first(lambda: rehearse_saving(config.out, model, job.tokenizer, plain, write_model, more))
    target = SparsityConfig(config.density, config.block, config.scope)
    fixed = state is not None and state.fixed
    method = FixedMask(prunable(model), target) if fixed else method_class(prunable(model), target, options)
    schedule, last = _schedule(config, total, method), _last_schedule(config, job.final)
    if _freezes(config, method_class):
        for parameter in embedding_parameters(model):
            parameter.requires_grad_(False)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}

    def loop_of(method: Method, schedule: Cubic, before: int = 0) -> Loop:
        return Loop(config, model, method, schedule, job.rows, job.objective, processes, resumable, before)

    loop = loop_of(method, last, total) if fixed and last else loop_of(method, schedule)
    job.rehearse()
    kept, step = 0, 0
    if state:
        loop.resume(state)
        kept, step = state.log_bytes, state.step
        state = None  # as large as the model and its optimizer
    logs: list[Log | NoLog] = [] if processes.first else [NoLog()]
    processes.on_first(lambda: logs.append(Log(config.log_path, kept, config.tensorboard, step)))
    with logs[0] as log:
        if not log.size():
            values = {"warmup": schedule.warmup, "processes": processes.count, "settings": settings}
            log.write("start", 0, total=total, **values)
        loop.run(log, job.measure)
        if last and not fixed:
            method = FixedMask(prunable(model), target, method.bake())
            # What the method before froze is trained now, as in a run that is resumed here.
            for parameter in model.parameters():
                parameter.requires_grad_(parameter.requires_grad or id(parameter) in trained)
            del loop  # and with it the scores, and the optimizer of all
            log.write("fixed", total, total=total + last.total, warmup=last.warmup)
            loop_of(method, last, total).run(log, job.measure)
        if config.keep_scores:
            learnt |= {name: score.detach().cpu().numpy() for name, score in method.learnt_scores().items()}
        masks = method.bake()
        _demand_finite(model)
        target = method.target
        record = dataclasses.replace(plain, block=target.block, scope=target.scope, metrics=job.measure())
        result = processes.on_first(lambda: checkpoint.save(config.out, record, masks, write_model))
        log.write("end", steps, density=result.accounting.density, **record.metrics)
        log.settle()
    if processes.first:
        config.state_path.unlink(missing_ok=True)
    return result


def _with_frozen_mask(config: RunConfig) -> RunConfig:
    """`--freeze-mask` is the method "frozen" with the mask of the model that the run starts from."""
    if not config.freeze_mask:
        return config
    if config.method != "dense" or config.options:
        raise UsageError("--freeze-mask keeps the mask of --model; drop --method and --option")
    if config.model is None or not (Path(config.model) / checkpoint.RECORD_FILE).is_file():
        raise UsageError(
            f"--freeze-mask: --model {config.model or ''} is not a directory with {checkpoint.RECORD_FILE}; "
            "give a checkpoint with masks"
        )
    return dataclasses.replace(config, method="frozen", options={"mask": config.model})


def _claim(config: RunConfig, claims: contextlib.ExitStack) -> None:
    """Refuse the checkpoint, the state and the log to every other run."""
    claims.enter_context(claimed(config.out.resolve(), "--out"))
    if not is_stream(config.log_path):
        claims.enter_context(claimed(config.log_path.resolve(), "--log"))


def _check_places(config: RunConfig, inputs: Mapping[str, Path]) -> None:
    """Refuse, before the work, what cannot be written or would overwrite one of the `inputs`, by what they are."""
    outputs = {"--out": config.out, "--out: its state": config.state_path, "--log": config.log_path}
    check_inputs_preserved(outputs, inputs)
    checkpoint.check_target(config.out)
    for file in (config.state_path, config.log_path):
        check_output(file)
    check_log(config.log_path)


def _state_bytes(model: Any) -> int:
    """What a saved state takes on the disk at least: all weights, and two float32 moments of those in the encoder."""
    return sum(int(parameter.nbytes) for parameter in model.parameters()) + 8 * encoder_parameters(model)


def _demand_finite(model: Any) -> None:
    """The last step is followed by no loss that would show what it did."""
    if name := not_finite(model):
        raise TrainingError(f"{name} is not finite after the last step; lower --lr or --score-lr")


def _resolve(config: RunConfig, method: type[Method]) -> tuple[RunConfig, Any]:
    """The configuration with every value that the method decides filled in, and the method's options."""
    options = read_options(method.Options, config.options, f"method {config.method}")
    resolved = dataclasses.replace(
        config,
        options=option_values(options),
        score_lr=config.score_lr or method.score_lr,
        scope="global" if method.density_is_outcome else config.scope,
    )
    return resolved, options


def _schedule(config: RunConfig, total: int, method: Method) -> Cubic:
    """The run's density schedule: flat for a method that does not prune."""
    warmup = warmup_steps(config.warmup, total)
    if not method.prunes:
        density = method.target.density
        return Cubic(density, density, total, warmup, 0.0, 0.0)
    return Cubic(1.0, config.density, total, warmup, config.initial_warmup, config.final_warmup)


def _last_schedule(config: RunConfig, steps: int) -> Cubic | None:
    """The schedule of the fine-tuning of what is left: flat, with a warm-up of its own; None without one."""
    if not steps:
        return None
    return Cubic(config.density, config.density, steps, warmup_steps(config.warmup, steps), 0.0, 0.0)


def _freezes(config: RunConfig, method: type[Method]) -> bool:
    """Whether embeddings are frozen. A fresh model's must be trained, they have learnt nothing yet."""
    if config.freeze_embeddings is None:
        return method.prunes and config.model is not None
    return config.freeze_embeddings


def _saved_state(config: RunConfig, identity: dict[str, Any]) -> State | None:
    """The state to go on from, if there is one and a new beginning is not asked for."""
    if config.restart:
        config.state_path.unlink(missing_ok=True)
    return State.load(config.state_path, identity) if config.state_path.exists() else None


def _files(model: str | None) -> dict[str, str]:
    """SHA-256 of the files that a model is loaded from; none for a model of the hub, which a name identifies."""
    if model is None or not Path(model).is_dir():
        return {}
    files = {file for file in Path(model).iterdir() if file.suffix in _MODEL_FILES and file.is_file()}
    return {file.name: sha256(file) for file in sorted(files.union(pickled_files(model)))}


def _converted(config: RunConfig) -> dict[str, Any]:
    """For the log and the record: files of weights that were not safetensors, which the checkpoint's are."""
    found = {
        flag: [file.name for file in pickled_files(name)] for flag, name in config.models().items() if name
    }
    return {"converted": found} if any(found.values()) else {}


def _flat(**groups: dict[str, Any]) -> dict[str, Any]:
    """One level of names, so that a difference is found and told by itself."""
    return {f"{group} {name}": value for group, values in groups.items() for name, value in values.items()}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {k: v for k, v in versions(_VERSIONS).items() if v}
