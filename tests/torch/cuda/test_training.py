from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.hf.quiet import quiet
from aerogel.torch.cuda.training import trainable


def test_trains_stored_blocks(pair: Any, device: torch.device) -> None:
    linear, layer = pair("bsr")
    linear.requires_grad_(True)
    mask = linear.weight.detach() != 0
    model = trainable(nn.Sequential(layer))
    assert [name for name, _ in model.named_parameters()] == ["0.data", "0.bias"]
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 32, generator=draw).to(device).requires_grad_(True)
    grad = torch.randn(2, 9, 48, generator=draw).to(device)
    dense = torch.autograd.grad(linear(x), (x, linear.weight, linear.bias), grad)
    y = model(x)
    torch.testing.assert_close(y, linear(x), rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(y, (x, model[0].data, model[0].bias), grad)
    torch.testing.assert_close(found[0], dense[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[2], dense[2], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        model[0].data.copy_(found[1])
    torch.testing.assert_close(model[0].to_linear().weight, dense[1] * mask, rtol=1e-5, atol=1e-5)


def test_state_dict_of_trainable_layers_is_dense(pair: Any) -> None:
    linear, layer = pair("bsr")
    model = trainable(nn.Sequential(layer))
    state = copy.deepcopy(model.state_dict())
    assert state.keys() == {"0.weight", "0.bias"}
    assert torch.equal(state["0.weight"], linear.weight)
    data = model[0].data
    with torch.no_grad():
        data.zero_()
    model.load_state_dict(state)
    assert model[0].data is data
    assert torch.equal(model[0].to_linear().weight, linear.weight)
    with pytest.raises(FormatError, match="is not zero outside of the trained blocks"):
        model.load_state_dict(state | {"0.weight": torch.ones(48, 32)})


def test_training_operators_pass_opcheck_and_compile(pair: Any, device: torch.device) -> None:
    _, layer = pair("bsr")
    model = trainable(nn.Sequential(layer))
    x = torch.randn(5, 32, device=device, requires_grad=True)
    block = model[0]
    arrays = [getattr(block, name) for name in ("indices", "indptr", "order")]
    arrays += [getattr(block, f"by_column_{n}") for n in ("rows", "slots", "by_column", "indptr", "order")]
    arguments = (x, block.data, *arrays, block.bias, *block._numbers)
    torch.library.opcheck(torch.ops.aerogel.triton_bsr_train.default, arguments)
    expected = torch.autograd.grad(model(x).square().sum(), block.data)
    try:
        with quiet():
            compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
            found = torch.autograd.grad(compiled(x).square().sum(), block.data)
    finally:
        torch.compiler.reset()
    torch.testing.assert_close(found, expected)


def test_rejects_models_without_bsr_layers(pair: Any) -> None:
    with pytest.raises(UsageError, match="no bsr layer"):
        trainable(nn.Sequential(pair("csr")[1]))
