"""A model of transformers without its weights, and filling it a tensor at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from aerogel.errors import CheckpointError, require

__all__ = ["build", "complete", "fill"]


def build(folder: Path) -> nn.Module:
    """The model that config.json in `folder` describes, in evaluation mode, its parameters on the meta device.

    Raises:
        CheckpointError: transformers cannot read config.json, or cannot make such a model.
        ExportError: the class that it names is none of transformers.
    """
    require("transformers", "export")
    from aerogel.hf.load import model_class
    from aerogel.hf.quiet import quiet

    with quiet():
        config, kind = model_class(folder)
        try:
            with _without_parameters():
                model: nn.Module = kind(config).eval()
        except Exception as error:  # sizes that do not fit one another: any type
            raise CheckpointError(
                f"{folder / 'config.json'}: transformers cannot make {kind.__name__} "
                f"({type(error).__name__}: {error}); restore it"
            ) from error
    return model


def fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, torch.Tensor]],
    device: torch.device,
    dtype: torch.dtype,
    path: Path,
) -> None:
    """Put tensors in the places of parameters of the same names, floats as `dtype`. Other names are passed over.

    Raises:
        CheckpointError: one has another shape than the model's.
    """
    places = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in tensors:
        if name not in places:
            continue
        if tensor.shape != places[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {list(tensor.shape)} and config.json makes it {list(places[name].shape)}; "
                "restore config.json and the weights"
            )
        owner, _, leaf = name.rpartition(".")
        value = nn.Parameter(tensor.to(device, dtype).contiguous(), requires_grad=places[name].requires_grad)
        setattr(model.get_submodule(owner), leaf, value)


def complete(model: nn.Module, device: torch.device, dtype: torch.dtype, path: Path) -> None:
    """Tie what the model ties, and bring its buffers to where the parameters are.

    Raises:
        CheckpointError: parameters were not filled.
    """
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise CheckpointError(
            f"{path}: {type(model).__name__} needs {missing[0]}, which the weights lack; write the checkpoint anew"
        )
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device, dtype if buffer.is_floating_point() else buffer.dtype))


@contextlib.contextmanager
def _without_parameters() -> Iterator[None]:
    """Within, modules are made with parameters on the meta device, and buffers as always.

    `torch.device("meta")` would make buffers of no value too, and nothing on disk has those that are not saved.
    """
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            # Memory that was asked for and never written to is not resident.
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
