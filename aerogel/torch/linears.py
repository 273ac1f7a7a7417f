"""The dense layers of a live model: which can be swapped, what their weights are now, and what hangs on them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from aerogel.errors import UsageError

__all__ = ["check_movable", "check_plain", "check_readable", "current", "find", "move_hooks"]

# Hooks that see inputs, outputs and their gradients. A sparse layer has the same ones.
_MOVED = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip
# Hooks that see the layer's own entries of a state dict, which a sparse layer makes by itself.
_STATE = (
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_PARTS = ("weight", "bias")
# How PyTorch's older hooks that compute a parameter are removed.
_REMEDIES = {
    WeightNorm: "call torch.nn.utils.remove_weight_norm(layer)",
    SpectralNorm: "call torch.nn.utils.remove_spectral_norm(layer)",
}


def find(model: nn.Module) -> dict[str, nn.Linear]:
    """The dense layers by the name of their weight; one that the model has under several names, by each.

    Subclasses are left out: their users may need more of them than their product, as attention of torch.nn does.
    A parametrization makes a subclass too, but the layer stays an ``nn.Linear`` to its user, so it is included.
    """
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules(remove_duplicate=False)
        if parametrize.type_before_parametrizations(module) is nn.Linear
    }


def check_readable(model: nn.Module, linears: Mapping[str, nn.Linear]) -> None:
    """Refuse layers whose weight or bias something computes that is not `torch.nn.utils.prune`.

    Args:
        model: the whole model, in which wrappers are looked for.
        linears: layers by the name of their weight.

    Raises:
        UsageError: names the layer, and what to call first.
    """
    wrappers = {
        id(parent._modules["base_layer"]): parent
        for parent in model.modules()
        if isinstance(parent._modules.get("base_layer"), nn.Linear)
    }
    for name, linear in linears.items():
        wrapper = linear if hasattr(linear, "lora_A") else wrappers.get(id(linear))
        if wrapper is not None:
            raise UsageError(
                f"{name}: an adapter ({type(wrapper).__name__}) adds to this weight; merge it first "
                "(with peft: model = model.merge_and_unload())"
            )
        for part in _PARTS:
            current(name, linear, part)


def current(name: str, linear: nn.Linear, part: str = "weight") -> torch.Tensor | None:
    """The weight ``[out, in]`` or the bias ``[out]`` that the layer's next call will use, without a gradient.

    Under `torch.nn.utils.prune` the attribute of that name is as old as the last forward pass. The product of the
    parameter and its mask is what counts, and is computed here.

    Args:
        name: of the weight, for messages.
        linear: the layer.
        part: "weight" or "bias".

    Returns:
        The tensor; None for a layer without a bias.

    Raises:
        UsageError: another hook or a parametrization computes it; names what to call first.
    """
    layer = name.removesuffix(".weight")
    if parametrize.is_parametrized(linear, part):
        raise UsageError(
            f"{layer}: a parametrization computes its {part}; call "
            f"torch.nn.utils.parametrize.remove_parametrizations(layer, {part!r}) first"
        )
    if part in linear._parameters:
        found = linear._parameters[part]
        return None if found is None else found.detach()
    original, mask = linear._parameters.get(f"{part}_orig"), linear._buffers.get(f"{part}_mask")
    if original is not None and mask is not None:
        return (original * mask).detach()
    known = (remedy for kind, remedy in _REMEDIES.items() if _has_hook(linear, kind, part))
    remedy = next(known, f"make layer.{part} a parameter")
    raise UsageError(f"{layer}: a hook or a wrapper computes its {part}; {remedy} first")


def check_plain(name: str, linear: nn.Linear) -> None:
    """Refuse a layer whose weight or bias is not a parameter by itself, and so cannot be changed in place.

    Raises:
        UsageError: names the layer, and what to call first.
    """
    for part in _PARTS:
        current(name, linear, part)
        if part not in linear._parameters:
            raise UsageError(
                f"{name.removesuffix('.weight')}: torch.nn.utils.prune computes its {part}; call "
                f"torch.nn.utils.prune.remove(layer, {part!r}) first"
            )


def check_movable(name: str, layer: nn.Module) -> None:
    """Refuse a layer of which something would be lost if another took its position in the model.

    Args:
        name: of the layer, for messages.
        layer: dense or sparse.

    Raises:
        UsageError: names what would be lost.
    """
    shown = name or "(model)"
    if "forward" in vars(layer):
        raise UsageError(
            f"{shown}: its forward was replaced on this object (accelerate does so); undo that first, with accelerate: "
            "accelerate.hooks.remove_hook_from_module(model, recurse=True)"
        )
    if layer._backward_hooks and layer._is_full_backward_hook is False:
        raise UsageError(
            f"{shown}: a hook of register_backward_hook sees autograd's own nodes, which differ in the new layer; "
            "remove it, or register it with register_full_backward_hook"
        )
    if any(getattr(layer, hooks) for hooks in _STATE):
        raise UsageError(
            f"{shown}: hooks on its state dict cannot move to the new layer; remove them, or register them on the "
            "module above"
        )
    if isinstance(layer, nn.Linear):
        own = {part + ending for part in _PARTS for ending in ("", "_orig", "_mask")}
        extra = [key for key in (*layer._parameters, *layer._buffers, *layer._modules) if key not in own]
        if extra:
            raise UsageError(
                f"{shown}: has {extra[0]!r} besides its weight and bias, which the new layer would lack; remove it, "
                "or keep it in the module above"
            )


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give a new layer the hooks of the old one, whose handles stay valid; those of `torch.nn.utils.prune` end here."""
    for name in _MOVED:
        # The dictionaries themselves: a handle removes its hook from the one that it was registered in.
        setattr(new, name, getattr(old, name))
    for key, hook in list(new._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod):
            del new._forward_pre_hooks[key]


def _has_hook(linear: nn.Linear, kind: type, part: str) -> bool:
    return any(
        isinstance(hook, kind) and getattr(hook, "name", None) == part
        for hook in linear._forward_pre_hooks.values()
    )
