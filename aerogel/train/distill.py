"""Distillation: the student also learns from the outputs of a dense teacher (Hinton et al. 2015; Sanh et al. 2020).

With logits z of the student, logits t of the teacher and temperature T:

    loss = a_kd T^2 KL(softmax(t / T) || softmax(z / T)) + a_ce CE(z, y) + a_hidden MSE(h, g)

For a regression, the squared difference of the two values replaces the divergence. For several outputs, as the start
and the end of an answer, the loss is their weighted mean. Tokens without a label are skipped. h are the hidden states
after each layer of the student, g those after the teacher's layer at the same relative depth.
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
from aerogel.train.loss import Term, model_inputs, summed_loss, terms
from aerogel.train.model import inputs_taken, not_finite, not_loaded

__all__ = ["Distillation", "load_teacher", "tokenizer_for_both"]

# Logit of padding: far below any other, and finite, so that differences are not NaN.
_PADDING_LOGIT = -1e9


class Distillation:
    """Loss of a student with a teacher; called as `aerogel.train.loss.TaskLoss` is.

    Args:
        teacher: model with the same head as the student, on the same device; see `load_teacher`.
        student: model to train.
        config: temperature and weights.

    Raises:
        UsageError: `hidden_weight` is set, and the layers or widths of the two models do not match.
    """

    def __init__(self, teacher: Any, student: Any, config: TrainConfig) -> None:
        self.teacher, self.config = teacher.eval().requires_grad_(False), config
        self._input_names = inputs_taken(student), inputs_taken(teacher)
        if config.hidden_weight:
            (layers, width), (teacher_layers, teacher_width) = (
                (model.config.num_hidden_layers, model.config.hidden_size) for model in (student, teacher)
            )
            if width != teacher_width or teacher_layers % layers:
                raise UsageError(
                    f"hidden_weight: {teacher_layers} layers of width {teacher_width} of the teacher do not match "
                    f"{layers} layers of width {width} of the model; set it to 0"
                )

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """Loss of a micro-batch; see `TaskLoss`."""
        config = self.config
        options = {"output_hidden_states": True} if config.hidden_weight else {}
        inputs = model_inputs(batch)
        student_inputs, teacher_inputs = (
            {name: value for name, value in inputs.items() if name in names} for names in self._input_names
        )
        student = model(**student_inputs, **options)
        with torch.no_grad():
            teacher = self.teacher(**teacher_inputs, **options)
        losses = []
        for term, target, factor in terms(batch, counts):
            logits, teacher_logits = (_masked(term, outputs, inputs) for outputs in (student, teacher))
            distance = _summed_distance(logits, teacher_logits, target, config.temperature)
            losses.append(config.kd_weight * factor * distance)
            if config.ce_weight:
                losses.append(config.ce_weight * factor * summed_loss(term.logits(student), target))
        if config.hidden_weight:
            distance = _hidden_distance(
                student.hidden_states, teacher.hidden_states, inputs["attention_mask"]
            )
            losses.append(config.hidden_weight * distance / counts["rows"])
        return torch.stack(losses).sum()


def load_teacher(
    name: str, task: Task, labels: tuple[str, ...] | None, tokenizer: Any, max_length: int
) -> tuple[Any, Any]:
    """Load the teacher, a dense model of the same task, in float32, and its tokenizer.

    Args:
        name: directory or hub id.
        task: determines the head.
        labels: class names of the data.
        tokenizer: of the student.
        max_length: tokens per row.

    Raises:
        UsageError: the model cannot be loaded, has another head, other labels or another vocabulary, accepts
            fewer tokens, or contains NaN or Inf.
        CheckpointError: see `weight_options`.
    """
    try:
        with quiet():
            teacher, info = getattr(transformers, f"AutoModelFor{task.head}").from_pretrained(
                name, trust_remote_code=False, output_loading_info=True, **weight_options(name)
            )
            teacher_tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except AerogelError:
        raise
    except Exception as error:  # a damaged file raises one of a dozen types, of several packages
        raise not_loaded("teacher", name, error) from error
    if missing := sorted(info["missing_keys"]):
        raise UsageError(
            f"teacher {name}: weight {missing[0]} is missing; give a model that was fine-tuned on this task"
        )
    _check_labels(name, teacher, task, labels)
    if teacher_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"teacher {name}: its vocabulary differs from the model's; give a teacher with the same one"
        )
    limit = longest_sequence(teacher, teacher_tokenizer, default=max_length)
    if max_length > limit:
        raise UsageError(f"max_length {max_length}: teacher {name} accepts at most {limit} tokens; lower it")
    if tensor := not_finite(teacher):
        raise UsageError(f"teacher {name}: {tensor} contains NaN or Inf; give another model")
    return teacher.float(), teacher_tokenizer


def tokenizer_for_both(tokenizer: Any, teacher: Any, teacher_tokenizer: Any) -> Any:
    """A copy of the student's tokenizer that also returns the inputs only the teacher takes.

    A DistilBERT student takes no segments, for example, but its BERT teacher does.

    Args:
        tokenizer: of the student; not changed.
        teacher: see `load_teacher`.
        teacher_tokenizer: see `load_teacher`.
    """
    both = copy.copy(tokenizer)
    names, taken = tokenizer.model_input_names, inputs_taken(teacher)
    both.model_input_names = [
        *names, *(name for name in teacher_tokenizer.model_input_names if name in taken and name not in names)
    ]  # fmt: skip
    return both


def _check_labels(name: str, teacher: Any, task: Task, labels: tuple[str, ...] | None) -> None:
    expected = task.head_config(labels)
    if expected.get("num_labels", teacher.config.num_labels) != teacher.config.num_labels:
        raise UsageError(
            f"teacher {name} has {teacher.config.num_labels} labels, the task has {expected['num_labels']}; "
            "give a model that was fine-tuned on this task"
        )
    teacher_labels = [str(teacher.config.id2label.get(index)) for index in range(len(labels or ()))]
    if list(labels or ()) != teacher_labels:
        raise UsageError(
            f"teacher {name} has the labels {', '.join(teacher_labels)}, the task has {', '.join(labels or ())}; "
            "give a teacher with the same labels in the same order, or correct id2label in its config.json"
        )


def _masked(term: Term, outputs: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits in float32. If the classes are tokens, padding is masked."""
    logits = term.logits(outputs)
    if term.over_tokens and "attention_mask" in inputs:
        return logits.masked_fill(inputs["attention_mask"] == 0, _PADDING_LOGIT)
    return logits


def _summed_distance(logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits ``[..., classes]``, or squared difference, summed over labelled entries."""
    if target.is_floating_point():
        return F.mse_loss(logits, teacher_logits, reduction="sum")
    student, teacher = ((z / temperature).log_softmax(-1) for z in (logits, teacher_logits))
    distances = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (distances * (target != IGNORED)).sum()


def _hidden_distance(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Squared difference of states ``[rows, tokens, units]``: mean over layers, tokens and units, sum over rows."""
    step = (len(teacher) - 1) // (len(student) - 1)
    token_weights = mask / mask.sum(1, keepdim=True)
    pairs = zip(student[1:], teacher[step::step], strict=True)
    squares = [(a - b).float().square().mean(-1) for a, b in pairs]
    return (torch.stack(squares).mean(0) * token_weights).sum()
