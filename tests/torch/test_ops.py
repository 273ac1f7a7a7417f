from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.hf.quiet import quiet
from aerogel.torch import SparseLinear, ops

FORMATS = [("csr", (1, 1)), ("bsr", (4, 1)), ("bsr", (3, 2)), ("bsr", (1, 4))]
Factory = Callable[..., nn.Linear]


def arguments(layer: SparseLinear, x: torch.Tensor) -> tuple[object, ...]:
    return x, layer.data, layer.indices, layer.indptr, layer.bias, layer.in_features


def operator(layer: SparseLinear) -> Callable[..., torch.Tensor]:
    return ops.csr_linear if layer.format == "csr" else ops.bsr_linear


def bound(linear: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the exact product and the tolerance: 8 float32 epsilon times the product of absolute values."""
    weight, x = linear.weight.detach().double(), x.double()
    bias = torch.zeros(len(weight)).double() if linear.bias is None else linear.bias.detach().double()
    exact = nn.functional.linear(x, weight, bias)
    return exact, 8 * torch.finfo(torch.float32).eps * nn.functional.linear(x.abs(), weight.abs(), bias.abs())


@pytest.mark.parametrize(("format", "block"), FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(37,), (3, 5, 11), (0, 4), (), (1, 200)])
def test_against_float64(
    pruned_linear: Factory, format: str, block: tuple[int, int], bias: bool, shape: tuple[int, ...]
) -> None:
    linear = pruned_linear(60, 44, block=block, bias=bias)
    layer = SparseLinear.from_linear(linear, format=format, block=block)
    x = torch.randn(*shape, 44)
    y = layer(x)
    exact, tolerance = bound(linear, x)
    assert y.dtype == torch.float32
    assert y.shape == exact.shape
    assert y.is_contiguous()
    assert bool(((y.double() - exact).abs() <= tolerance).all())


@pytest.mark.parametrize(("format", "block"), FORMATS[:2])
def test_result_does_not_depend_on_the_number_of_threads(
    pruned_linear: Factory, monkeypatch: pytest.MonkeyPatch, format: str, block: tuple[int, int]
) -> None:
    layer = SparseLinear.from_linear(pruned_linear(256, 96, block=block), format=format, block=block)
    x = torch.randn(150, 96)
    monkeypatch.setattr(ops, "_GRAIN", 1)
    previous = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            assert ops.threads_for(layer.data.numel(), len(x)) == threads
            results.append(layer(x))
    finally:
        torch.set_num_threads(previous)
    assert all(torch.equal(result, results[0]) for result in results)


def test_small_products_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert ops.threads_for(0, 128) == 1
    assert ops.threads_for(14_746, 128) == 1  # MiniLM's 384 x 384 at 10%
    assert ops.threads_for(236_000, 128) == 7  # BERT-base's 3072 x 768 at 10%
    assert ops.threads_for(236_000, 4096) == 8


def test_layout_of_x_does_not_matter(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(6, 5)
    torch.testing.assert_close(layer(x.T), layer(x.T.contiguous()), rtol=0, atol=0)
    wide = torch.randn(5, 12)
    torch.testing.assert_close(layer(wide[:, ::2]), layer(wide[:, ::2].clone()), rtol=0, atol=0)
    torch.testing.assert_close(layer(x[:, :1].T.expand(4, 6)), layer(x[:, 0].repeat(4, 1)), rtol=0, atol=0)


def test_defaults_of_torch_do_not_matter(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(5, 6)
    expected = layer(x)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert torch.equal(layer(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_accumulated_in_float32(pruned_linear: Factory, dtype: torch.dtype) -> None:
    linear = pruned_linear(60, 44).to(dtype)
    layer = SparseLinear.from_linear(linear)
    assert layer.data.dtype == layer.bias.dtype == dtype
    x = torch.randn(7, 44).to(dtype)
    expected = nn.functional.linear(x.double(), linear.weight.double(), linear.bias.double())
    assert layer(x).dtype == dtype
    # One rounding to the result's dtype, and the error of float32 sums.
    torch.testing.assert_close(layer(x).double(), expected, rtol=torch.finfo(dtype).eps / 2, atol=1e-4)
    assert layer(x.float()).dtype == torch.float32
    torch.testing.assert_close(layer(x.float()).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("format", "block"), FORMATS[:2])
def test_operators_pass_opcheck(
    pruned_linear: Factory, format: str, block: tuple[int, int], bias: bool
) -> None:
    layer = SparseLinear.from_linear(pruned_linear(12, 8, block=block, bias=bias), format=format, block=block)
    x = torch.randn(3, 5, 8, requires_grad=not bias)
    with quiet():
        checks = torch.library.opcheck(operator(layer), arguments(layer, x))
    assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("format", "block"), FORMATS[:3])
def test_gradient_of_x(
    pruned_linear: Factory, format: str, block: tuple[int, int], dtype: torch.dtype
) -> None:
    linear = pruned_linear(12, 8, block=block).to(dtype)
    layer = SparseLinear.from_linear(linear, format=format, block=block)
    x = torch.randn(2, 3, 8, dtype=dtype, requires_grad=True)
    seed = torch.randn(2, 3, 12, dtype=dtype)
    (found,) = torch.autograd.grad(layer(x), x, seed)
    assert found.dtype == dtype
    exact = seed.double() @ linear.weight.double()
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("name", ["data", "bias"])
def test_weights_cannot_be_trained(pruned_linear: Factory, name: str) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    getattr(layer, name).requires_grad_()
    with pytest.raises(UsageError, match=r"csr_linear cannot be trained; .*densify"):
        layer(torch.randn(2, 6))
    with torch.no_grad():
        layer(torch.randn(2, 6))


def test_rejects_invalid_inputs(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6))
    x = torch.randn(2, 6)
    with pytest.raises(UsageError, match=r"not float64; convert it with x\.float\(\)"):
        layer(x.double())
    with pytest.raises(UsageError, match="not int64"):
        layer(x.long())
    for wrong in (torch.randn(2, 5), torch.randn(6, 2), torch.tensor(1.0)):
        with pytest.raises(FormatError, match=r"x must be \[\.\.\., 6\]"):
            layer(wrong)
    with pytest.raises(UsageError, match=r"dense tensors on the CPU, but x is on cpu \(torch\.sparse_coo"):
        layer(x.to_sparse())
    with pytest.raises(FormatError, match="bsr_linear: data must have 3 dimensions"):
        ops.bsr_linear(*arguments(layer, x))


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("indices", lambda t: t + 6, "outside \\[0, 6\\)"),
        ("indices", lambda t: t.int() - 9, "outside \\[0, 6\\)"),
        ("indices", lambda t: t.int().flip(0), "do not ascend|outside"),
        ("indices", lambda t: t.long(), "indices must be uint16 or int32"),
        ("indices", lambda t: t[:-1], "indices must be"),
        ("indptr", lambda t: t + 1, "indptr must run from 0"),
        ("indptr", lambda t: torch.cat([t[:1], t[-1:] * 1000, t[2:]]), "indptr falls or overruns"),
        ("indptr", lambda t: t.long(), "indptr must be int32"),
        ("data", lambda t: t.double(), r"SparseLinear: data must be .*, not float64; .*model\.float\(\)"),
        ("data", lambda t: t[:-1], "indices must be"),
        ("bias", lambda t: t[:-1], "bias must be float32"),
        ("bias", lambda t: t.double(), "SparseLinear: bias must be .*, not float64"),
    ],
)
def test_rejects_malformed_arrays(
    pruned_linear: Factory, name: str, broken: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    layer = SparseLinear.from_linear(pruned_linear(8, 6, density=0.6))
    # torch has few operations for uint16.
    layer.indices = layer.indices.int()
    setattr(layer, name, broken(getattr(layer, name)).contiguous())
    with pytest.raises((FormatError, UsageError), match=message):
        layer(torch.randn(2, 6))


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_compiles_in_one_graph(pruned_linear: Factory, backend: str) -> None:
    # Only Aerogel's operators, for which inductor needs no C++ compiler.
    model = nn.Sequential(
        SparseLinear.from_linear(pruned_linear(16, 8)),
        SparseLinear.from_linear(pruned_linear(8, 16, block=(4, 1)), format="bsr", block=(4, 1)),
    )
    try:
        with quiet(), torch.no_grad():
            compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
            for tokens in (3, 5):
                x = torch.randn(2, tokens, 8)
                assert torch.equal(compiled(x), model(x))
    finally:
        torch.compiler.reset()


def test_compiles_the_gradient(pruned_linear: Factory) -> None:
    layer = SparseLinear.from_linear(pruned_linear(16, 8))
    x = torch.randn(4, 8, requires_grad=True)
    try:
        with quiet():
            compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
            (found,) = torch.autograd.grad(compiled(x).square().sum(), x)
    finally:
        torch.compiler.reset()
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_torch_export(pruned_linear: Factory) -> None:
    model = nn.Sequential(SparseLinear.from_linear(pruned_linear(16, 8)), nn.ReLU())
    tokens = torch.export.Dim("tokens", min=2)
    with quiet():
        program = torch.export.export(model, (torch.randn(4, 8),), dynamic_shapes=({0: tokens},))
        x = torch.randn(9, 8)
        torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=0)
    assert any("aerogel.csr_linear" in str(node.target) for node in program.graph.nodes)
