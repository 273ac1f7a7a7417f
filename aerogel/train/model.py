"""Loading the model to train and its tokenizer."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from aerogel.data.task import Task
from aerogel.errors import AerogelError, OutputError, UsageError
from aerogel.hf.encoder import pretrained_part
from aerogel.hf.limits import longest_sequence
from aerogel.hf.pickled import weight_options
from aerogel.hf.quiet import quiet

__all__ = ["inputs_taken", "load_language_model", "load_model", "not_finite", "not_loaded", "save_model"]


def load_model(
    name: str | None, task: Task, labels: tuple[str, ...] | None, max_length: int, seed: int
) -> tuple[Any, Any]:
    """The model in float32 with a head for `task`, and its tokenizer.

    A head that is missing or of another size is drawn at random from `seed`.

    Args:
        name: directory or hub id; None asks the task for a fresh model.
        task: decides the head.
        labels: the class names of its data.
        max_length: tokens per row that the model must be able to take.
        seed: seeds torch before anything is drawn.

    Raises:
        UsageError: no such model, one whose weights are not those of its configuration, or one that does not fit
            `max_length` or its tokenizer.
        CheckpointError: see `weight_options`.
    """
    torch.manual_seed(seed)
    if name is None:
        model, tokenizer = task.fresh_model(seed)
    else:
        model, tokenizer, _ = _pretrained(name, task.head, task.head_config(labels))
    return _checked(model, name, tokenizer, max_length), tokenizer


def load_language_model(
    name: str, *, pairs: bool, from_scratch: bool, max_length: int, seed: int
) -> tuple[Any, Any, list[str]]:
    """A model to pre-train, in float32, its tokenizer, and which of its parts are new.

    Args:
        name: directory or hub id.
        pairs: with a head for next sentences beside that for masked tokens.
        from_scratch: draw all weights from `seed`; only configuration and tokenizer are taken from `name`.
        max_length: tokens per row that the model must be able to take.
        seed: seeds torch before anything is drawn.

    Returns:
        Model, tokenizer, and the first two parts of the names of parameters that were drawn at random.

    Raises:
        UsageError: see `load_model`; or this kind of model has no such head.
    """
    torch.manual_seed(seed)
    head = "PreTraining" if pairs else "MaskedLM"
    model, tokenizer, drawn = (_from_scratch if from_scratch else _pretrained)(name, head, {})
    if pairs and "next_sentence_label" not in inspect.signature(model.forward).parameters:
        raise UsageError(f"--model {name}: {type(model).__name__} predicts no next sentences; pass --no-nsp")
    parts = sorted({".".join(key.split(".")[:2]) for key in drawn})
    return _checked(model, name, tokenizer, max_length), tokenizer, parts


def _checked(model: Any, name: str | None, tokenizer: Any, max_length: int) -> Any:
    """The model in float32, if it fits `max_length` and its tokenizer, which then names no inputs but the model's."""
    limit = longest_sequence(model, tokenizer, default=max_length)
    if max_length > limit:
        raise UsageError(
            f"--max-length {max_length}: {name or 'the fresh model'} takes at most {limit} tokens"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UsageError(
            f"--model {name}: its tokenizer has more entries than its embeddings; the two do not belong"
        )
    if tokenizer.pad_token_id is None:
        raise UsageError(
            f"--model {name}: its tokenizer has no padding token; name one, as pad_token, in tokenizer_config.json"
        )
    # A tokenizer may offer what its model does not take, as BERT's does to DistilBERT and RoBERTa.
    taken = inputs_taken(model)
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    model = model.float()
    if tensor := not_finite(model):
        raise UsageError(
            f"--model {name}: {tensor} has values that are not finite; give the model's own weights"
        )
    return model


def not_loaded(flag: str, name: str, error: Exception) -> UsageError:
    """The error for a model that transformers could not load."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    local = Path(name).is_dir()
    action = "check that its files are all there and complete" if local else "give a directory or a hub id"
    return UsageError(f"{flag} {name} cannot be loaded ({reason}); {action}")


def not_finite(model: Any) -> str | None:
    """Name of the first parameter with an infinity or a NaN in it."""
    return next((name for name, value in model.named_parameters() if not value.isfinite().all()), None)


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the files that transformers loads a model and its tokenizer from.

    Raises:
        OutputError: the tokenizer cannot be written.
    """
    # Masks have the names that the model runs under. transformers would rename weights of some families, and merge
    # others, into the format that these were published in.
    known = inspect.signature(model.save_pretrained).parameters
    names = {"save_original_format": False} if "save_original_format" in known else {}
    with quiet():
        model.save_pretrained(folder, **names)
        try:
            tokenizer.save_pretrained(folder)
        except Exception as error:
            # tokenizers knows no other class for what the system says.
            if type(error) is not Exception:
                raise
            raise OutputError(f"the tokenizer cannot be written ({error}); free disk space") from error


def inputs_taken(model: Any) -> frozenset[str]:
    """Names of the inputs that a model takes; segments only if it tells two apart."""
    known = frozenset(inspect.signature(model.forward).parameters)
    return known - {"token_type_ids"} if getattr(model.config, "type_vocab_size", 2) < 2 else known


def _pretrained(name: str, head: str, config: dict[str, Any]) -> tuple[Any, Any, set[str]]:
    """Model, tokenizer, and the names of the parameters that were drawn at random."""
    with _loading(name):
        model, info = getattr(transformers, f"AutoModelFor{head}").from_pretrained(
            name, ignore_mismatched_sizes=True, trust_remote_code=False, output_loading_info=True,
            **weight_options(name), **config,
        )  # fmt: skip
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    _check_tokenizer(name, tokenizer)
    # Sizes may differ because the head's do. Elsewhere a difference would leave random weights, and say nothing.
    drawn = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if lost := sorted(key for key in drawn if pretrained_part(model, key)):
        raise UsageError(
            f"--model {name}: its weights lack {lost[0]} in the size that config.json asks for; "
            "give the model's own config.json and weights"
        )
    return model, tokenizer, drawn


def _from_scratch(name: str, head: str, config: dict[str, Any]) -> tuple[Any, Any, set[str]]:
    """As `_pretrained`, with all weights drawn at random."""
    with _loading(name):
        found = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **config)
        model = getattr(transformers, f"AutoModelFor{head}").from_config(found, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    _check_tokenizer(name, tokenizer)
    return model, tokenizer, {key for key, _ in model.named_parameters()}


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn what transformers raises inside the block into a UsageError."""
    # No hub id begins like this, and the hub would be asked for long.
    if name.startswith(("/", ".", "~")) and not Path(name).exists():
        raise UsageError(
            f"--model {name} is not a directory; give one that transformers can load, or a hub id"
        )
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise UsageError(f"--model {name} has no config.json; give a directory that transformers can load")
    try:
        with quiet(), _quiet_hub():
            yield
    except AerogelError:
        raise
    except Exception as error:  # a damaged file surfaces as any of a dozen types, of several packages
        raise not_loaded("--model", name, error) from error


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    if not isinstance(tokenizer.model_max_length, (int, float)):
        raise UsageError(
            f"--model {name}: model_max_length {tokenizer.model_max_length!r} in tokenizer_config.json is no number"
        )
    # Without its files transformers makes up a tokenizer that knows no word, and says nothing.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UsageError(f"--model {name} has no tokenizer; save the model's own there")


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """No line for each time the hub is asked again: the error at the end says that it was not reached."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
