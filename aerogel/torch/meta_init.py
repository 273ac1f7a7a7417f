"""Build a transformers model without weights, and load them one tensor at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from aerogel.errors import CheckpointError, require

__all__ = ["build", "finish", "load"]


def build(folder: Path) -> nn.Module:
    """Build the model of config.json in `folder`, in evaluation mode, with parameters on the meta device.

    Raises:
        CheckpointError: transformers cannot read config.json or build the model.
        ExportError: config.json names a class that transformers does not have.
    """
    require("transformers", "export")
    from aerogel.hf.load import model_class
    from aerogel.hf.quiet import quiet

    with quiet():
        config, cls = model_class(folder)
        try:
            with _meta_parameters():
                model: nn.Module = cls(config).eval()
        except Exception as error:  # inconsistent sizes raise errors of any type
            raise CheckpointError(
                f"{folder / 'config.json'}: transformers cannot build {cls.__name__} "
                f"({type(error).__name__}: {error}); restore the file"
            ) from error
    return model


def load(
    model: nn.Module,
    tensors: Iterable[tuple[str, torch.Tensor]],
    device: torch.device,
    dtype: torch.dtype,
    path: Path,
) -> None:
    """Load tensors into the parameters of the same names, as `dtype` on `device`. Other names are skipped.

    Raises:
        CheckpointError: a tensor has another shape than the parameter.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in tensors:
        if name not in parameters:
            continue
        if tensor.shape != parameters[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {list(tensor.shape)}, config.json requires "
                f"{list(parameters[name].shape)}; restore config.json and the weights"
            )
        owner, _, leaf = name.rpartition(".")
        requires_grad = parameters[name].requires_grad
        value = nn.Parameter(tensor.to(device, dtype).contiguous(), requires_grad=requires_grad)
        setattr(model.get_submodule(owner), leaf, value)


def finish(model: nn.Module, device: torch.device, dtype: torch.dtype, path: Path) -> None:
    """Tie the tied weights, check that all parameters are loaded, and move buffers to `device` and `dtype`.

    Raises:
        CheckpointError: a parameter was not loaded.
    """
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise CheckpointError(
            f"{path}: the weights lack {missing[0]}, which {type(model).__name__} needs; write the checkpoint again"
        )
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device, dtype if buffer.is_floating_point() else buffer.dtype))


@contextlib.contextmanager
def _meta_parameters() -> Iterator[None]:
    """Create modules with parameters on the meta device and ordinary buffers.

    `torch.device("meta")` would also leave buffers without values, and files do not contain non-persistent buffers.
    """
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            # The initial tensor was never written to, so it took no physical memory.
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
