"""Distillation: the student learns from the outputs of a dense teacher as well (Hinton et al. 2015; Sanh et al. 2020).

With logits z of the student and t of the teacher, T the temperature:

    loss = a_kd T^2 KL(softmax(t / T) || softmax(z / T)) + a_ce CE(z, y) + a_hidden MSE(h, g)

For a regression, the squared difference of the two values is in the place of the divergence. A model with several
outputs, as the start and the end of an answer, has the weighted mean over them; tokens without a label are left out. h
and g are the hidden states after each layer of the student and after the layer of the teacher that is as far up.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from aerogel.data.features import IGNORED
from aerogel.data.task import Task
from aerogel.errors import AerogelError, UsageError
from aerogel.hf.limits import longest_sequence
from aerogel.hf.pickled import weight_options
from aerogel.hf.quiet import quiet
from aerogel.train.config import TrainConfig
from aerogel.train.loss import Term, inputs_of, summed_loss, terms
from aerogel.train.model import inputs_taken, not_finite, not_loaded

__all__ = ["Distillation", "load_teacher", "tokenizer_for_both"]

# Far below any logit, yet the difference of two of them is a number.
_NEVER = -1e9


class Distillation:
    """The objective of a student; called as `aerogel.train.loss.TaskLoss` is.

    Args:
        teacher: model with the student's kind of head, on its device; see `load_teacher`.
        student: the model that is trained.
        config: temperature and weights.

    Raises:
        UsageError: hidden states are to be learnt from, and those of the two do not correspond.
    """

    def __init__(self, teacher: Any, student: Any, config: TrainConfig) -> None:
        self.teacher, self.config = teacher.eval().requires_grad_(False), config
        self._taken = inputs_taken(student), inputs_taken(teacher)
        if config.hidden_weight:
            mine, theirs = (
                (model.config.num_hidden_layers, model.config.hidden_size) for model in (student, teacher)
            )
            if mine[1] != theirs[1] or theirs[0] % mine[0]:
                raise UsageError(
                    f"--hidden-weight: the teacher's {theirs[0]} layers of width {theirs[1]} do not correspond to "
                    f"the model's {mine[0]} of width {mine[1]}; drop it"
                )

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """The part's share of the loss: shares of all parts add up to the loss of the whole batch."""
        config = self.config
        wanted = {"output_hidden_states": True} if config.hidden_weight else {}
        inputs = inputs_of(batch)
        mine, theirs = ({k: v for k, v in inputs.items() if k in taken} for taken in self._taken)
        outputs = model(**mine, **wanted)
        with torch.no_grad():
            taught = self.teacher(**theirs, **wanted)
        shares = []
        for term, target, factor in terms(batch, counts):
            logits, others = (_masked(term, found, inputs) for found in (outputs, taught))
            distance = _summed_distance(logits, others, target, config.temperature)
            shares.append(config.kd_weight * factor * distance)
            if config.ce_weight:
                shares.append(config.ce_weight * factor * summed_loss(term.logits(outputs), target))
        if config.hidden_weight:
            distance = _hidden_distance(outputs.hidden_states, taught.hidden_states, inputs["attention_mask"])
            shares.append(config.hidden_weight * distance / counts["rows"])
        return torch.stack(shares).sum()


def load_teacher(
    name: str, task: Task, labels: tuple[str, ...] | None, tokenizer: Any, max_length: int
) -> tuple[Any, Any]:
    """A dense model of the same task, in float32, and its tokenizer.

    Args:
        name: directory or hub id.
        task: decides the head.
        labels: the class names of its data.
        tokenizer: of the student.
        max_length: tokens per row.

    Raises:
        UsageError: no such model, or one with another head, other labels, another vocabulary, too short a length or
            weights that are not finite.
        CheckpointError: see `weight_options`.
    """
    try:
        with quiet():
            teacher, info = getattr(transformers, f"AutoModelFor{task.head}").from_pretrained(
                name, trust_remote_code=False, output_loading_info=True, **weight_options(name)
            )
            own = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except AerogelError:
        raise
    except Exception as error:  # a damaged file surfaces as any of a dozen types, of several packages
        raise not_loaded("--teacher", name, error) from error
    if missing := sorted(info["missing_keys"]):
        raise UsageError(
            f"--teacher {name}: its weights lack {missing[0]}; give a model that was fine-tuned on this task"
        )
    _demand_labels(name, teacher, task, labels)
    if own.get_vocab() != tokenizer.get_vocab():
        raise UsageError(f"--teacher {name} has another vocabulary than the model; give one with the same")
    limit = longest_sequence(teacher, own, default=max_length)
    if max_length > limit:
        raise UsageError(f"--max-length {max_length}: --teacher {name} takes at most {limit} tokens")
    if tensor := not_finite(teacher):
        raise UsageError(f"--teacher {name}: {tensor} has values that are not finite; give a whole model")
    return teacher.float(), own


def tokenizer_for_both(tokenizer: Any, teacher: Any, own: Any) -> Any:
    """The student's tokenizer, which also gives what the teacher alone takes: BERT's segments to teach a DistilBERT.

    Args:
        tokenizer: of the student; it stays as it is.
        teacher: see `load_teacher`.
        own: the teacher's tokenizer.
    """
    both = copy.copy(tokenizer)
    names, taken = tokenizer.model_input_names, inputs_taken(teacher)
    both.model_input_names = [
        *names, *(name for name in own.model_input_names if name in taken and name not in names)
    ]  # fmt: skip
    return both


def _demand_labels(name: str, teacher: Any, task: Task, labels: tuple[str, ...] | None) -> None:
    wanted = task.head_config(labels)
    if wanted.get("num_labels", teacher.config.num_labels) != teacher.config.num_labels:
        raise UsageError(
            f"--teacher {name} has {teacher.config.num_labels} labels, and the task {wanted['num_labels']}; "
            "give a model that was fine-tuned on this task"
        )
    theirs = [str(teacher.config.id2label.get(index)) for index in range(len(labels or ()))]
    if list(labels or ()) != theirs:
        raise UsageError(
            f"--teacher {name} has the labels {', '.join(theirs)}, and the task {', '.join(labels or ())}; "
            "give one with the same in the same order, or set id2label in its config.json"
        )


def _masked(term: Term, outputs: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """The logits in float32. Where classes are tokens, padding is none of them."""
    logits = term.logits(outputs)
    if term.over_tokens and "attention_mask" in inputs:
        return logits.masked_fill(inputs["attention_mask"] == 0, _NEVER)
    return logits


def _summed_distance(logits: Tensor, taught: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 KL(taught || logits) ``[..., classes]``, or the squared difference of values, summed over what counts."""
    if target.is_floating_point():
        return F.mse_loss(logits, taught, reduction="sum")
    mine, theirs = ((z / temperature).log_softmax(-1) for z in (logits, taught))
    distances = F.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (distances * (target != IGNORED)).sum()


def _hidden_distance(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Squared difference of states ``[rows, tokens, units]``: mean over layers, tokens and units, sum over rows."""
    step = (len(theirs) - 1) // (len(mine) - 1)
    share = mask / mask.sum(1, keepdim=True)
    squares = [(a - b).float().square().mean(-1) for a, b in zip(mine[1:], theirs[step::step], strict=True)]
    return (torch.stack(squares).mean(0) * share).sum()
