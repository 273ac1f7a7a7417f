"""The dense layers of a live model: find them, read their weights, and check and move their hooks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from aerogel.errors import UsageError

__all__ = ["check_movable", "check_plain", "check_readable", "current", "find", "move_hooks"]

# Hooks on inputs, outputs and their gradients. They work the same on a sparse layer.
_MOVED = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip
# Hooks on the layer's entries of a state dict, which differ in a sparse layer.
_STATE = (
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_PARTS = ("weight", "bias")
# How to remove PyTorch's older hooks that compute a parameter.
_REMEDIES = {
    WeightNorm: "call torch.nn.utils.remove_weight_norm(layer)",
    SpectralNorm: "call torch.nn.utils.remove_spectral_norm(layer)",
}


def find(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the dense layers by weight name; a layer with several names appears under each.

    Subclasses are excluded: their users may need more than the product, as torch.nn's attention does. A parametrized
    ``nn.Linear`` is technically a subclass, but is included.
    """
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules(remove_duplicate=False)
        if parametrize.type_before_parametrizations(module) is nn.Linear
    }


def check_readable(model: nn.Module, linears: Mapping[str, nn.Linear]) -> None:
    """Check that no adapter, hook or parametrization other than `torch.nn.utils.prune` computes a weight or bias.

    Args:
        model: the whole model, which is searched for wrappers.
        linears: layers by weight name.

    Raises:
        UsageError: something else computes it; the message names the layer and what to call first.
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
    """Return the weight ``[out, in]`` or bias ``[out]`` that the layer's next call will use, detached.

    Under `torch.nn.utils.prune` only a forward pass updates the attribute, so the product of the parameter and its mask
    is computed here.

    Args:
        name: name of the weight, for messages.
        linear: the layer.
        part: "weight" or "bias".

    Returns:
        The tensor; None for a layer without a bias.

    Raises:
        UsageError: another hook or a parametrization computes it; the message says what to call first.
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
    known = (remedy for hook_type, remedy in _REMEDIES.items() if _has_hook(linear, hook_type, part))
    remedy = next(known, f"make layer.{part} a parameter")
    raise UsageError(f"{layer}: a hook or a wrapper computes its {part}; {remedy} first")


def check_plain(name: str, linear: nn.Linear) -> None:
    """Check that weight and bias are plain parameters, which can be changed in place.

    Raises:
        UsageError: they are computed; the message names the layer and what to call first.
    """
    for part in _PARTS:
        current(name, linear, part)
        if part not in linear._parameters:
            raise UsageError(
                f"{name.removesuffix('.weight')}: torch.nn.utils.prune computes its {part}; call "
                f"torch.nn.utils.prune.remove(layer, {part!r}) first"
            )


def check_movable(name: str, layer: nn.Module) -> None:
    """Check that a layer can be replaced without losing hooks or state.

    Args:
        name: name of the layer, for messages.
        layer: dense or sparse layer.

    Raises:
        UsageError: names what would be lost.
    """
    shown = name or "(model)"
    if "forward" in vars(layer):
        raise UsageError(
            f"{shown}: its forward method was replaced, as accelerate does; restore it first, with "
            "accelerate.hooks.remove_hook_from_module(model, recurse=True)"
        )
    if layer._backward_hooks and layer._is_full_backward_hook is False:
        raise UsageError(
            f"{shown}: a hook from register_backward_hook depends on autograd nodes, which differ in the new layer; "
            "remove it, or use register_full_backward_hook"
        )
    if any(getattr(layer, hooks) for hooks in _STATE):
        raise UsageError(
            f"{shown}: state-dict hooks cannot move to the new layer; remove them, or register them on the parent "
            "module"
        )
    if isinstance(layer, nn.Linear):
        own = {part + ending for part in _PARTS for ending in ("", "_orig", "_mask")}
        extra = [key for key in (*layer._parameters, *layer._buffers, *layer._modules) if key not in own]
        if extra:
            raise UsageError(
                f"{shown}: the new layer would lose {extra[0]!r}; remove it, or move it to the parent module"
            )


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Move the hooks of a layer to a new one, except those of `torch.nn.utils.prune`. Hook handles stay valid."""
    for name in _MOVED:
        # Share the dictionaries: a handle removes its hook from the dictionary where it was registered.
        setattr(new, name, getattr(old, name))
    for key, hook in list(new._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod):
            del new._forward_pre_hooks[key]


def _has_hook(linear: nn.Linear, hook_type: type, part: str) -> bool:
    return any(
        isinstance(hook, hook_type) and getattr(hook, "name", None) == part
        for hook in linear._forward_pre_hooks.values()
    )
