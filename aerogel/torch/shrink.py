"""Remove attention heads and feed-forward neurons without effect from a live model; see `aerogel.hf.shrink`."""

from __future__ import annotations

from torch import nn

from aerogel.hf.shrink import ShrinkReport, remove_dead, shrinkable
from aerogel.torch.linears import check_plain

__all__ = ["ShrinkReport", "check_shrinkable", "shrink"]


def shrink(model: nn.Module, multiple: int = 1) -> ShrinkReport:
    """Remove heads and neurons that are fully pruned, in place.

    Supports encoders with the layers of BERT, RoBERTa, ELECTRA and DistilBERT; other layers stay unchanged. In
    evaluation mode the outputs are equal up to rounding. The model no longer matches its configuration: run it, but do
    not save it with ``save_pretrained``.

    Args:
        model: model with exact zeros where it is pruned.
        multiple: sides of the remaining matrices stay multiples of this, so that blocks still divide them: neurons are
            removed in groups of this size, heads only if their size is a multiple. One head and one group always stay.

    Raises:
        UsageError: a hook such as `torch.nn.utils.prune` computes a weight of such a layer; the model is unchanged.
    """
    check_shrinkable(model)
    return remove_dead(model, multiple)


def check_shrinkable(model: nn.Module) -> None:
    """Check that no hook computes a weight that `shrink` may cut.

    Raises:
        UsageError: a hook does; the message names the layer and what to call first.
    """
    names = {id(module): name for name, module in model.named_modules()}
    for linear in shrinkable(model):
        check_plain(names[id(linear)], linear)
