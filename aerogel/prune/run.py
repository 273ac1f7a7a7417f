"""Prune a model without training: layer by layer, from the moments of its inputs on some text."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerogel import checkpoint
from aerogel.checkpoint import Checkpoint, Record
from aerogel.data.corpus.stream import Corpus
from aerogel.errors import UsageError
from aerogel.hf.encoder import encoder_parameters, prunable
from aerogel.hf.hub import local_model
from aerogel.hf.limits import longest_sequence
from aerogel.hf.load import load_model, load_tokenizer
from aerogel.hf.quiet import quiet
from aerogel.hf.sentence_transformers import is_sentence_transformers, module_files, read_modules
from aerogel.prune.allocate import densities
from aerogel.prune.calibration import make_batches, open_corpus, sample_sentences, unknown_rate
from aerogel.prune.config import PruneConfig
from aerogel.prune.moments import InputGroup, calls_of, input_groups, input_moments, moments
from aerogel.prune.solve import prune_matrix
from aerogel.system.atomic_io import claimed
from aerogel.system.overlap import check_inputs_preserved
from aerogel.system.versions import versions
from aerogel.train.model import inputs_taken, save_model

__all__ = ["MatrixError", "Report", "prune"]

Progress = Callable[[int, int], None]
"""Called with (matrices done, matrices in all)."""


@dataclass(frozen=True)
class MatrixError:
    """What pruning did to one matrix.

    Attributes:
        name: of its weight.
        density: fraction of its weights kept.
        error: squared error of its outputs, relative to their squared size in the dense model.
    """

    name: str
    density: float
    error: float


@dataclass(frozen=True)
class Report:
    """A pruned model.

    Attributes:
        checkpoint: what was written.
        matrices: in the order in which the model runs them.
        sentences: number of sentences used.
        tokens: number of their tokens.
        unknown: fraction of the tokens that the tokenizer does not know.
    """

    checkpoint: Checkpoint
    matrices: tuple[MatrixError, ...]
    sentences: int
    tokens: int
    unknown: float


def prune(config: PruneConfig, progress: Progress = lambda *_: None) -> Report:
    """Prune a model and write it as the checkpoint ``config.out``.

    The weights of a sentence-transformers model are written together with its other modules, so that the directory is
    one again.

    Args:
        config: what to do.
        progress: called before each matrix.

    Raises:
        UsageError: a setting does not fit the model.
        DataError: the text cannot be read, or has too few sentences.
        CheckpointError: the model's files are damaged, or ``config.out`` exists and is not a checkpoint.
        ExportError: the installed transformers does not have the model's class.
        TrainingError: the inputs of a matrix are not finite.
        OutputError: the directory cannot be written.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    path = local_model(config.model, config.revision)
    inputs = {"--model": path} | {f"--text {text}": text for text in config.text}
    check_inputs_preserved({"--out": config.out}, inputs)
    checkpoint.check_target(config.out)
    with claimed(config.out.resolve(), "--out"):
        return _prune(config, path, progress)


def _prune(config: PruneConfig, path: Path, progress: Progress) -> Report:
    modules = read_modules(path) if is_sentence_transformers(path) else None
    folder = modules.transformer if modules else path
    if folder.resolve() != path.resolve():
        raise UsageError(
            f"{path}: its transformer is in the folder {folder.name}; "
            f"prune {folder}, and copy the other modules beside it"
        )
    with quiet():
        model = load_model(folder, attention=None)
        tokenizer = load_tokenizer(folder)
    saved_tokenizer = copy.deepcopy(tokenizer)  # calls change the files that it saves
    limit = longest_sequence(model, tokenizer, default=config.max_length)
    if tokenizer.pad_token_id is None:
        raise UsageError(
            f"{folder}: its tokenizer has no padding token; set pad_token in tokenizer_config.json"
        )
    names = [name for name in tokenizer.model_input_names if name in inputs_taken(model)]
    corpus = open_corpus(config.text, config.seed)
    sentences = sample_sentences(corpus, config.samples)
    batches = make_batches(sentences, tokenizer, names, min(config.max_length, limit))

    layers = prunable(model)
    groups = input_groups(model, layers, {name: value[:1] for name, value in batches[0].items()})
    layers = {name: layers[name] for group in groups for name in group.names}
    shares = input_moments(model, layers, batches) if config.scope == "global" else None
    wanted = densities(layers, config.density, config.block, shares)
    dense_model = copy.deepcopy(model)
    dense_layers = prunable(dense_model)
    masks: dict[str, np.ndarray] = {}
    matrices: list[MatrixError] = []
    for layer, inside in itertools.groupby(groups, _encoder_layer):
        # Groups of one layer of the encoder share the forward pass up to it.
        dense_calls, calls = (calls_of(net, layer, batches) for net in (dense_model, model))
        for group in inside:
            progress(len(matrices), len(layers))
            first = group.names[0]
            sums = moments((dense_calls, dense_layers[first]), (calls, layers[first]), group.calls)
            for name in group.names:
                weight = dense_layers[name].weight.detach()
                found = prune_matrix(name, weight, sums, wanted[name], config.block, config.damping)
                layers[name].weight.data.copy_(found.weight)
                masks[name] = found.mask.numpy()
                matrices.append(MatrixError(name, float(found.mask.float().mean()), found.error))
    progress(len(layers), len(layers))

    def write(out: Path) -> None:
        save_model(model, saved_tokenizer, out)
        for file in module_files(path) if modules else ():
            target = out / file.relative_to(path)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)

    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    record = _record(config, model, corpus, matrices, sentences=len(sentences), tokens=tokens)
    written = checkpoint.save(config.out, record, masks, write)
    return Report(written, tuple(matrices), len(sentences), tokens, unknown_rate(batches, tokenizer))


def _encoder_layer(group: InputGroup) -> str:
    """Path of the encoder's layer that a group is in; "" if one forward pass runs it several times."""
    parts = group.names[0].split(".")
    number = next(index for index, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: number + 1]) if group.calls == 1 else ""


def _record(
    config: PruneConfig, model: Any, corpus: Corpus, matrices: list[MatrixError], **counts: int
) -> Record:
    errors = [matrix.error for matrix in matrices]
    return Record(
        method="one-shot",
        config=config.settings() | {"errors": [asdict(matrix) for matrix in matrices]},
        block=config.block,
        scope=config.scope,
        encoder_parameters=encoder_parameters(model),
        seed=config.seed,
        data={"text": corpus.fingerprint() | counts},
        metrics={"output_error": sum(errors) / len(errors), "largest_output_error": max(errors)},
        versions={k: v for k, v in versions(("aerogel", "torch", "transformers", "numpy")).items() if v},
    )
