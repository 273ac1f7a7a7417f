from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.hf.quiet import quiet
from aerogel.torch.cuda.format import CUDA_FORMATS
from aerogel.torch.cuda.linear import TritonLinear

Factory = Callable[..., nn.Linear]
FORMATS = [name for name in CUDA_FORMATS.names() if name != "two-four"]


@pytest.mark.parametrize("format", FORMATS)
def test_equals_the_dense_layer(pair: Any, format: str, device: torch.device) -> None:
    linear, layer = pair(format)
    x = torch.randn(2, 3, 32, device=device)
    torch.testing.assert_close(layer(x), linear(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(layer.weight, linear.weight)
    dense = layer.to_linear()
    assert torch.equal(dense.weight, linear.weight)
    assert torch.equal(dense.bias, linear.bias)
    assert f"format={format}" in repr(layer)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
def test_operators_pass_opcheck(pair: Any, format: str, bias: bool, device: torch.device) -> None:
    _, layer = pair(format, bias=bias)
    x = torch.randn(5, 32, device=device, requires_grad=True)
    arguments = (x, *layer.tensors(), layer.bias, *layer.numbers)
    torch.library.opcheck(layer._operator.call, arguments)


@pytest.mark.parametrize("format", FORMATS)
def test_compiles_in_one_graph(pair: Any, format: str, device: torch.device) -> None:
    linear, layer = pair(format)
    model = nn.Sequential(layer, nn.GELU())
    x = torch.randn(5, 32, device=device)
    try:
        for backend in ("eager", "aot_eager"):
            with quiet():
                y = torch.compile(model, fullgraph=True, backend=backend)(x)
            torch.testing.assert_close(y, nn.functional.gelu(linear(x)), rtol=1e-5, atol=1e-5)
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize("format", FORMATS)
def test_gradients_of_inputs(pair: Any, format: str, device: torch.device) -> None:
    linear, layer = pair(format)
    x = torch.randn(2, 3, 32, device=device, requires_grad=True)
    grad = torch.randn(2, 3, 48, device=device)
    (found,) = torch.autograd.grad(layer(x), x, grad)
    torch.testing.assert_close(found, grad @ linear.weight, rtol=1e-5, atol=1e-5)
    getattr(layer, layer._operator.tensors[0]).requires_grad_(True)
    with pytest.raises(UsageError, match="cannot be trained"):
        layer(x)


@pytest.mark.parametrize("format", FORMATS)
def test_copies_state_dicts_and_pickles(pair: Any, format: str, device: torch.device) -> None:
    _, layer = pair(format, torch.float16)
    x = torch.randn(3, 32, device=device, dtype=torch.float16)
    expected = layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(layer)
    getattr(other, other.array_names[0]).zero_()
    state = torch.load(file, weights_only=True)
    assert state.keys() == {"weight", "bias"}
    other.load_state_dict(state)
    for found in (other, pickle.loads(pickle.dumps(layer))):
        assert torch.equal(found(x), expected)


@pytest.mark.parametrize("format", FORMATS)
def test_rejects_invalid_arguments(pair: Any, format: str, device: torch.device) -> None:
    _, layer = pair(format)
    with pytest.raises(UsageError, match="float32 like the weight, not float16"):
        layer(torch.zeros(3, 32, device=device, dtype=torch.float16))
    with pytest.raises(UsageError, match="float64"):
        layer(torch.zeros(3, 32, device=device, dtype=torch.float64))
    with pytest.raises(FormatError, match=r"\[\.\.\., 32\], not \[3, 31\]"):
        layer(torch.zeros(3, 31, device=device))
    with pytest.raises(FormatError, match=r"bias must be \[48\]"):
        TritonLinear(format, layer._operator.weight(*layer.tensors(), *layer.numbers), torch.zeros(3))
    with pytest.raises(UsageError, match="has no Triton kernel"):
        TritonLinear("two-four", layer._operator.weight(*layer.tensors(), *layer.numbers), None)
