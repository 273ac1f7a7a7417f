"""Remove attention heads and feed-forward neurons without effect from transformers' encoders.

A head has no effect if its columns of the attention's output matrix are zero. It has a constant effect if its rows of
the value matrix are zero: attention weights sum to 1, so every token gets the value's bias b_v. A neuron j has no
effect if column j of the second matrix is zero, and the constant effect f(b_1[j]) if row j of the first matrix is zero.
Constant effects are added to the bias of the matrix that reads them:

    b_o += sum_i W_o[:, i] b_v[i]        i over the columns of the removed heads
    b_2 += sum_j W_2[:, j] f(b_1[j])     j over the removed neurons

The smaller model computes the same outputs up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from aerogel.hf.families import ATTENTIONS, FEED_FORWARDS, HEAD_COUNTS, HEAD_WIDTHS

__all__ = ["ShrinkReport", "remove_dead", "shrinkable"]


@dataclass(frozen=True)
class ShrinkReport:
    """Numbers of removed heads and neurons, and of all before, over all layers."""

    heads: int
    all_heads: int
    neurons: int
    all_neurons: int

    def __str__(self) -> str:
        heads = f"{self.heads} of {self.all_heads} attention heads"
        return f"{heads} and {self.neurons} of {self.all_neurons} neurons removed"


@dataclass
class _Attention:
    module: nn.Module
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    size: int


@dataclass
class _FeedForward:
    first: nn.Linear
    activation: Callable[[torch.Tensor], torch.Tensor]
    second: nn.Linear


def remove_dead(model: nn.Module, multiple: int = 1) -> ShrinkReport:
    """Remove heads and neurons that are fully pruned, in place.

    The weights must be plain parameters; see `aerogel.torch.shrink.shrink`, which checks that.

    Args:
        model: model with exact zeros where it is pruned.
        multiple: see `aerogel.torch.shrink.shrink`.
    """
    heads = [0, 0]
    neurons = [0, 0]
    with torch.no_grad():
        for layer in list(model.modules()):
            if attention := _attention(layer):
                total = attention.query.out_features // attention.size
                heads[0] += _remove_heads(attention, multiple)
                heads[1] += total
            if feed_forward := _feed_forward(layer):
                neurons[1] += feed_forward.first.out_features
                neurons[0] += _remove_neurons(feed_forward, multiple)
    return ShrinkReport(heads[0], heads[1], neurons[0], neurons[1])


def shrinkable(model: nn.Module) -> list[nn.Linear]:
    """The layers that `remove_dead` may cut."""
    linears: list[nn.Linear] = []
    for layer in model.modules():
        attention, feed_forward = _attention(layer), _feed_forward(layer)
        linears += [attention.query, attention.key, attention.value, attention.output] if attention else []
        linears += [feed_forward.first, feed_forward.second] if feed_forward else []
    return linears


def _attention(layer: nn.Module) -> _Attention | None:
    for names in ATTENTIONS:
        module = _at(layer, names.module)
        q, k, v = (_linear(layer, f"{names.module}.{name}") for name in (names.query, names.key, names.value))
        o, size = _linear(layer, names.output), getattr(module, "attention_head_size", None)
        if not (isinstance(module, nn.Module) and type(size) is int and q and k and v and o):
            continue
        if q.out_features == k.out_features == v.out_features == o.in_features:
            return _Attention(module, q, k, v, o, size)
    return None


def _feed_forward(layer: nn.Module) -> _FeedForward | None:
    for names in FEED_FORWARDS:
        one, two = _linear(layer, names.first), _linear(layer, names.second)
        act = _at(layer, names.activation)
        if one and two and callable(act) and one.out_features == two.in_features:
            return _FeedForward(one, act, two)
    return None


def _linear(layer: nn.Module, path: str) -> nn.Linear | None:
    found = _at(layer, path)
    return found if type(found) is nn.Linear else None


def _at(module: object, path: str) -> object:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _remove_heads(attention: _Attention, multiple: int) -> int:
    """Remove dead heads and return their number."""
    if attention.size % multiple:
        return 0
    unread = ~attention.output.weight.bool().any(0)
    constant = ~attention.value.weight.bool().any(1)
    dead = unread.view(-1, attention.size).all(1) | constant.view(-1, attention.size).all(1)
    dead = _keep_first(dead)
    if not dead.any():
        return 0
    removed = dead.repeat_interleave(attention.size)
    if attention.value.bias is not None:
        _fold(attention.output, removed, attention.value.bias.double())
    for linear in (attention.query, attention.key, attention.value):
        _keep_rows(linear, ~removed)
    _keep_columns(attention.output, ~removed)
    remaining = int((~dead).sum())
    for names, value in ((HEAD_COUNTS, remaining), (HEAD_WIDTHS, remaining * attention.size)):
        for name in names:
            if hasattr(attention.module, name):
                setattr(attention.module, name, value)
    return int(dead.sum())


def _remove_neurons(layer: _FeedForward, multiple: int) -> int:
    """Remove dead neurons and return their number."""
    first, second = layer.first, layer.second
    dead = ~first.weight.bool().any(1) | ~second.weight.bool().any(0)
    group = multiple if len(dead) % multiple == 0 else len(dead)
    groups = _keep_first(dead.view(-1, group).all(1))
    if not groups.any():
        return 0
    removed = groups.repeat_interleave(group)
    bias = torch.zeros_like(first.weight[:, 0]) if first.bias is None else first.bias
    _fold(second, removed, layer.activation(bias.double()))
    _keep_rows(first, ~removed)
    _keep_columns(second, ~removed)
    return int(removed.sum())


def _keep_first(dead: torch.Tensor) -> torch.Tensor:
    """Keep the first head or group if all are dead: transformers' layers need at least one."""
    if dead.all():
        dead = dead.clone()
        dead[0] = False
    return dead


def _fold(linear: nn.Linear, removed: torch.Tensor, constant: torch.Tensor) -> None:
    """Add the product of the `removed` columns with their `constant` inputs, float64 ``[in]``, to the bias."""
    added = linear.weight[:, removed].double() @ constant[removed]
    if not added.any():
        return
    bias = 0.0 if linear.bias is None else linear.bias.double()
    linear.bias = _parameter((bias + added).to(linear.weight.dtype), linear)


def _keep_rows(linear: nn.Linear, kept: torch.Tensor) -> None:
    linear.weight = _parameter(linear.weight[kept], linear)
    if linear.bias is not None:
        linear.bias = _parameter(linear.bias[kept], linear)
    linear.out_features = len(linear.weight)


def _keep_columns(linear: nn.Linear, kept: torch.Tensor) -> None:
    linear.weight = _parameter(linear.weight[:, kept], linear)
    linear.in_features = linear.weight.shape[1]


def _parameter(value: torch.Tensor, like: nn.Linear) -> nn.Parameter:
    return nn.Parameter(value.contiguous(), requires_grad=like.weight.requires_grad)
