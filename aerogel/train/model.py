"""Load and save the model to train and its tokenizer."""

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
    """Load a model in float32 with a head for `task`, and its tokenizer.

    A head that is missing or has another size is initialized at random.

    Args:
        name: directory or hub id; None for a new model that the task creates.
        task: determines the head.
        labels: class names of the data.
        max_length: tokens per row that the model must accept.
        seed: seed of the random initialization.

    Raises:
        UsageError: the model cannot be loaded, its weights do not match its configuration, or it does not fit
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
    """Load a model to pre-train, in float32, and its tokenizer.

    Args:
        name: directory or hub id.
        pairs: whether the model gets a next-sentence head in addition to the masked-token head.
        from_scratch: initialize all weights at random; only the configuration and the tokenizer are read from `name`.
        max_length: tokens per row that the model must accept.
        seed: seed of the random initialization.

    Returns:
        Model, tokenizer, and the parts of the model that were reinitialized at random (first two components of the
        parameter names).

    Raises:
        UsageError: see `load_model`; or the architecture has no such head.
    """
    torch.manual_seed(seed)
    head = "PreTraining" if pairs else "MaskedLM"
    model, tokenizer, reinitialized = (_from_scratch if from_scratch else _pretrained)(name, head, {})
    if pairs and "next_sentence_label" not in inspect.signature(model.forward).parameters:
        raise UsageError(
            f"model {name}: {type(model).__name__} has no next-sentence head; turn off nsp (no-nsp)"
        )
    parts = sorted({".".join(key.split(".")[:2]) for key in reinitialized})
    return _checked(model, name, tokenizer, max_length), tokenizer, parts


def _checked(model: Any, name: str | None, tokenizer: Any, max_length: int) -> Any:
    """Convert the model to float32 and check it against `max_length` and its tokenizer.

    Inputs that the model does not take are removed from the tokenizer's `model_input_names`.
    """
    limit = longest_sequence(model, tokenizer, default=max_length)
    if max_length > limit:
        raise UsageError(
            f"max_length {max_length}: {name or 'the new model'} accepts at most {limit} tokens; lower it"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UsageError(
            f"model {name}: its tokenizer has more entries than its embeddings; give a model with its own tokenizer"
        )
    if tokenizer.pad_token_id is None:
        raise UsageError(
            f"model {name}: its tokenizer has no padding token; set pad_token in tokenizer_config.json"
        )
    # BERT's tokenizer returns segments, for example, which DistilBERT does not take.
    taken = inputs_taken(model)
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    model = model.float()
    if tensor := not_finite(model):
        raise UsageError(f"model {name}: {tensor} contains NaN or Inf; give a model with finite weights")
    return model


def not_loaded(field: str, name: str, error: Exception) -> UsageError:
    """Make the error for a model that transformers could not load; `field` is "model" or "teacher"."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    local = Path(name).is_dir()
    action = "check that its files are complete" if local else "give a directory or a hub id"
    return UsageError(f"cannot load {field} {name} ({reason}); {action}")


def not_finite(model: Any) -> str | None:
    """Name of the first parameter that contains NaN or Inf, or None."""
    return next((name for name, value in model.named_parameters() if not value.isfinite().all()), None)


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model and its tokenizer to `folder`, in the format of transformers.

    Raises:
        OutputError: the tokenizer cannot be written.
    """
    # Masks are stored under the parameter names of the model in memory. For some families, transformers would rename or
    # merge weights into the format in which they were published.
    known = inspect.signature(model.save_pretrained).parameters
    names = {"save_original_format": False} if "save_original_format" in known else {}
    with quiet():
        model.save_pretrained(folder, **names)
        try:
            tokenizer.save_pretrained(folder)
        except Exception as error:
            # tokenizers raises a plain Exception for errors of the operating system.
            if type(error) is not Exception:
                raise
            raise OutputError(f"cannot write the tokenizer to {folder} ({error}); free disk space") from error


def inputs_taken(model: Any) -> frozenset[str]:
    """Names of the inputs that a model takes. Segments (`token_type_ids`) are included only if it has two of them."""
    known = frozenset(inspect.signature(model.forward).parameters)
    return known - {"token_type_ids"} if getattr(model.config, "type_vocab_size", 2) < 2 else known


def _pretrained(name: str, head: str, config: dict[str, Any]) -> tuple[Any, Any, set[str]]:
    """Load a pretrained model; returns it, its tokenizer and the names of the reinitialized parameters."""
    with _loading(name):
        model, info = getattr(transformers, f"AutoModelFor{head}").from_pretrained(
            name, ignore_mismatched_sizes=True, trust_remote_code=False, output_loading_info=True,
            **weight_options(name), **config,
        )  # fmt: skip
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    _check_tokenizer(name, tokenizer)
    # The head may have another size. transformers would silently reinitialize any other weight that does not match.
    reinitialized = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if lost := sorted(key for key in reinitialized if pretrained_part(model, key)):
        raise UsageError(
            f"model {name}: weight {lost[0]} is missing or its shape does not match config.json; "
            "give a config.json and weights that belong together"
        )
    return model, tokenizer, reinitialized


def _from_scratch(name: str, head: str, config: dict[str, Any]) -> tuple[Any, Any, set[str]]:
    """As `_pretrained`, with all weights initialized at random."""
    with _loading(name):
        model_config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **config)
        model = getattr(transformers, f"AutoModelFor{head}").from_config(
            model_config, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    _check_tokenizer(name, tokenizer)
    return model, tokenizer, {key for key, _ in model.named_parameters()}


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """Check the path, and convert errors of transformers in the block to UsageError."""
    # Hub ids never begin like this; without the check, transformers would query the hub.
    if name.startswith(("/", ".", "~")) and not Path(name).exists():
        raise UsageError(
            f"model {name}: no such directory; give a directory that transformers can load, or a hub id"
        )
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise UsageError(f"model {name}: no config.json there; give a directory that transformers can load")
    try:
        with quiet(), _quiet_hub():
            yield
    except AerogelError:
        raise
    except Exception as error:  # a damaged file raises one of a dozen types, of several packages
        raise not_loaded("model", name, error) from error


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    if not isinstance(tokenizer.model_max_length, (int, float)):
        raise UsageError(
            f"model {name}: model_max_length in tokenizer_config.json is {tokenizer.model_max_length!r}; give a number"
        )
    # Without tokenizer files, transformers silently returns a tokenizer with an empty vocabulary.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UsageError(
            f"model {name}: no tokenizer there; save the model's tokenizer in the same directory"
        )


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence the warnings about retries: the final error says that the hub could not be reached."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
